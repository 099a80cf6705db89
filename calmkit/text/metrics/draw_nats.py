"""Draw nats: what the draws of a head say of the units that follow, in nats.

    -log q(unit) / K,    q(x) = (count of x among S draws + 1/2) / (S + outcomes / 2)

It asks for draws alone, as BrierLM does, and scores them by the logarithm, as a likelihood does. So it
stands between the two: heads with a density and heads without one, over ids and over latents, stand on one
scale. It is no likelihood of the model: where a model gives a unit much less than 1 / S, half a draw speaks
in its place, so far below what it would pay. The smoothing favours laws that are a little sharper than the
truth; models are compared at the same S, the same outcomes and the same K. It says something where S is not
much below the number of outcomes, so in worlds of few letters.

Source: half a count for each outcome, Krichevsky and Trofimov, The Performance of Universal Encoding, 1981.
https://doi.org/10.1109/TIT.1981.1056331
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import HeldOut, HeldOutMeasure, Measure, MeasureInfo, Number
from calmkit.nn.settings import require_at_least

if TYPE_CHECKING:
    import torchmetrics


@final
class DrawNats(HeldOutMeasure):
    """The log score of the units that follow under the counts of a head's draws, nats per token.

    Args:
        num_draws: S, of the head per unit.
        outcomes: Units that there can be: (letters + 1)^K where a text is of so few letters.

    Raises:
        ValueError: For no draw, or fewer than two outcomes.
    """

    data_kind = "text"
    info = MeasureInfo(
        Number(
            "draw nats",
            better="lower",
            unit="nats/token",
            meaning="Minus the log of the share of draws that equal what follows, half a draw given to each.",
        )
    )

    def __init__(self, *, num_draws: int = 128, outcomes: int = 256) -> None:
        require_at_least("draw_nats", 1, num_draws=num_draws)
        require_at_least("draw_nats", 2, outcomes=outcomes)
        self.num_draws, self.outcomes = num_draws, outcomes

    def metric(self) -> torchmetrics.Metric:
        """A mean over units."""
        from calmkit.metrics.unit_means import UnitMeans

        return UnitMeans()

    def update(self, metric: torchmetrics.Metric, held: HeldOut) -> None:
        """Add the units of a batch."""
        drawn = held.drawn_data(self.num_draws)  # [S, N, K]
        count = (drawn == held.data).all(-1).sum(0)  # [N]
        share = (count + 0.5) / (self.num_draws + self.outcomes / 2)
        metric.update(held, -share.log() / held.data.shape[-1])


@hookimpl
def calmkit_metrics() -> dict[str, type[Measure]]:
    """The measure of this file."""
    return {"draw_nats": DrawNats}
