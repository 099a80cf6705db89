"""measures: what a recipe asks to be measured beside all that every evaluation holds.

They see the held-out rows in a pass of their own, each on random numbers of its own, so that asking for one
changes no other number. One that a model can't be taken by is left out with a sentence, and so is a guest's
that fails, or whose number is none (NaN): the other numbers stay.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, final

import lightning.pytorch as pl
import torch
from torch import Tensor

from calmkit.interfaces import Backbone, Batch, HeldOutMeasure, UnitwiseAutoencoder, stored_name
from calmkit.metrics.unit_means import GroupSums
from calmkit.model import CalmModel
from calmkit.recipe.parts import build_metrics
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.training.callbacks import RowsProgress
from calmkit.training.groups import write_sums
from calmkit.training.measuring import Measuring
from calmkit.training.progress import Progress
from calmkit.training.stages import RANK_STRIDE
from calmkit.training.trainer import interrupts, make_trainer

SETTINGS = "settings"


@final
@dataclass
class Asked:
    """What the measures of a recipe gave.

    Attributes:
        scores: Stored name -> number, and `<measure>_settings`, what it was measured with.
        per_group: Measure -> its keys and its sums by group, where it has any (`UnitMeans`).
        notes: What was left out and why, a sentence each.
    """

    scores: dict[str, Any] = field(default_factory=dict)
    per_group: dict[str, tuple[tuple[str, ...], Tensor]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def beside(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        """Other scores and these; of a name that both have the other's number stays, and a note says so."""
        free = {name: value for name, value in self.scores.items() if name not in scores}
        self.notes += [
            f"'{name}' of a metric is left out: every evaluation holds a number of that name"
            for name in self.scores
            if name not in free
        ]
        return {**scores, **free}

    def write_groups(self, evaluation: Path, group: str, keep: Collection[str] = ()) -> None:
        """The tables by group beside an evaluation's file; what an earlier evaluation left goes, except those
        of the measures to keep. `group` is the word of their kind of data for one.
        """
        write_sums(evaluation, group, self.per_group, keep)


def asked_measures(
    recipe: Recipe,
    manager: Manager,
    model: CalmModel,
    data: pl.LightningDataModule,
    progress: Progress | None = None,
) -> Asked:
    """Take the measures of `evaluation.metrics` on the held-out rows of `data`; every process must call it.
    `progress`, if any, is told how far that is.

    torch's CPU generator is left as it was.

    Raises:
        RecipeError: One refuses its settings.
    """
    found = Asked()
    fit = _fitting(recipe, manager, model, found.notes)
    if not fit:
        return found
    shown = RowsProgress(progress or Progress.silent(), "metrics")
    module = _Measuring(model, fit, recipe.evaluation.draws, recipe.seed)
    with torch.random.fork_rng(devices=[]), interrupts():
        make_trainer(recipe, callbacks=[shown]).validate(
            module, dataloaders=None, datamodule=data, verbose=False
        )
    measuring = module.measuring
    found.notes += [f"metric '{name}' is left out: {why}" for name, why in measuring.failed.items()]
    for name, numbers in measuring.numbers.items():
        found.scores |= {stored_name(name, key): value for key, value in numbers.items()}
        options = next(spec.options for spec in recipe.evaluation.metrics if spec.name == name)
        if options:
            told = ", ".join(f"{key}={value}" for key, value in options.items())
            found.scores[stored_name(name, SETTINGS)] = told
        metric = measuring.metric_of(name)
        if isinstance(metric, GroupSums) and metric.per_group is not None:
            found.per_group[name] = (metric.keys, metric.per_group)
    return found


def measures_on_the_way(recipe: Recipe, manager: Manager, model: CalmModel) -> Measuring | None:
    """Those of `evaluation.metrics` that are taken at every validation too; None where there are none.

    Raises:
        RecipeError: One refuses its settings.
    """
    fit = _fitting(recipe, manager, model, [])
    cheap = {name: measure for name, measure in fit.items() if measure.info.on_the_way}
    return Measuring(cheap, recipe.evaluation.draws) if cheap else None


def _fitting(
    recipe: Recipe, manager: Manager, model: CalmModel, notes: list[str]
) -> dict[str, HeldOutMeasure]:
    """Those of a recipe that the model can be measured by; `notes` takes a sentence for each other one."""
    fit: dict[str, HeldOutMeasure] = {}
    for name, measure in build_metrics(recipe, manager).items():
        why = measure.info.why_not(model.head, model.event.kind) or _why_not_held(model)
        if why:
            notes.append(f"metric '{name}' is left out: {why}")
        else:
            fit[name] = measure
    return fit


def _why_not_held(model: CalmModel) -> str:
    """Why no measure of single held-out units can be taken; empty where it can."""
    if not isinstance(model.autoencoder, UnitwiseAutoencoder):
        return "it is of single units, and the autoencoder decodes whole rows only"
    if not isinstance(model.backbone, Backbone):
        return "it is of units given those before them, and the backbone reads them in any order"
    return ""


@final
class _Measuring(pl.LightningModule):
    """One pass over held-out rows for several measures."""

    def __init__(
        self, model: CalmModel, measures: Mapping[str, HeldOutMeasure], draws: int, seed: int
    ) -> None:
        super().__init__()
        self.model, self.seed = model, seed
        self.measuring = Measuring(measures, draws)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Show a batch to the measures."""
        seed = self.seed + RANK_STRIDE * self.global_rank + batch_idx
        self.measuring.update(self.model, batch, seed, self.device)

    def on_validation_epoch_end(self) -> None:
        """Compute, over all processes."""
        self.measuring.compute(partial(self.trainer.strategy.reduce, reduce_op="sum"), self.device)
