"""Adaptor: a learned map of the values that keeps volume, trained with the model in stage 2.

An autoencoder is trained to reconstruct, not to be easy to predict. The adaptor bends its values into a shape
that backbone and head find easier; because its Jacobian has determinant 1, densities can't be cheated by
squeezing space together.

It is a stack of additive coupling blocks. The dimensions are in two halves, and the blocks add to one half a
function of the other, in turns: whatever that function is, subtracting it again is the inverse.

Sources: Tschannen et al., GIVT: Generative Infinite-Vocabulary Transformers, 2023 (an adaptor for
the latents). https://arxiv.org/abs/2312.02116
Jacobsen et al., i-RevNet: Deep Invertible Networks, 2018 (the blocks). https://arxiv.org/abs/1802.07088
Official code of GIVT: big_vision/models/proj/givt/adaptor.py. There each block swaps the halves, has as many
groups per norm as half of the dimensions, up to 32, and a norm before its first convolution too, but for the
first block. Here the halves stay in place, so that it starts as the identity, a norm is over all of a row,
and the values themselves enter a block: their scale is something to know.
"""

from __future__ import annotations

from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import EventSpec, LatentTransform, StatesFlops
from calmkit.nn.settings import latent_dim_of, require_at_least

Mixing = Literal["grid", "unit"]


@final
class AdaptorTransform(LatentTransform, StatesFlops):
    """Additive coupling blocks over the dimensions; log_det is exactly 0, and at first it is the identity.

    Args:
        event: One latent vector, of D >= 2 dimensions.
        layout: Of the units; it stays.
        blocks: How many; each changes one half of the dimensions, so 2 change all.
        width: Channels inside a block; None: 2 * D, as GIVT.
        mixing: `grid`: 3 x 3 convolutions, so that a unit's new value depends on its neighbours too. `unit`:
            each unit by itself. None: `grid` where the layout is a grid of two dimensions, else `unit`.

    Raises:
        ValueError: A setting out of its range, an event that is no vector of two dimensions or more, or
            mixing over a grid that there is not.

    Source:
        Tschannen et al., 2023; 8 blocks of width 2 * D in its code.
    """

    keeps_gaussians = False
    learned = True

    def __init__(
        self,
        event: EventSpec,
        layout: tuple[int, ...] | None,
        *,
        blocks: int = 8,
        width: int | None = None,
        mixing: Mixing | None = None,
    ) -> None:
        super().__init__()
        dim = latent_dim_of("adaptor", event)
        require_at_least("adaptor", 1, blocks=blocks)
        require_at_least("adaptor", 2, width=width)
        if dim < 2:
            raise ValueError(f"adaptor: a vector of {dim} dimension has no two halves; 2 or more would do.")
        grid = layout is not None and len(layout) == 2
        mixing = ("grid" if grid else "unit") if mixing is None else mixing
        if mixing == "grid" and not grid:
            raise ValueError(
                f"adaptor: mixing 'grid' needs units in a grid of two dimensions, got layout {layout}; "
                "'unit' would do."
            )
        self.event, self.layout = event, layout
        self.cells = layout if layout is not None and mixing == "grid" else (1, 1)
        self.halves = (dim // 2, dim - dim // 2)
        width = 2 * dim if width is None else width
        size = 3 if mixing == "grid" else 1
        turns = (self.halves if i % 2 == 0 else self.halves[::-1] for i in range(blocks))
        self.blocks = nn.ModuleList(_block(read, written, width, size) for read, written in turns)

    def forward(self, z: Float[Tensor, "*B L D"]) -> tuple[Float[Tensor, "*B L D"], Float[Tensor, "*B L"]]:
        """Adapted values; log_det is 0."""
        first, second = self._halves(z)
        for i, block in enumerate(self.blocks):
            if i % 2 == 0:
                second = second + block(first)
            else:
                first = first + block(second)
        return self._joined(first, second, z), z.new_zeros(z.shape[:-1])

    def inverse(self, z: Float[Tensor, "*B L D"]) -> Float[Tensor, "*B L D"]:
        """The blocks undone, the last one first; exact to rounding."""
        first, second = self._halves(z)
        for i, block in reversed(list(enumerate(self.blocks))):
            if i % 2 == 0:
                second = second - block(first)
            else:
                first = first - block(second)
        return self._joined(first, second, z)

    def forward_flops(self, units: int) -> int:
        """Its convolutions, which are never cut short at the edge of a grid."""
        return 2 * units * sum(p.numel() for p in self.blocks.parameters() if p.dim() == 4)

    def _halves(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`[R, D / 2, h, w]` each; a row of its own for every unit where units don't mix."""
        rows = z.reshape(-1, *self.cells, z.shape[-1]).movedim(-1, 1)
        first, second = rows.split(self.halves, 1)
        return first, second

    def _joined(self, first: Tensor, second: Tensor, like: Tensor) -> Tensor:
        return torch.cat([first, second], 1).movedim(1, -1).reshape(like.shape)


def _block(read: int, written: int, width: int, size: int) -> nn.Sequential:
    """What one half adds to the other; nothing at first."""
    last = nn.Conv2d(width, written, size, padding="same", bias=False)
    nn.init.zeros_(last.weight)
    return nn.Sequential(
        nn.Conv2d(read, width, size, padding="same", bias=False),
        nn.GroupNorm(1, width),
        nn.ReLU(),
        nn.Conv2d(width, width, size, padding="same", bias=False),
        nn.GroupNorm(1, width),
        nn.ReLU(),
        last,
    )


@hookimpl
def calmkit_transforms() -> dict[str, type[LatentTransform]]:
    """Register this part."""
    return {"adaptor": AdaptorTransform}
