"""Any order: a masked autoencoder whose encoder reads the known units, and whose decoder tells of all.

The encoder attends to what is known alone: learned buffer vectors, the prefix, the known units. In the
decoder a learned vector stands in for each hidden unit, and everything attends to everything. A learned
position is added before each of the two, and once more behind, for the head.

Sources: Li et al., MAR, 2024, section 3.3 and Figure 4. https://arxiv.org/abs/2406.11838 Official code:
LTH14/mar@fe470ac, models/mar.py. Without an encoder it is the backbone of Shao et al., EAR, 2025.
https://arxiv.org/abs/2505.07812
"""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import AnyOrderBackbone, Backbone, Context, StatesFlops
from calmkit.nn.attention import INIT_STD
from calmkit.nn.bidirectional import BidirectionalLayer
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.settings import require_at_least, require_probability
from calmkit.nn.swiglu import NORM_EPS

FFN_MULTIPLE = 4  # of H, as in MAR and every ViT


class Encoder(nn.Module):
    """Layers over what is known, between a norm and a Linear layer to the decoder."""

    def __init__(self, units: int, dim: int, layers: nn.ModuleList) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.empty(units, dim))
        self.first_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.layers = layers
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.bridge = nn.Linear(dim, dim)

    def forward(
        self, front: Float[Tensor, "B F H"], body: Float[Tensor, "B L H"], known: Bool[Tensor, "B L"]
    ) -> tuple[Float[Tensor, "B F H"], Float[Tensor, "B L H"]]:
        """What is in front and the units, read; of the latter only those that are known say anything."""
        x = self.first_norm(torch.cat([front, body + self.position], 1))
        visible = torch.cat([known.new_ones(front.shape[:2]), known], 1)
        for layer in self.layers:
            x = layer(x, visible)
        x = self.bridge(self.norm(x))
        return x[:, : front.shape[1]], x[:, front.shape[1] :]


@final
class AnyOrderTransformer(AnyOrderBackbone, StatesFlops):
    """MAR's encoder and decoder, each a vision transformer with learned positions over the layout.

    The encoder passes over hidden units by a mask instead of leaving them out, so rows may know different
    numbers of units, and all cost the same.

    Args:
        layout: The grid of a row's units, L in all.
        hidden_dim: H, a multiple of `heads`.
        depth: Layers of the encoder; 0: none, the decoder reads the known units itself, as in EAR.
        decoder_depth: Layers of the decoder; None: as many as the encoder has.
        heads: Heads of the attention.
        ffn_dim: Width inside the MLP; None: 4 H.
        buffer: Learned vectors in front of every row, so that there is something to read where nothing is
            known. MAR has 64 for 256 units.
        dropout: Rate, in training, in each layer; MAR has 0.1.
    """

    def __init__(
        self,
        layout: tuple[int, ...] | None,
        *,
        hidden_dim: int = 512,
        depth: int = 8,
        decoder_depth: int | None = None,
        heads: int = 8,
        ffn_dim: int | None = None,
        buffer: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        ffn_dim = FFN_MULTIPLE * hidden_dim if ffn_dim is None else ffn_dim
        decoder_depth = depth if decoder_depth is None else decoder_depth
        self.units = _units_of(layout)
        _refuse(hidden_dim, heads, ffn_dim, depth, decoder_depth, buffer, dropout)
        self.hidden_dim = hidden_dim

        def layers(count: int) -> nn.ModuleList:
            return nn.ModuleList(
                BidirectionalLayer(hidden_dim, heads, ffn_dim, dropout) for _ in range(count)
            )

        self.buffer = nn.Parameter(torch.empty(buffer, hidden_dim))
        self.encoder = Encoder(self.units, hidden_dim, layers(depth)) if depth else None
        self.hidden = nn.Parameter(torch.empty(hidden_dim))
        self.position = nn.Parameter(torch.empty(self.units, hidden_dim))
        self.layers = layers(decoder_depth)
        self.norm = nn.LayerNorm(hidden_dim, eps=NORM_EPS)
        self.last_position = nn.Parameter(torch.empty(self.units, hidden_dim))
        _initialise(self)

    def forward(
        self,
        x: Float[Tensor, "B L H"],
        known: Bool[Tensor, "B L"],
        prefix: Float[Tensor, "B P H"] | None = None,
    ) -> Context:
        """Conditions of all units from the known ones.

        Raises:
            ValueError: For rows of another number of units than the layout has.
        """
        if x.shape[1] != self.units:
            raise ValueError(f"any_order: rows have {x.shape[1]} units; {self.units} would do, its layout's.")
        dtype, is_known = self.hidden.dtype, known.unsqueeze(-1)
        front = self.buffer.expand(len(x), -1, -1)
        if prefix is not None:
            front = torch.cat([front, prefix.to(dtype)], 1)
        # Chosen, not multiplied away: what stands at a hidden place may even be NaN.
        body = torch.where(is_known, x.to(dtype), 0.0)
        if self.encoder is not None:
            front, body = self.encoder(front, body, known)
        body = torch.where(is_known, body, self.hidden) + self.position
        every = torch.cat([front, body], 1).to(dtype)  # under autocast too
        for layer in self.layers:
            every = layer(every)
        return Context(self.norm(every[:, front.shape[1] :]) + self.last_position)

    def forward_flops(self, units: int) -> int:
        """Every layer over all units and the buffer, and all their pairs, known or not.

        A prefix costs what as many units do: for the whole, count its length in `units`.
        """
        places = units + len(self.buffer)
        depth = len(self.layers) + (0 if self.encoder is None else len(self.encoder.layers))
        pairs = 2 * 2 * places * self.hidden_dim
        return places * (linear_flops(self) + depth * pairs)


def _units_of(layout: tuple[int, ...] | None) -> int:
    if not layout or any(count < 1 for count in layout):
        raise ValueError(
            f"any_order: layout is {layout}; the grid of a fixed number of units would do, such as (8, 8). "
            "Rows of any length take backbone transformer with order left_to_right."
        )
    return math.prod(layout)


def _refuse(
    hidden_dim: int, heads: int, ffn_dim: int, depth: int, decoder_depth: int, buffer: int, dropout: float
) -> None:
    require_at_least("any_order", 1, hidden_dim=hidden_dim, heads=heads, ffn_dim=ffn_dim, buffer=buffer)
    require_at_least("any_order", 0, depth=depth)
    require_at_least("any_order", 1, decoder_depth=decoder_depth)
    require_probability("any_order", dropout=dropout)
    if hidden_dim % heads:
        wanted = heads * max(1, round(hidden_dim / heads))
        raise ValueError(
            f"any_order: hidden_dim {hidden_dim} is no multiple of {heads} heads; {wanted} would do."
        )


def _initialise(module: nn.Module) -> None:
    """As the official code: Glorot's uniform weights, positions and stand-ins from N(0, 0.02^2)."""
    for part in module.modules():
        if isinstance(part, Encoder | AnyOrderTransformer):
            for parameter in part.parameters(recurse=False):
                nn.init.normal_(parameter, std=INIT_STD)
        elif isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)


@hookimpl
def calmkit_backbones() -> dict[str, type[Backbone | AnyOrderBackbone]]:
    """Register this part."""
    return {"any_order": AnyOrderTransformer}
