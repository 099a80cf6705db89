"""Latents: the backbone reads the value of a unit itself through one Linear layer, as GIVT and LatentLM do.

Source: Tschannen et al., GIVT: Generative Infinite-Vocabulary Transformers, 2023.
https://arxiv.org/abs/2312.02116. For text it costs BrierLM: Shao et al., 2025, Table 5.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from typing import final

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Embedder, EventSpec, StatesStepFlops, StatesTrainingFlops
from calmkit.nn.chunk_mlp import init_normal
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.swiglu import NORM_EPS


@final
class LatentsEmbedder(Embedder, StatesStepFlops, StatesTrainingFlops):
    """x = Linear_D->H(z), with a LayerNorm behind it where asked.

    Args:
        hidden_dim: H.
        event: The latent; one dimension, continuous.
        norm: LayerNorm after the Linear layer, which takes the scale of the latents away.

    Raises:
        ValueError: An event of token ids, or of several dimensions.

    Source:
        Tschannen et al., 2023.
    """

    sizes = ("hidden_dim", "event")
    reads = "latents"

    def __init__(self, hidden_dim: int, event: EventSpec, *, norm: bool = False) -> None:
        super().__init__()
        if event.kind != "continuous" or len(event.shape) != 1:
            raise ValueError(
                f"latents: the event must be a latent vector, got {event.kind} of shape {event.shape}; "
                "embedder tokens would do."
            )
        self.project = nn.Linear(event.shape[0], hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim, eps=NORM_EPS) if norm else nn.Identity()
        self.apply(init_normal)

    def forward(
        self, data: Shaped[Tensor, "*units_data"] | None, z: Float[Tensor, "*units D"]
    ) -> Float[Tensor, "*units H"]:
        """Latents -> one vector per unit; the data are not read."""
        del data
        return self.norm(self.project(z))

    def forward_flops(self, units: int) -> int:
        """One Linear layer."""
        return units * linear_flops(self)

    def training_flops(self, units: int) -> int:
        """Latents take no gradient, so the backward pass costs as much as the forward pass."""
        return 2 * self.forward_flops(units)

    def step_flops(self, past: int) -> int:
        """One unit; those before it are not read."""
        del past
        return self.forward_flops(1)


@hookimpl
def calmkit_embedders() -> dict[str, type[Embedder]]:
    """Register this part."""
    return {"latents": LatentsEmbedder}
