"""The laws of the rows that a kind of data gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import Batch, DataKind
from calmkit.model import CalmModel
from calmkit.recipe.schema import Recipe
from calmkit.testing import laws
from calmkit.testing.laws import Subject

BATCHES = "rows come as batches, and none is empty"
UNITS = "a row has num_units units"
MASKS = "valid and predict are true or false for each unit, and some count"
GROUPS = "groups are whole numbers for each unit, the same in every batch"
CONDITIONS = "a condition has one value for each row"
SEED = "the same seed gives the same batches"
RESUMES = "training goes on behind the rows that were seen, without an end"
HELD_OUT = "held-out rows are those of all processes, at most as many as are asked for"

FEW = 3
"""Batches of training that are looked at."""

ENDLESS = 7
"""Epochs that are over when it is seen whether training still goes on."""


def check_rows(
    part: Subject, kind: DataKind, recipe: Recipe, model: CalmModel, rows: Callable[[], Any]
) -> None:
    """Hold the rows of a kind of data to their contract.

    Laws: rows come as batches, of training as many as the stage says; training never ends, and goes on behind
    the rows that were seen as if it had seen them; a row has `num_units` units, and as
    many posteriors; `valid`, `predict` and `group` say something of each of them, conditions of each row;
    the same seed gives the same batches; `all_val_dataloader` gives the held-out rows of all processes,
    of which there are no more than `max_rows`.

    Args:
        part: The kind of data.
        kind: An instance of it.
        recipe: Says how many rows.
        model: Of the recipe.
        rows: Makes the datamodule anew.

    Raises:
        AssertionError: Naming kind, law and what was seen.
    """
    stage = recipe.stages.lm
    assert stage is not None
    with part.under(BATCHES):
        train = _batches(part, islice(rows().train_dataloader(), FEW))
        held_out = _batches(part, rows().val_dataloader())
        sizes = {len(batch) for batch in train}
        seen = f"batch_size is {stage.batch_size}, and batches have {sorted(sizes)} rows"
        part.require(sizes == {stage.batch_size}, BATCHES, seen)
    units = kind.num_units(recipe, model.autoencoder)
    for batch in (train[0], held_out[0], held_out[-1]):
        _check_units(part, batch, units, model)
        _check_beside(part, batch, model)
    with part.under(SEED):
        _same(part, SEED, train, _batches(part, islice(rows().train_dataloader(), FEW)))
    with part.under(RESUMES):
        data = rows()
        data.begin(stage.batch_size)
        _same(part, RESUMES, train[1:], _batches(part, islice(data.train_dataloader(), FEW - 1)))
        _same(part, RESUMES, train[1:2], [data.rows_at(stage.batch_size, stage.batch_size)])
        once = sum(len(batch) for batch in data.first_epoch())
        data.begin(ENDLESS * once)
        part.require(len(_batches(part, islice(data.train_dataloader(), 1))) == 1, RESUMES, "training ends")
    with part.under(HELD_OUT):
        _same(part, HELD_OUT, held_out, _batches(part, rows().all_val_dataloader()))
        count, most = sum(len(batch) for batch in held_out), recipe.evaluation.max_rows
        part.require(count <= most, HELD_OUT, f"{count} rows, asked for were {most}")


def _batches(part: Subject, loader: Iterable[Any]) -> list[Batch]:
    found = list(loader)
    part.require(found, BATCHES, "a loader gives none")
    for batch in found:
        part.require(isinstance(batch, Batch), BATCHES, f"one is a {type(batch).__name__}, no Batch")
    return found


@laws.law(UNITS)
def _check_units(part: Subject, batch: Batch, units: int, model: CalmModel) -> None:
    shape, wanted = tuple(batch.valid.shape), (len(batch.data), units)
    part.require(shape == wanted, UNITS, f"valid has shape {shape}, and there are {wanted} rows and units")
    mean = model.autoencoder.encode(batch.data).mean
    values = (*wanted, *model.autoencoder.event.shape)
    seen = f"the autoencoder gives values of shape {tuple(mean.shape)}, not {values}"
    part.require(mean.shape == values, UNITS, seen)


@laws.law(MASKS)
def _check_beside(part: Subject, batch: Batch, model: CalmModel) -> None:
    for name, mask in (("valid", batch.valid), ("predict", batch.predict)):
        good = mask is None or (mask.dtype == torch.bool and mask.shape == batch.valid.shape)
        part.require(good, MASKS, f"{name} is {_told(mask)}, valid {_told(batch.valid)}")
    part.require(batch.counted.any(), MASKS, "no unit of a batch counts")
    group = batch.group
    if group is not None:
        whole = not (group.is_floating_point() or group.dtype == torch.bool)
        good = whole and group.shape == batch.valid.shape and bool((group[batch.valid] >= 0).all())
        part.require(good, GROUPS, f"group is {_told(group)}, valid {_told(batch.valid)}, or below 0")
    for name, value in batch.condition.items():
        seen = f"'{name}' is {_told(value)} for {len(batch)} rows"
        part.require(value.shape[:1] == (len(batch),), CONDITIONS, seen)
    if model.conditioner is not None:
        lacking = [name for name in model.conditioner.reads if name not in batch.condition]
        part.require(not lacking, CONDITIONS, f"the conditioner reads {lacking}, which batches lack")


def _same(part: Subject, law: str, left: list[Batch], right: list[Batch]) -> None:
    part.require(len(left) == len(right), law, f"{len(left)} batches, and {len(right)} the second time")
    for number, (mine, theirs) in enumerate(zip(left, right, strict=True)):
        for name, value in _tensors(mine).items():
            other = _tensors(theirs).get(name)
            same = other is not None and value.shape == other.shape and torch.equal(value, other)
            part.require(same, law, f"{name} of batch {number} differs")


def _tensors(batch: Batch) -> dict[str, Tensor]:
    found = {"data": batch.data, "valid": batch.valid, "predict": batch.predict, "group": batch.group}
    return {name: value for name, value in found.items() if value is not None} | dict(batch.condition)


def _told(value: Tensor | None) -> str:
    return "None" if value is None else f"{value.dtype} of shape {tuple(value.shape)}"
