"""Regression head: squared error. It teaches averaging: the best single answer is the mean of all true ones.

Where two continuations are likely, the prediction lies between them, where the data never is; that is why the
other heads are generative. All draws of a unit are the same.

Source: LCM team, Large Concept Models, 2024: the loss of Base-LCM; no noise is added to the prediction.
https://arxiv.org/abs/2412.08821
"""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    Context,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    Posterior,
    SampleOptions,
    StatesDrawFlops,
)
from calmkit.nn.conditional_mlp import ConditionalMLP
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.settings import latent_dim_of, require_at_least


@final
class RegressionHead(GenerativeHead, StatesDrawFlops):
    """Predicts the mean of the value by squared error; every draw is that mean.

    Args:
        hidden_dim: H.
        event: A latent vector.
        depth: Residual blocks; the default matches the energy head.
        width: W, of the blocks; None: `hidden_dim`.

    Raises:
        ValueError: For a setting out of its range, or an event that is no latent vector.
    """

    info = HeadInfo(sampling="one_step", half_precision=True, guidance="condition")

    def __init__(
        self, hidden_dim: int, event: EventSpec, *, depth: int = 4, width: int | None = None
    ) -> None:
        super().__init__()
        require_at_least("regression", 1, depth=depth, width=width)
        latent_dim = latent_dim_of("regression", event)
        self.network = ConditionalMLP(hidden_dim, latent_dim, depth=depth, width=width)

    def loss(self, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
        """Squared distance to the posterior's mean, summed over D, in squared latent units per unit."""
        prediction = self.network(context.h)
        wide = torch.promote_types(
            prediction.dtype, torch.float32
        )  # a sum over D in half precision loses digits
        return (prediction.to(wide) - target.mean.to(wide)).square().sum(-1)

    def sample(
        self, context: Context, num: int = 1, options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """The prediction, `num` times."""
        self.info.accept(options)
        prediction = self.network(context.h)
        return prediction.expand(num, *prediction.shape)

    def forward_flops(self, units: int) -> int:
        """One prediction serves all draws."""
        return units * linear_flops(self.network)

    def draw_flops(self, num: int = 1, options: SampleOptions | None = None) -> int:
        """One prediction serves all draws."""
        del num, options
        return self.forward_flops(1)


@hookimpl
def calmkit_heads() -> dict[str, type[GenerativeHead]]:
    """The regression head."""
    return {"regression": RegressionHead}
