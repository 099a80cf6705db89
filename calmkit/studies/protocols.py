"""protocols: which evaluation of each run a table is made of, so that what is ranked was measured alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calmkit.interfaces import KindWords
from calmkit.recipe.schema import DataSection, Evaluation
from calmkit.training.protocol import (
    EVALUATION,
    SCORED,
    Protocol,
    locked_data,
    other_evaluations,
    recorded,
)
from calmkit.training.run import Run

NAMED = 4  # runs of a sentence, at most


@dataclass(frozen=True)
class Measured:
    """An evaluation of a run: the name of its file, and how it was measured."""

    file: str
    protocol: Protocol


def evaluations_of(run: Run, recipe: Mapping[str, str], words: KindWords) -> tuple[Measured, ...]:
    """All evaluations of a run that say how they were measured, and first of all its own.

    Args:
        run: Trained and measured.
        recipe: Its resolved recipe, dotted key -> value as text.
        words: Of its kind of data.
    """
    own = Measured(EVALUATION, protocol_in(run, run.evaluation, recipe, words))
    others = other_evaluations(run.folder).items()
    return own, *(Measured(name, one.of_kind(words)) for name, one in others)


def protocol_in(
    run: Run, evaluation: Mapping[str, Any], recipe: Mapping[str, str], words: KindWords
) -> Protocol:
    """What an evaluation says of itself; of an older one, which says nothing, what its numbers leave no doubt
    of: that it was measured as its recipe says, or on as many rows.
    """
    said = recorded(evaluation)
    if said is not None:
        return said.of_kind(words)
    elements = float(recipe.get("data.sequence_length", DataSection().sequence_length or 0))
    elements = evaluation.get(f"block_{words.length}", elements)
    rows = int(recipe.get("evaluation.max_rows", Evaluation().max_rows))
    draws = int(recipe.get("evaluation.draws", Evaluation().draws))
    # untrained scores were left out where it was measured in another way
    as_recipe = any(name.startswith("untrained_") for name in evaluation)
    known = as_recipe or evaluation.get("rows") == rows
    return Protocol(
        data=locked_data(run),
        sequence_length=int(elements) if words.length else None,
        max_rows=rows if known else None,
        draws=draws if as_recipe else None,
    ).of_kind(words)


def some_runs(folders: Sequence[Path]) -> str:
    """A few of their names."""
    more = [f"{len(folders) - NAMED} more"] if len(folders) > NAMED else []
    return ", ".join([*map(str, folders[:NAMED]), *more])


def warnings_of_protocols(measured: Mapping[Path, Measured]) -> list[str]:
    """What a reader must know of how the runs were measured, before any number is compared."""
    protocols = [one.protocol for one in measured.values()]
    found = []
    names = list(dict.fromkeys(one.scores for one in protocols))
    if not all(one.agrees(other, SCORED) for one in protocols for other in protocols):
        found.append(
            f"Not measured alike ({', '.join(names)}): nothing is ranked, and no difference taken, but among "
            "those that were."
        )
    unknown = [path for path, one in measured.items() if not one.protocol.known(SCORED)]
    if unknown and len(measured) > 1:
        found.append(
            f"How {some_runs(unknown)} {'was' if len(unknown) == 1 else 'were'} measured is known in part "
            "only: `calmkit eval RUN` measures a run anew."
        )
    for field, told in (
        ("precision", "Scores were computed in different precisions ({}), which may move them a little."),
        ("device", "Speeds were measured on different kinds of device ({}) and don't compare."),
    ):
        values = sorted({str(value) for one in protocols if (value := getattr(one, field)) is not None})
        if len(values) > 1:
            found.append(told.format(", ".join(values)))
    return found


def measured_alike(cells: Sequence[dict[str, Any]]) -> list[tuple[Protocol, list[dict[str, Any]]]]:
    """Cells of results in groups whose scores mean the same; one without a finished trial joins the first.

    A trial of results says by its `protocol` how it was measured.
    """
    groups: list[tuple[Protocol, list[dict[str, Any]]]] = []
    for cell in cells:
        said = [recorded(trial) for trial in cell["trials"] if trial["state"] == "done"]
        protocol = next((one for one in said if one is not None), Protocol())
        for number, (other, group) in enumerate(groups):
            if protocol.agrees(other, SCORED):
                groups[number] = other.filled(protocol), [*group, cell]
                break
        else:
            groups.append((protocol, [cell]))
    return groups


def told_protocols(groups: Sequence[tuple[Protocol, Sequence[Mapping[str, Any]]]]) -> list[dict[str, Any]]:
    """As plain values for `results.json`: name, words, and the labels of the cells."""
    return [
        {"name": protocol.scores, "told": protocol.told(), "cells": [cell["label"] for cell in cells]}
        for protocol, cells in groups
        if protocol != Protocol()
    ]
