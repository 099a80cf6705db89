"""Patchify: p x p neighbours of a grid become one unit, which makes rows p * p times shorter.

Nothing is lost or mixed: it is a permutation of the numbers of a row. Within a new unit the old dimension
comes first, then the place (down, across), as in MAR's code, so that its weights fit.

Source: Li et al., Autoregressive Image Generation without Vector Quantization (MAR), 2024.
https://arxiv.org/abs/2406.11838
"""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import EventSpec, LatentTransform, Posterior, StatesFlops
from calmkit.nn.settings import latent_dim_of, require_at_least


@final
class PatchifyTransform(LatentTransform, StatesFlops):
    """Space to depth: a grid (h, w) of D dimensions becomes a grid (h / p, w / p) of D * p * p.

    Args:
        event: One latent vector, of D dimensions.
        layout: The grid (h, w).
        patch: p; it must divide h and w. 1 changes nothing.

    Raises:
        ValueError: For units that lie in no grid of two dimensions, a p that does not divide it, or an event
            that is no latent vector.

    Source:
        Li et al., 2024.
    """

    keeps_gaussians = True
    layout: tuple[int, int]

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None, *, patch: int = 2) -> None:
        super().__init__()
        self.dim = latent_dim_of("patchify", event)
        require_at_least("patchify", 1, patch=patch)
        if layout is None or len(layout) != 2:
            raise ValueError(
                f"patchify: the units must lie in a grid of two dimensions, got layout {layout}; an "
                "autoencoder that gives one, or no patchify, would do."
            )
        h, w = layout
        if h % patch or w % patch:
            common = [p for p in range(1, min(h, w) + 1) if h % p == 0 == w % p]
            raise ValueError(
                f"patchify: patch {patch} does not divide the grid {h} x {w}; one of {common} would do."
            )
        self.patch = patch
        self.event = EventSpec((self.dim * patch * patch,))
        self.layout = (h // patch, w // patch)

    def forward(self, z: Float[Tensor, "*B L D"]) -> tuple[Float[Tensor, "*B l d"], Float[Tensor, "*B l"]]:
        """Values of the patches; log_det is 0."""
        patches = self._gather(z)
        return patches, patches.new_zeros(patches.shape[:-1])

    def inverse(self, z: Float[Tensor, "*B l d"]) -> Float[Tensor, "*B L D"]:
        """Values of the units that the patches were made of."""
        cells = z.unflatten(-1, (self.dim, self.patch, self.patch)).unflatten(-4, self.layout)
        # [*B, h, w, D, p, q] -> [*B, h, p, w, q, D]
        return cells.movedim((-4, -3, -2), (-3, -1, -4)).flatten(-5, -2)

    def posterior(self, posterior: Posterior) -> Posterior:
        """Mean and width, each put where it belongs."""
        log_std = posterior.log_std
        return Posterior(self._gather(posterior.mean), None if log_std is None else self._gather(log_std))

    def forward_flops(self, units: int) -> int:
        """0: it moves numbers."""
        del units
        return 0

    def _gather(self, z: Tensor) -> Tensor:
        (h, w), p = self.layout, self.patch
        cells = z.unflatten(-2, (h, p, w, p))
        # [*B, h, p, w, q, D] -> [*B, h, w, D, p, q]
        return cells.movedim((-3, -1, -4), (-4, -3, -2)).flatten(-3).flatten(-3, -2)


@hookimpl
def calmkit_transforms() -> dict[str, type[LatentTransform]]:
    """Register this part."""
    return {"patchify": PatchifyTransform}
