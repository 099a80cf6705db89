"""Pictures of latents, one series or one panel per autoencoder: scales, KL, robustness, a projection."""

from __future__ import annotations

from typing import Any

from calmkit.report.figure_labels import label_points
from calmkit.report.figures import (
    FAINT,
    Drawn,
    colour_and_marker,
    legend_below,
    make_figure,
    panel_title,
    shown,
)
from calmkit.report.kind import words_of
from calmkit.report.latent_table import Latents, distinct_latents
from calmkit.report.reading import Summary

COLUMNS = 2
NAMED = 12  # units of a projection whose text is written, if there is room


def scales_figure(summary: Summary) -> Drawn | None:
    """Of each dimension: how far the means spread, and how wide a posterior is."""
    found = distinct_latents(summary)
    if not found:
        return None
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    figure = _panels(found, 2.0)
    for axes, one in zip(figure.axes, found, strict=True):
        colour, _ = colour_and_marker(summary, one.cells[0])
        spread, width = one.found["mean_std_per_dim"], one.found.get("posterior_std_per_dim")
        order = sorted(range(len(spread)), key=lambda d: -spread[d])
        x = range(1, len(order) + 1)
        axes.plot(x, [spread[d] for d in order], color=colour)
        if width:
            axes.plot(x, [width[d] for d in order], color="black", linestyle=":", linewidth=1.3)
        axes.set_ylim(bottom=0)
        axes.set_xlim(0.5, len(order) + 0.5)
        axes.set_xlabel("dimension, sorted")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(axis="y", **FAINT)
    lines = [Line2D([], [], color="black"), Line2D([], [], color="black", linestyle=":")]
    legend_below(figure, lines, ["spread of the means", "width of a posterior"])
    caption = (
        "Latent units. Where the spread of the means is far above the width, a dimension tells "
        f"{words_of(summary).unit}s apart; where it lies under it, the dimension says next to nothing."
    )
    return Drawn("Posterior scales", caption, figure)


def kl_figure(summary: Summary) -> Drawn | None:
    """KL of each dimension, sorted; None where every autoencoder gives points."""
    found = [one for one in distinct_latents(summary) if one.found.get("kl_per_dim")]
    if not found:
        return None
    from matplotlib.ticker import MaxNLocator

    figure = make_figure(2.7)
    (axes,) = figure.axes
    handles, labels = [], []
    for one in found:
        colour, marker = colour_and_marker(summary, one.cells[0])
        values = sorted(one.found["kl_per_dim"], reverse=True)
        every = max(1, len(values) // 8)
        x = range(1, len(values) + 1)
        handles += axes.plot(x, values, color=colour, marker=marker, markersize=4.5, markevery=every)
        labels.append(f"{one.label}: {one.found['active_dims']} of {len(values)} active")
    axes.set_ylim(0, 1.08 * max(max(one.found["kl_per_dim"]) for one in found) or 1.0)
    axes.grid(axis="y", **FAINT)
    axes.set_xlabel("dimension, sorted")
    axes.set_ylabel("KL to N(0, 1), nats")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend_below(figure, handles, labels)
    unit = words_of(summary).unit
    caption = f"What each dimension may say of its {unit}. Active: its mean has a variance above 0.01."
    return Drawn("Active dimensions", caption, figure)


def robustness_figure(summary: Summary) -> Drawn | None:
    """What comes back when latents are disturbed."""
    found = distinct_latents(summary)
    if not found:
        return None
    words = words_of(summary)
    figure = make_figure(2.7)
    (axes,) = figure.axes
    handles = []
    for one in found:
        colour, marker = colour_and_marker(summary, one.cells[0])
        x = [point["scale"] for point in one.found["robustness"]]
        y = [100 * point[f"{words.element}_accuracy"] for point in one.found["robustness"]]
        handles += axes.plot(x, y, color=colour, marker=marker, markersize=4)
    axes.set_ylim(0, 102)
    axes.set_xlim(left=0)
    axes.grid(axis="y", **FAINT)
    axes.set_xlabel("noise, in units of each dimension's spread")
    axes.set_ylabel(f"{words.element}s that come back, %")
    legend_below(figure, handles, [one.label for one in found])
    caption = (
        f"How far a head may miss a latent before its {words.data} is lost. At 1 there is as much noise as "
        "signal."
    )
    return Drawn("Robustness to noise", caption, figure)


def projection_figure(summary: Summary) -> Drawn | None:
    """The means of some units on their first two principal components, a few with their text."""
    found = distinct_latents(summary)
    if not found:
        return None
    figure = _panels(found, 2.3 if len(found) > 1 else 3.8)
    for axes, one in zip(figure.axes, found, strict=True):
        colour, _ = colour_and_marker(summary, one.cells[0])
        points = [(point["x"], point["y"]) for point in one.found["projection"]]
        x, y = zip(*points, strict=True)
        axes.scatter(x, y, s=9, color=colour, alpha=0.55, linewidths=0)
        axes.margins(0.12)
        axes.set_aspect("equal", adjustable="datalim")  # a distance is one in every direction
        first, second = one.found["projection_variance"]
        axes.set_xlabel(f"{100 * first:.0f} % of the variance")
        axes.set_ylabel(f"{100 * second:.0f} %")
        axes.set_xticks([])
        axes.set_yticks([])
    figure.draw_without_rendering()  # all panels have their places before any text is put beside a point
    for axes, one in zip(figure.axes, found, strict=True):
        points = [(point["x"], point["y"]) for point in one.found["projection"]]
        picks = far_apart(points, NAMED)
        texts = [shown(visible(one.found["projection"][i]["text"])) for i in picks]
        label_points(
            axes, [points[i] for i in picks], texts, must=False, size=8.5, around=[[p, p] for p in points]
        )
    caption = (
        f"Posterior means of some held-out {words_of(summary).unit}s on their first two principal "
        "components, a few with their "
        "text (␣ a space, ⏎ a line's end). The shares say how little of the latent two axes can show."
    )
    return Drawn("Projection", caption, figure)


def far_apart(points: list[tuple[float, float]], num: int) -> list[int]:
    """Numbers of points, each the one farthest from all before it; the first is farthest from the centre."""
    if not points:
        return []
    centre = tuple(sum(values) / len(points) for values in zip(*points, strict=True))

    def apart(one: Any, other: Any) -> float:
        return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2

    picks = [max(range(len(points)), key=lambda i: apart(points[i], centre))]
    near = [apart(point, points[picks[0]]) for point in points]
    while len(picks) < num and max(near) > 0:
        picks.append(near.index(max(near)))
        near = [min(old, apart(point, points[picks[-1]])) for old, point in zip(near, points, strict=True)]
    return picks


def visible(text: str) -> str:
    """A unit's text with signs for what cannot be seen."""
    for hidden, sign in ((" ", "\u2423"), ("\n", "\u23ce"), ("\t", "\u21e5")):
        text = text.replace(hidden, sign)
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _panels(found: list[Latents], height: float) -> Any:
    columns = min(COLUMNS, len(found))
    rows = -(-len(found) // columns)
    figure = make_figure(height * rows + 0.5, len(found), columns)
    for axes, one in zip(figure.axes, found, strict=True):
        panel_title(axes, one.label, columns)
    return figure
