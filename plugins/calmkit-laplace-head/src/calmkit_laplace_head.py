"""Laplace head: a diagonal Laplace distribution, with a sharper peak and longer tails than a Gaussian.

Source: Weisstein, Laplace Distribution, MathWorld. https://mathworld.wolfram.com/LaplaceDistribution.html
"""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Laplace

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Context, DensityHead, EventSpec, HeadInfo, Posterior, SampleOptions


@final
class LaplaceHead(DensityHead):
    """A Laplace distribution per dimension; temperature multiplies every scale.

    Args:
        hidden_dim: H.
        event: A latent vector.
        min_scale: The smallest scale, in latent units: a point posterior would have it shrink forever.
    """

    info = HeadInfo(sampling="one_step", temperature="scale", options=frozenset({"temperature"}))

    def __init__(self, hidden_dim: int, event: EventSpec, *, min_scale: float = 1e-3) -> None:
        super().__init__()
        if min_scale <= 0:
            raise ValueError(f"laplace: min_scale must be above 0, got {min_scale}; 1e-3 would do.")
        self.min_scale = min_scale
        self.project = nn.Linear(hidden_dim, 2 * event.shape[0])

    def loss(self, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
        """Negative log density of one posterior draw, nats per unit; may be negative."""
        return -self.log_prob(context, target.sample(1)[0])

    def log_prob(self, context: Context, z: Float[Tensor, "*units D"]) -> Float[Tensor, "*units"]:
        """Exact log density, nats per unit: -sum_d (|z_d - loc_d| / scale_d + log(2 scale_d))."""
        return self._law(context, 1.0).log_prob(z).sum(-1)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        """Draws `[num, *units, D]`."""
        temperature = self.info.accept(options).temperature
        return self._law(context, 1.0 if temperature is None else temperature).sample((num,))

    def _law(self, context: Context, temperature: float) -> Laplace:
        loc, log_scale = self.project(context.h).chunk(2, dim=-1)
        return Laplace(loc, temperature * (log_scale.exp() + self.min_scale))


@hookimpl
def calmkit_heads() -> dict[str, type[DensityHead]]:
    """The head of this plugin."""
    return {"laplace": LaplaceHead}
