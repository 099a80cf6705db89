"""The numbers of series: CRPS of each value, energy score of a whole unit, nats; and their words.

    CRPS = E|x - y| - E|x - x'| / 2         one value; x, x' drawn from the head, y what really followed
    ES   = E||x - y|| - E||x - x'|| / 2     the P values of a unit together

Both are estimated without bias, over pairs of distinct draws: torchmetrics' ContinuousRankedProbabilityScore
counts the pairs of a draw with itself too, which with few draws favours forecasts that are too sure. Lower is
better, in the unit of the values.

Source: Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, 2007, sections 4.2
and 4.3. https://doi.org/10.1198/016214506000001437 Without bias: Ferro, Fair scores for ensemble forecasts,
2014. https://doi.org/10.1002/qj.2270
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.interfaces import HeldOut, HeldOutMeasure, Measure, MeasureInfo, Number

if TYPE_CHECKING:  # whoever only lists parts does not wait for it
    import torchmetrics

UNIT = "units of the data"


def energy_score(draws: Float[Tensor, "S N D"], truth: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
    """Energy score of each of N vectors, at least two draws of each; with D = 1 it is the CRPS."""
    count = len(draws)
    pull = (draws - truth).norm(dim=-1).mean(0)
    apart = torch.stack([(draws - draws.roll(by, 0)).norm(dim=-1).sum(0) for by in range(1, count)]).sum(0)
    return pull - apart / (2 * count * (count - 1))


def crps(draws: Float[Tensor, "S N P"], truth: Float[Tensor, "N P"]) -> Float[Tensor, " N"]:
    """Mean CRPS of the P values of each unit."""
    each = energy_score(draws.flatten(1).unsqueeze(-1), truth.flatten().unsqueeze(-1))
    return each.view(truth.shape).mean(-1)


@final
class Crps(Measure):
    """How near draws come to each value that follows, given the units before, in every evaluation of series.

    Beside it stand the same of the true law, where it is known, of a normal law fitted to all training
    values, and of a random walk from the last value that is known.
    """

    sums = {"crps": ("crps", "units")}  # noqa: RUF012
    info = MeasureInfo(
        {
            "": Number(
                "CRPS",
                better="lower",
                unit=UNIT,
                meaning="Mean distance of draws to the value that followed, less half of that among draws.",
                digits=4,
                proper=True,
            ),
            "best": Number(
                "CRPS of the true law",
                better="lower",
                unit=UNIT,
                meaning="The best that any model can expect on these rows.",
                digits=4,
            ),
            "normal": Number(
                "CRPS of a normal law",
                better="lower",
                unit=UNIT,
                meaning="Of one normal law for all values, fitted to those of training.",
                digits=4,
            ),
            "walk": Number(
                "CRPS of a random walk",
                better="lower",
                unit=UNIT,
                meaning="Of a normal law around the last value that is known, fitted to those of training.",
                digits=4,
            ),
        }
    )


@final
class NatsPerValue(Measure):
    """Minus the log density of a value given its past, of heads that know it; in every evaluation."""

    sums = {"nats_per_value": ("nats_per_value", "units")}  # noqa: RUF012
    info = MeasureInfo(
        {
            "": Number(
                "nats/value",
                better="lower",
                meaning="Minus the mean log density of the values of a unit given the units before.",
                proper=True,
            ),
            "best": Number(
                "nats/value of the true law",
                better="lower",
                meaning="The entropy of a value given those before: no model expects less.",
            ),
        }
    )


@final
class SeriesEnergy(HeldOutMeasure):
    """The energy score of whole units in the unit of the data: it sees how their values hang together.

    Args:
        num_draws: S, of the head per unit; null takes as many as `evaluation.draws` says.

    Raises:
        ValueError: Fewer than two draws.
    """

    info = MeasureInfo(
        Number(
            "energy score",
            better="lower",
            unit=UNIT,
            meaning="Mean distance of drawn units to what followed, less half of that among draws.",
            digits=4,
            proper=True,
        ),
        events=frozenset({"continuous"}),
    )

    def __init__(self, *, num_draws: int | None = None) -> None:
        if num_draws is not None and num_draws < 2:
            raise ValueError(f"series_energy: num_draws must be at least 2, got {num_draws}; 8 would do")
        self.num_draws = num_draws

    def metric(self) -> torchmetrics.Metric:
        """A mean over units."""
        from calmkit.metrics.unit_means import UnitMeans

        return UnitMeans()

    def update(self, metric: torchmetrics.Metric, held: HeldOut) -> None:
        """Add the units of a batch."""
        draws, truth = held.drawn_data(self.num_draws), held.data
        metric.update(held, energy_score(draws.float(), truth.float()))
