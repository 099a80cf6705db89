"""A Student-t head as somebody else would write one: a plugin module that torch draws from in float32 only.

`HeadInfo.half_precision` stays false, because torch's gamma, behind every Student-t draw, has no bfloat16.
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.distributions import StudentT

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Context, DensityHead, EventSpec, HeadInfo, Posterior, SampleOptions


@final
class StudentTHead(DensityHead):
    """A Student-t distribution per dimension.

    Args:
        hidden_dim: H.
        event: A latent vector.
        degrees: Of freedom; the fewer, the longer the tails.
    """

    info = HeadInfo(sampling="one_step")

    def __init__(self, hidden_dim: int, event: EventSpec, *, degrees: float = 10.0) -> None:
        super().__init__()
        self.degrees = degrees
        self.project = nn.Linear(hidden_dim, 2 * event.shape[0])

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return -self.log_prob(context, target.sample(1)[0])

    def log_prob(self, context: Context, z: Tensor) -> Tensor:
        return self._law(context).log_prob(z).sum(-1)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        self.info.accept(options)
        return self._law(context).sample((num,))

    def _law(self, context: Context) -> StudentT:
        loc, log_scale = self.project(context.h).chunk(2, dim=-1)
        return StudentT(self.degrees, loc, log_scale.exp() + 1e-3)


@hookimpl
def calmkit_heads() -> dict[str, type[DensityHead]]:
    return {"student_t": StudentTHead}
