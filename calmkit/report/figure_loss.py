"""Losses on the way: on the batches that a model learns from, and on held-out data; a panel per model."""

from __future__ import annotations

from typing import Any

from calmkit.report.figures import (
    FAINT,
    Drawn,
    colour_and_marker,
    legend_below,
    make_figure,
    panel_title,
)
from calmkit.report.kind import words_of
from calmkit.report.reading import Cell, Summary, done, ranked

COLUMNS = 2
BEGINNING = 0.1  # of a training: how far a loss fell there says little, and would press the rest together
MARKED = 8  # points of a line that carry a marker, at most


def loss_figure(summary: Summary) -> Drawn | None:
    """A panel per model that wrote its loss down; None where none did."""
    cells = [cell for cell in ranked(summary) if any(map(_points, _losses(cell)))]
    if not cells:
        return None
    from matplotlib.lines import Line2D

    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    figure = make_figure(1.75 * rows + 0.4, len(cells), columns)
    for number, (axes, cell) in enumerate(zip(figure.axes, cells, strict=True)):
        _draw(axes, summary, cell)
        panel_title(axes, cell["label"], columns)
        if number >= len(cells) - columns:
            axes.set_xlabel("steps")
    lines = [
        Line2D([], [], color="black", alpha=0.4),
        Line2D([], [], color="black", marker="o", markersize=4),
    ]
    data = words_of(summary).data
    legend_below(figure, lines, ["training batches", f"held-out {data}"])
    several = " A line per seed." if any(len(done(cell)) > 1 for cell in cells) else ""
    caption = (
        "Each head's own loss in its own unit, so panels are not to be compared; the first tenth may leave "
        f"its panel.{several} Where the loss on held-out {data} rises while that on training batches "
        f"falls, a model learns its {data} by heart."
    )
    return Drawn("Loss", caption, figure)


def _losses(cell: Cell) -> list[dict[str, list[list[float]]]]:
    return [trial["losses"] for trial in done(cell) if trial.get("losses")]


def _points(losses: dict[str, list[list[float]]]) -> list[list[float]]:
    return [*losses["training"], *losses["held_out"]]


def _draw(axes: Any, summary: Summary, cell: Cell) -> None:
    from matplotlib.ticker import MaxNLocator

    colour, marker = colour_and_marker(summary, cell["label"])
    for losses in _losses(cell):
        if losses["training"]:
            axes.plot(*zip(*losses["training"], strict=True), color=colour, alpha=0.4, linewidth=1.0)
        if held := losses["held_out"]:
            every = max(1, -(-len(held) // MARKED))
            axes.plot(*zip(*held, strict=True), color=colour, marker=marker, markersize=4, markevery=every)
    axes.set_ylim(*limits([point for losses in _losses(cell) for point in _points(losses)]))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="y", **FAINT)


def limits(points: list[list[float]]) -> tuple[float, float]:
    """Around all losses after the beginning."""
    last = max(step for step, _ in points)
    later = [loss for step, loss in points if step >= BEGINNING * last]
    low, high = min(later), max(later)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room
