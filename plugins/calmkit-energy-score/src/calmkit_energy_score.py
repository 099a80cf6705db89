"""Energy score: how near a head's draws come to the latents that really follow, whatever the head.

    ES = E|x - y|^a - E|x - x'|^a / 2      x, x' drawn from the head, y from the posterior of what followed

It asks for draws alone, so heads with a density and heads without one stand on one scale. It is in the
latents' own units: compare models of one autoencoder. The CRPS is the same of each dimension by itself, so a
head that has the marginals right and their dependence wrong is seen by the first number only.

Source: Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, 2007, sections 4.2
and 4.3, there with the opposite sign. https://doi.org/10.1198/016214506000001437
"""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import HeldOut, HeldOutMeasure, Measure, MeasureInfo, Number
from calmkit.metrics.unit_means import UnitMeans


@final
class EnergyScore(HeldOutMeasure):
    """The energy score of a head's draws, and the mean CRPS of their dimensions, in latent units.

    Args:
        num_draws: S, of the head per unit; null takes as many as `evaluation.draws` says.
        num_targets: R, of the posterior per unit.
        exponent: a of the energy score, in (0, 2); its unit is then that of latents to the power a.
    """

    info = MeasureInfo(
        {
            "": Number(
                "energy score",
                better="lower",
                unit="latent units",
                meaning="Mean distance of draws to what followed, less half of that among draws.",
                proper=True,
            ),
            "crps": Number(
                "CRPS",
                better="lower",
                unit="latent units",
                meaning="The same of each latent dimension by itself, mean over dimensions.",
                proper=True,
            ),
        },
        events=frozenset({"continuous"}),
    )

    def __init__(self, *, num_draws: int | None = None, num_targets: int = 16, exponent: float = 1.0) -> None:
        if num_draws is not None and num_draws < 2:
            raise ValueError(f"energy_score: num_draws must be at least 2, got {num_draws}; 8 would do.")
        if num_targets < 1:
            raise ValueError(f"energy_score: num_targets must be at least 1, got {num_targets}; 16 would do.")
        if not 0 < exponent < 2:
            raise ValueError(f"energy_score: exponent must lie in (0, 2), got {exponent}; 1 would do.")
        self.num_draws, self.num_targets, self.exponent = num_draws, num_targets, exponent

    def metric(self) -> Metric:
        """Two means over units."""
        return UnitMeans("", "crps")

    def update(self, metric: Metric, held: HeldOut) -> None:
        """Add the units of a batch."""
        draws = held.draws(self.num_draws)
        exact = torch.promote_types(draws.dtype, torch.float32)  # not every accelerator has double precision
        draws, targets = draws.to(exact), held.target.sample(self.num_targets).to(exact)
        joint = _score(draws.unsqueeze(-1), targets.unsqueeze(-1), self.exponent)[:, 0]
        each = _score(draws.unsqueeze(-2), targets.unsqueeze(-2), 1.0)
        metric.update(held, joint, each.mean(-1))


def _score(
    draws: Float[Tensor, "S N D G"], targets: Float[Tensor, "R N D G"], exponent: float
) -> Float[Tensor, "N G"]:
    """Unbiased energy score of each of G groups of D numbers, over all pairs of distinct draws."""
    pull = torch.stack([(x - targets).norm(dim=-2).pow(exponent).mean(0) for x in draws]).mean(0)
    pairs = [
        (x - draws[later:]).norm(dim=-2).pow(exponent).sum(0) for later, x in enumerate(draws[:-1], start=1)
    ]
    return pull - torch.stack(pairs).sum(0) / (len(draws) * (len(draws) - 1))


@hookimpl
def calmkit_metrics() -> dict[str, type[Measure]]:
    """The measure of this plugin."""
    return {"energy_score": EnergyScore}
