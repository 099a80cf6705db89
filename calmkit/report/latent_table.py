"""The autoencoders of a study, each once, and the table of what their latents are like."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from calmkit.interfaces import KindWords
from calmkit.report.kind import words_of
from calmkit.report.reading import Summary, done
from calmkit.report.render import Grid


@dataclass(frozen=True)
class Latents:
    """An autoencoder that one or more cells are built on.

    Attributes:
        label: The cells.
        seed: Of the trial that it was taken from: the first that is done.
        size: The fact that stands beside a model's name; empty where there is none.
        found: What the kind of data keeps in `latents.json`: of shares, `<element>_accuracy` and
            `<unit>_accuracy`.
    """

    label: str
    cells: tuple[str, ...]
    seed: int
    size: str
    found: dict[str, Any]


def distinct_latents(summary: Summary) -> list[Latents]:
    """One per autoencoder, in the order of the cells; cells that share one are named together."""
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for cell in summary["cells"]:
        trial = next((trial for trial in done(cell) if trial.get("latents")), None)
        if trial is not None:
            key = json.dumps(trial["latents"], sort_keys=True)
            groups.setdefault(key, []).append((cell["label"], trial))
    found = []
    for members in groups.values():
        labels = tuple(label for label, _ in members)
        trial = members[0][1]
        shown = ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
        found.append(Latents(shown, labels, trial["seed"], _size(summary, trial), trial["latents"]))
    return found


def latent_grid(summary: Summary) -> Grid | None:
    """One row per autoencoder; None where no cell has one whose latents were looked at."""
    found = distinct_latents(summary)
    if not found:
        return None
    words = words_of(summary)
    element, unit = f"{words.element}s", f"{words.unit}s"
    heads = ["autoencoder of", *([words.size.head] if words.size else []), "D", "active", "KL nats", "width"]
    heads += [f"{element} back %", f"{unit} back %", "noise to 99 %", "to 50 %", "strangers %"]
    notes = [
        f"Seed {found[0].seed}. Active: dimensions whose mean has a variance above 0.01 over {unit}. Width: "
        "mean standard deviation of a posterior. Back: through one draw of the posterior. Noise to 99 % and "
        f"to 50 %: how much, in units of each dimension's spread, leaves that share of the {element}. "
        f"Strangers: {element} on a straight line between two {unit} that are neither's."
    ]
    return Grid("What the latents are like", heads, [_texts(one, words) for one in found], 1, notes)


def _size(summary: Summary, trial: dict[str, Any]) -> str:
    shown = words_of(summary).size
    return "" if shown is None else str(trial[shown.name])


def _texts(one: Latents, words: KindWords) -> list[str]:
    def text(name: str, digits: int, factor: float = 1.0) -> str:
        value = one.found.get(name)
        return "-" if value is None else f"{factor * value:.{digits}f}"

    dims = one.found["active_dims"] + one.found["collapsed_dims"]
    return [
        one.label,
        *([one.size] if words.size else []),
        str(dims),
        text("active_dims", 0),
        text("kl", 1),
        text("posterior_std", 3),
        text(f"{words.element}_accuracy", 2, 100.0),
        text(f"{words.unit}_accuracy", 2, 100.0),
        text("tolerance_99", 2),
        text("tolerance_50", 2),
        text("path_strangers", 1, 100.0),
    ]
