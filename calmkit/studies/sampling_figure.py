"""The table and the figure of a study's samplers: accuracy against collision, and what each costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from calmkit.studies.figures import as_svg, colour_and_marker, make_figure
from calmkit.studies.sampling import Row, family, moving_value

LINES = ("-", "--", ":", "-.")
MARKERS = "osD^vP*X"
HEADS = (
    "model", "sampler", "accuracy %", "+-", "collision %", "+-", "BrierLM", "draws/unit", "head calls/unit",
    "mean level", "fell back %",
)  # fmt: skip


def sampling_table(result: dict[str, Any]) -> dict[str, Any]:
    """`heads`, `rows` of texts, and `notes`: what was left out, and how many units were measured."""
    return {"heads": list(HEADS), "rows": [_texts(row) for row in result["rows"]], "notes": _notes(result)}


def sampling_text(result: dict[str, Any]) -> list[str]:
    """The table in lines of plain text."""
    table = sampling_table(result)
    rows = [table["heads"], *table["rows"]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADS))]
    lines = ["Samplers: accuracy and collision, geometric means over the first 1 to 4 tokens"]
    for row in rows:
        padded = [
            text.ljust(width) if i < 2 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return lines + table["notes"]


def sampling_figure(summary: dict[str, Any]) -> str:
    """Inline SVG: a line per family of settings, a colour per cell, a marker per sampler."""
    rows = summary["sampling"]["rows"]
    lines = _lines(rows)
    figure = make_figure((6.4, 4.0 + 0.19 * len(lines)))  # the legend stands below, a line each
    (axes,) = figure.axes
    names = list(dict.fromkeys(row["name"] for row in rows))
    seen: dict[tuple[str, str], int] = {}
    for key, (moving, members) in lines.items():
        cell, name = key[0], key[1]
        colour, _ = colour_and_marker(summary, cell)
        style = LINES[seen.setdefault((cell, name), 0) % len(LINES)]
        seen[cell, name] += 1
        x, y = ([row[what] for row in members] for what in ("collision", "accuracy"))
        label = f"{cell}: {' '.join(key[1:])}" + (f", by {moving}" if moving and len(members) > 1 else "")
        marker = MARKERS[names.index(name) % len(MARKERS)]
        axes.plot(x, y, style, color=colour, marker=marker, markersize=5, linewidth=1.2, label=label)
        for row in {id(members[0]): members[0], id(members[-1]): members[-1]}.values():
            if len(members) > 1:
                text = "unset" if moving_value(row, moving) is None else f"{moving_value(row, moving):.3g}"
                at = (row["collision"], row["accuracy"])
                axes.annotate(text, at, (4, 4), textcoords="offset points", fontsize=7)
    axes.set_xlabel("collision in percent (how often two draws agree)")
    axes.set_ylabel("accuracy in percent")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8, loc="outside lower left")
    return as_svg(figure)


def _lines(rows: list[Row]) -> dict[tuple[Any, ...], tuple[str, list[Row]]]:
    """The rows of each line in the order of its moving setting."""
    lines: dict[tuple[Any, ...], tuple[str, list[Row]]] = {}
    for row in rows:
        key, moving = family(row, rows)
        lines.setdefault(key, (moving, []))[1].append(row)
    return {key: (moving, sorted(members, key=_place(moving))) for key, (moving, members) in lines.items()}


def _place(moving: str) -> Callable[[Row], float]:
    def place(row: Row) -> float:
        value = moving_value(row, moving)
        return 1.0 if value is None else value  # what a temperature is where nobody sets it

    return place


def _texts(row: Row) -> list[str]:
    calls = row["network_calls_per_unit"]
    return [
        row["cell"],
        row["sampler"],
        f"{row['accuracy']:.2f}",
        _or_dash(row["accuracy_se"]),
        f"{row['collision']:.2f}",
        _or_dash(row["collision_se"]),
        f"{row['brier_lm']:.2f}",
        f"{row['draws_per_unit']:.1f}",
        "adaptive" if calls is None else f"{calls:.1f}",
        _or_dash(row["mean_level"]),
        f"{100 * row['fallback_share']:.1f}",
    ]


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _notes(result: dict[str, Any]) -> list[str]:
    units = sorted({row["units"] for row in result["rows"]})
    lines = [f"{' or '.join(map(str, units))} held-out units per line; +- is one standard error over rows."]
    lines += [f"Left out: {one['sampler']} for {one['cell']}: {one['why']}." for one in result["left_out"]]
    return lines
