"""Measuring: measures shown batch after batch of held-out rows, whoever makes the pass.

One that fails is left out with a sentence, in every process alike, and the others go on. All randomness is
their own: neither training nor any other number is touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, final

import torch
import torchmetrics
from torch import Tensor, nn

from calmkit.generation import SeededRandomness
from calmkit.interfaces import Batch, HeldOutMeasure, MeasureInfo, stored_name
from calmkit.metrics.held_out import held_out
from calmkit.model import CalmModel

DRAWS_APART, OWN_APART = 15_485_863, 32_452_843
"""Between the seeds of a kind's draws, of those that measures share, and of a measure's own randomness."""

Reduce = Callable[[Tensor], Tensor]
"""Sum over all processes."""


@final
class Measuring(nn.Module):
    """Several measures, and what each has seen.

    Args:
        measures: By name; all of them fit the model that is shown.
        draws: Of each unit, for measures that name no number.

    Attributes:
        failed: Name -> why it is left out.
        numbers: Name -> its numbers by key, once computed.
    """

    def __init__(self, measures: Mapping[str, HeldOutMeasure], draws: int) -> None:
        super().__init__()
        self.measures, self.draws = measures, draws
        self.failed: dict[str, str] = {}
        self.numbers: dict[str, dict[str, float]] = {}
        self._metrics = nn.ModuleDict()
        for name, measure in measures.items():
            self._guarded(name, partial(self._make, name, measure))

    def metric_of(self, name: str) -> torchmetrics.Metric:
        """The accumulator of a measure."""
        metric = self._metrics[f"of_{name}"]
        assert isinstance(metric, torchmetrics.Metric)
        return metric

    def update(self, model: CalmModel, batch: Batch, seed: int, device: torch.device) -> None:
        """Show a batch to every measure that has not failed.

        Args:
            model: In eval mode.
            batch: Held-out rows.
            seed: Of the batch.
            device: Of model and batch.
        """
        held = held_out(model, batch, num_draws=self.draws, seed=seed + DRAWS_APART)
        if held is None:
            return
        for name, measure in self.measures.items():
            if name not in self.failed:
                with SeededRandomness(seed + OWN_APART, device).borrowed():
                    self._guarded(name, partial(measure.update, self.metric_of(name), held))

    def compute(self, reduce: Reduce, device: torch.device) -> None:
        """Set `numbers`, over all processes; none waits for another in which the measure failed."""
        for name, measure in self.measures.items():
            if float(reduce(torch.tensor(float(name in self.failed), device=device))):
                self.failed.setdefault(name, "it failed in another process")
            else:
                self._guarded(name, partial(self._compute, name, measure.info))

    def finish(self, reduce: Reduce, device: torch.device) -> dict[str, Tensor]:
        """Compute, and begin anew: the numbers that the measures describe, by their stored names."""
        self.compute(reduce, device)
        told: dict[str, Tensor] = {}
        for name, found in self.numbers.items():
            stored = {stored_name(name, key): torch.tensor(value) for key, value in found.items()}
            told |= {one: stored[one] for one in self.measures[name].info.named(name)}
        self.numbers = {}
        for name in self.measures.keys() - self.failed.keys():
            self.metric_of(name).reset()
        return told

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
