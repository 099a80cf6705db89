"""What a sampler is worth on a model, in numbers: the axes of the paper's Figures 10 and 11, and the cost.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 7.5.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from jaxtyping import Float, Int
from torch import Tensor

from calmkit.metrics.blocks import ratio_standard_error
from calmkit.metrics.sampler_use import SamplerUse
from calmkit.text.metrics.brier import NUM_TOKENS, BrierLM


@final
@dataclass(frozen=True)
class SamplingScores:
    """What a sampler is worth on a model, and what it costs.

    Attributes:
        units: Positions that the scores rest on.
        accuracy: Chance that the first n tokens are right, n = 1..4.
        collision: Chance that two choices agree in their first n tokens, n = 1..4.
        accuracy_mean: Geometric mean over n, the upright axis of the paper's Figures 10 and 11.
        accuracy_mean_se: Its standard error with rows as independent; None with one row or a mean of 0.
        collision_mean: Geometric mean over n, the level axis of the same figures.
        collision_mean_se: Its standard error.
        brier_lm: Of the sampler's law.
        brier_lm_low: Lower end of its 95 % interval.
        brier_lm_high: Upper end.
        draws_per_unit: Draws of the head per choice.
        max_draws: Draws of the choice that took most.
        network_calls_per_unit: Calls of the head's network per choice; None for an adaptive solver.
        level: Mean level of agreement of the choices that reached one; None where none did.
        levels: Level of agreement -> share of the choices, the highest first.
        fallback_share: Share of the choices for which the sampler fell back (level NaN).
        flops_per_unit: FLOPs of a choice: all calls of the head and every value decoded, not the backbone;
            None where no formula can say it (an adaptive solver).
        documents: Of each document its number, its sums of accuracy (4) and collision (4), and its positions;
            empty where documents are not known.
    """

    units: int
    accuracy: tuple[float, ...]
    collision: tuple[float, ...]
    accuracy_mean: float
    accuracy_mean_se: float | None
    collision_mean: float
    collision_mean_se: float | None
    brier_lm: float
    brier_lm_low: float
    brier_lm_high: float
    draws_per_unit: float
    max_draws: int
    network_calls_per_unit: float | None
    level: float | None
    levels: dict[float, float]
    fallback_share: float
    flops_per_unit: float | None = None
    documents: tuple[tuple[float, ...], ...] = ()

    def as_row(self) -> dict[str, Any]:
        """As plain values, see `DataKind.score_sampler`."""
        exact = sum(self.levels.values())
        mean_level = sum(level * share for level, share in self.levels.items()) / exact if exact else None
        return {
            "units": self.units,
            "accuracy": 100 * self.accuracy_mean,
            "accuracy_se": _percent(self.accuracy_mean_se),
            "collision": 100 * self.collision_mean,
            "collision_se": _percent(self.collision_mean_se),
            "accuracy_n": list(self.accuracy),
            "collision_n": list(self.collision),
            "brier_lm": self.brier_lm,
            "brier_lm_low": self.brier_lm_low,
            "brier_lm_high": self.brier_lm_high,
            "draws_per_unit": self.draws_per_unit,
            "max_draws": self.max_draws,
            "network_calls_per_unit": self.network_calls_per_unit,
            "flops_per_unit": self.flops_per_unit,
            "mean_level": mean_level,
            "levels": {f"{level:g}": share for level, share in self.levels.items()},
            "fallback_share": self.fallback_share,
            "documents": [list(line) for line in self.documents],
        }


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def summarise(
    metric: BrierLM,
    table: Float[Tensor, "P 9"],
    use: SamplerUse,
    calls: int | None,
    flops: float | None = None,
) -> SamplingScores:
    """Put the numbers of one measurement together.

    Args:
        metric: Has seen all positions.
        table: Accuracy and collision of each position, and its row.
        use: Of the choices under teacher forcing.
        calls: Network calls per draw; None for an adaptive solver.
        flops: Of a choice; None: unknown.
    """
    found = {name: float(value) for name, value in metric.compute().items()}
    rows = table[:, 8].long()
    accuracy, accuracy_se = _geometric_mean(table[:, :4], rows)
    collision, collision_se = _geometric_mean(table[:, 4:8], rows)
    return SamplingScores(
        units=len(table),
        accuracy=tuple(found[f"accuracy_{n}"] for n in range(1, NUM_TOKENS + 1)),
        collision=tuple(found[f"collision_{n}"] for n in range(1, NUM_TOKENS + 1)),
        accuracy_mean=accuracy,
        accuracy_mean_se=accuracy_se,
        collision_mean=collision,
        collision_mean_se=collision_se,
        brier_lm=found["brier_lm"],
        brier_lm_low=found["brier_lm_low"],
        brier_lm_high=found["brier_lm_high"],
        draws_per_unit=use.draws_per_unit,
        max_draws=use.max_draws,
        network_calls_per_unit=None if calls is None else calls * use.draws_per_unit,
        level=use.level,
        levels=use.level_shares,
        fallback_share=use.fallback_share,
        flops_per_unit=flops,
        documents=() if metric.per_document is None else tuple(map(tuple, metric.per_document.tolist())),
    )


def _geometric_mean(terms: Float[Tensor, "P 4"], rows: Int[Tensor, " P"]) -> tuple[float, float | None]:
    """Geometric mean of the four means, and its standard error by the delta method with rows as clusters."""
    terms = terms.double()
    means = terms.mean(0)
    score = means.prod().pow(1 / NUM_TOKENS)
    numbers, row = rows.unique(return_inverse=True)
    if float(score) == 0 or len(numbers) < 2:
        return float(score), None
    sums = terms.new_zeros(len(numbers), NUM_TOKENS).index_add_(0, row, terms)
    slopes = (sums / means).sum(1)
    return float(score), float(score / NUM_TOKENS * ratio_standard_error(slopes, row.bincount().double()))
