"""The variogram score of draws on held-out units: whether the dimensions of a draw belong together.

Source: Scheuerer and Hamill, Variogram-Based Proper Scoring Rules for Probabilistic Forecasts of Multivariate
Quantities, 2015. https://doi.org/10.1175/MWR-D-14-00269.1
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, final

from torch import Tensor

from calmkit.heads.energy_score import at_least_float32
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import HeldOut, HeldOutMeasure, Measure, MeasureInfo, Number
from calmkit.metrics.latent_law import variogram_score, variogram_variance
from calmkit.nn.settings import require_at_least

if TYPE_CHECKING:
    import torchmetrics


@final
class Variogram(HeldOutMeasure):
    """Variogram score of a head's draws, whatever it was trained by, and as a share of that of all units.

    Where the energy score hardly feels how the dimensions of a draw depend on each other, this one looks at
    nothing else. Without bias for any number of draws from 2 on. It takes the draws that measures share.
    Taken at every validation too, on its few rows.

    Args:
        draws: S, of each unit; None: as many as `evaluation.draws` says.
        power: p.
        pairs: Of dimensions, at most; where there are more, evenly spread ones.

    Raises:
        ValueError: For fewer than 2 draws, no pair, or a power that is not above 0.
    """

    info = MeasureInfo(
        {
            "": Number(
                "variogram score",
                better="lower",
                meaning="How far differences between two dimensions of a draw are from those of the truth.",
            ),
            "relative": Number(
                "variogram score / V",
                better="lower",
                meaning="The variogram score as a share of V, its value for a model that knows no context.",
                mark=1.0,
            ),
            "spread": Number(
                "V",
                better="lower",
                meaning="The variogram score of the law of all units: the variance of their differences.",
            ),
        },
        events=frozenset({"continuous"}),
        on_the_way=True,
    )

    def __init__(self, *, draws: int | None = None, power: float = 0.5, pairs: int = 1024) -> None:
        require_at_least("variogram", 2, draws=draws)
        require_at_least("variogram", 1, pairs=pairs)
        if not power > 0:
            raise ValueError(f"variogram: power must be above 0, got {power}; 0.5 would do.")
        self.draws, self.power, self.pairs = draws, power, pairs

    def metric(self) -> torchmetrics.Metric:
        """Mean of the score, and the variance over all latents."""
        from calmkit.metrics.latent_means import LatentMeans

        whole = partial(_whole, power=self.power, most=self.pairs)
        return LatentMeans(("",), whole, ("spread",), {"relative": ("", "spread")})

    def update(self, metric: torchmetrics.Metric, held: HeldOut) -> None:
        """Score the draws of each unit."""
        draws = held.draws(self.draws)
        draws = draws.to(at_least_float32(draws.dtype)).flatten(2)  # [S, N, D]
        (y,) = held.target.sample(1).to(draws.dtype).flatten(2)
        if y.shape[-1] < 2:
            raise ValueError("a latent of one dimension has no differences between dimensions.")
        metric.update(held, y, variogram_score(draws, y, self.power, self.pairs))


def _whole(y: Tensor, power: float, most: int) -> dict[str, Tensor]:
    return {"spread": variogram_variance(y, power, most)}


@hookimpl
def calmkit_metrics() -> dict[str, type[Measure]]:
    """Register this."""
    return {"variogram": Variogram}
