"""measures: what a recipe asks to be measured beside all that every evaluation holds.

They see the held-out rows in a pass of their own, each on random numbers of its own, so that asking for one
changes no other number. One that a model can't be taken by is left out with a sentence, and so is a guest's
that fails, or whose number is none (NaN): the other numbers stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, final

import lightning.pytorch as pl
import torch
import torchmetrics
from torch import Tensor

from calmkit.generation import SeededRandomness
from calmkit.interfaces import Backbone, Batch, HeldOutMeasure, MeasureInfo, UnitwiseAutoencoder, stored_name
from calmkit.metrics.held_out import held_out
from calmkit.metrics.unit_means import UnitMeans
from calmkit.model import CalmModel
from calmkit.recipe.parts import build_metrics
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.training.callbacks import RowsProgress
from calmkit.training.groups import write_sums
from calmkit.training.progress import Progress
from calmkit.training.stages import RANK_STRIDE
from calmkit.training.trainer import interrupts, make_trainer

DRAWS_APART, OWN_APART = 15_485_863, 32_452_843
"""Between the seeds of a kind's draws, of those that measures share, and of a measure's own randomness."""

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
    found, fit = Asked(), dict[str, HeldOutMeasure]()
    for name, measure in build_metrics(recipe, manager).items():
        why = measure.info.why_not(model.head, model.event.kind) or _why_not_held(model)
        if why:
            found.notes.append(f"metric '{name}' is left out: {why}")
        else:
            fit[name] = measure
    if not fit:
        return found
    shown = RowsProgress(progress or Progress.silent(), "metrics")
    module = _Measuring(model, fit, recipe.evaluation.draws, recipe.seed)
    with torch.random.fork_rng(devices=[]), interrupts():
        make_trainer(recipe, callbacks=[shown]).validate(
            module, dataloaders=None, datamodule=data, verbose=False
        )
    found.notes += [f"metric '{name}' is left out: {why}" for name, why in module.failed.items()]
    for name, numbers in module.numbers.items():
        found.scores |= {stored_name(name, key): value for key, value in numbers.items()}
        options = next(spec.options for spec in recipe.evaluation.metrics if spec.name == name)
        if options:
            told = ", ".join(f"{key}={value}" for key, value in options.items())
            found.scores[stored_name(name, SETTINGS)] = told
        metric = module.metric_of(name)
        if isinstance(metric, UnitMeans) and metric.per_group is not None:
            found.per_group[name] = (metric.keys, metric.per_group)
    return found


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
        self.model, self.measures, self.draws, self.seed = model, measures, draws, seed
        self.failed: dict[str, str] = {}
        self.numbers: dict[str, dict[str, float]] = {}
        self._metrics = torch.nn.ModuleDict()
        for name, measure in measures.items():
            self._guarded(name, partial(self._make, name, measure))

    def metric_of(self, name: str) -> torchmetrics.Metric:
        """The accumulator of a measure."""
        metric = self._metrics[f"of_{name}"]
        assert isinstance(metric, torchmetrics.Metric)
        return metric

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Show a batch to every measure that has not failed."""
        seed = self.seed + RANK_STRIDE * self.global_rank + batch_idx
        held = held_out(self.model, batch, num_draws=self.draws, seed=seed + DRAWS_APART)
        if held is None:
            return
        for name, measure in self.measures.items():
            if name not in self.failed:
                with SeededRandomness(seed + OWN_APART, self.device).borrowed():
                    self._guarded(name, partial(measure.update, self.metric_of(name), held))

    def on_validation_epoch_end(self) -> None:
        """Compute, over all processes; none waits for another in which the measure failed."""
        for name, measure in self.measures.items():
            here = torch.tensor(float(name in self.failed), device=self.device)
            if float(self.trainer.strategy.reduce(here, reduce_op="sum")):
                self.failed.setdefault(name, "it failed in another process")
            else:
                self._guarded(name, partial(self._compute, name, measure.info))

    def _make(self, name: str, measure: HeldOutMeasure) -> None:
        self._metrics[f"of_{name}"] = measure.metric()

    def _compute(self, name: str, info: MeasureInfo) -> None:
        found = self.metric_of(name).compute()
        numbers = {key: float(value) for key, value in numbers_of(found).items()}
        missing = sorted(set(info.named(name)) - {stored_name(name, key) for key in numbers})
        if missing:
            raise ValueError(f"its metric computes {sorted(numbers)}, and not {missing}")
        # An interval over a single block is NaN, which JSON has no word for: not known, so not stored.
        told = {key: value for key, value in numbers.items() if math.isfinite(value)}
        for key, value in numbers.items():
            stored = stored_name(name, key)
            if key not in told and stored in info.named(name):
                raise ValueError(f"{stored} is {value}, which is no number to rank by")
        self.numbers[name] = told

    def _guarded(self, name: str, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # a guest may raise anything; the other numbers stay
            self.failed[name] = f"{type(error).__name__}: {error}".split("\n", 1)[0]


def numbers_of(computed: Any) -> dict[str, Any]:
    """What a metric computed, by key: a mapping as it is, a single number under the key `""`."""
    return dict(computed) if isinstance(computed, Mapping) else {"": computed}
