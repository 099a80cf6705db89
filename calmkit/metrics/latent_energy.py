"""The energy score of draws on held-out units, and what it is as a share of R, for any head.

    latent_energy = 2 E|x - y| - E|x - x'|        x, x' draws of the head, y a draw of the unit's posterior

R = E|y - y'| of two different held-out units is what this score is for a head that draws from the law of all
units at once, without looking at the context: 2 R - R. r = E|y - y'| of one posterior is what it is for a
head that knows each unit. So a share of 1 says that the context has taught nothing; where units lie in
clusters some R apart and r wide, little of what is read from draws moves before the share falls below 1.

Source: Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, 2007, section 4.2.
https://doi.org/10.1198/016214506000001437
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from torch import Tensor

from calmkit.heads.energy_score import at_least_float32, energy_loss
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import HeldOut, HeldOutMeasure, Measure, MeasureInfo, Number
from calmkit.metrics.latent_law import gaussian_score, mean_distance
from calmkit.nn.settings import require_at_least

if TYPE_CHECKING:
    import torchmetrics


@final
class LatentEnergy(HeldOutMeasure):
    """Energy score of a head's draws at exponent 1, whatever it was trained by, and as a share of R.

    It takes the draws that measures share, so that beside another of them it costs next to nothing, and alone
    as much as that many draws of every held-out unit. Taken at every validation too, on its few rows.
    R and the score of a Gaussian are means over 32,768 pairs of units.

    Args:
        draws: S, of each unit; None: as many as `evaluation.draws` says.
        targets: Draws of the posterior of each unit; the score is free of bias whatever their number.

    Raises:
        ValueError: For fewer than 2 draws or targets.
    """

    info = MeasureInfo(
        {
            "": Number(
                "energy score",
                better="lower",
                unit="latent units",
                meaning="Twice the distance of draws to the truth, less that between two draws.",
                proper=True,
            ),
            "relative": Number(
                "energy score / R",
                better="lower",
                meaning="The energy score as a share of R, its value for a model that knows no context.",
                mark=1.0,
            ),
            "spread": Number(
                "R",
                better="lower",
                unit="latent units",
                meaning="The mean distance between the latents of two different units.",
            ),
            "within": Number(
                "r",
                better="lower",
                unit="latent units",
                meaning="The mean distance between two draws of the posterior of one unit.",
            ),
            "gaussian": Number(
                "energy score of a Gaussian / R",
                better="lower",
                meaning="What one Gaussian with the moments of all latents has, as a share of R.",
            ),
        },
        events=frozenset({"continuous"}),
        on_the_way=True,
    )

    def __init__(self, *, draws: int | None = None, targets: int = 4) -> None:
        require_at_least("latent_energy", 2, draws=draws, targets=targets)
        self.draws, self.targets = draws, targets

    def metric(self) -> torchmetrics.Metric:
        """Means of the score and of r, and R of all latents."""
        from calmkit.metrics.latent_means import LatentMeans

        return LatentMeans(("", "within"), _whole, ("spread", "gaussian"), {"relative": ("", "spread")})

    def update(self, metric: torchmetrics.Metric, held: HeldOut) -> None:
        """Score the draws of each unit."""
        draws = held.draws(self.draws)
        draws = draws.to(at_least_float32(draws.dtype)).flatten(2)  # [S, N, D]
        targets = held.target.sample(self.targets).to(draws.dtype).flatten(2)
        within = (targets[0] - targets[1]).norm(dim=-1)
        metric.update(held, targets[0], energy_loss(draws, targets), within)


def _whole(y: Tensor) -> dict[str, Tensor]:
    spread = mean_distance(y)
    return {"spread": spread, "gaussian": gaussian_score(y) / spread}


@hookimpl
def calmkit_metrics() -> dict[str, type[Measure]]:
    """Register this."""
    return {"latent_energy": LatentEnergy}
