"""Normalise: values of center 0 and scale 1, by numbers that are fitted once and saved with the weights.

A scale factor that stands in a script is lost with it; here it is a buffer of the model. `robust` is for
values with heavy tails, whose standard deviation says more about the tails than about the bulk.

Sources: Li et al., Autoregressive Image Generation without Vector Quantization (MAR), 2024 (one scale for all
values, 0.2325 in its code). https://arxiv.org/abs/2406.11838
Barrault et al., Large Concept Models, 2024 (robust scaling of sentence embeddings). Its code
hands fractions to a scaler that takes percent, which measures from 0.25 to 0.75 percent, in the tail.
https://arxiv.org/abs/2412.08821
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import EventSpec, LatentTransform, Posterior, StatesFlops
from calmkit.nn.settings import latent_dim_of, require_at_least
from calmkit.transforms.seen import Moments, Reservoir

Method = Literal["standard", "robust"]
Per = Literal["dimension", "all"]


@final
class NormaliseTransform(LatentTransform, StatesFlops):
    """z' = (z - center) / scale.

    Where the values do not vary, as in a dead dimension, the scale is 1: they are only centered.

    Args:
        event: One latent vector, of D dimensions.
        layout: Of the units; it stays.
        method: `standard`: mean and standard deviation (over n). `robust`: median, and the range between the
            quartiles divided by 1.349, which is 1 for N(0, 1).
        per: `dimension`: a center and a scale for each. `all`: one for all values.
        reservoir: What `robust` reads the quantiles from: units for `dimension`, values for `all`. Up to so
            many seen they are exact; from more, a uniform sample is kept, always the same one.

    Attributes:
        center: `[D]` or `[1]`, a buffer.
        scale: `[D]` or `[1]`, a buffer; above 0.
        fitted: A buffer: true once `fit` was called, or weights were loaded that were saved after it.

    Raises:
        ValueError: A reservoir for nothing, or an event that is no latent vector.

    Source:
        Li et al., 2024; Barrault et al., 2024.
    """

    keeps_gaussians = True
    center: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(
        self,
        event: EventSpec,
        layout: tuple[int, ...] | None,
        *,
        method: Method = "standard",
        per: Per = "dimension",
        reservoir: int = 65_536,
    ) -> None:
        super().__init__()
        dim = latent_dim_of("normalise", event)
        require_at_least("normalise", 1, reservoir=reservoir)
        self.event, self.layout = event, layout
        self.method, self.per, self.reservoir = method, per, reservoir
        numbers = dim if per == "dimension" else 1
        self.register_buffer("center", torch.zeros(numbers))
        self.register_buffer("scale", torch.ones(numbers))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def forward(self, z: Float[Tensor, "*B L D"]) -> tuple[Float[Tensor, "*B L D"], Float[Tensor, "*B L"]]:
        """Normalised values, and -log of the scales' product for every unit.

        Raises:
            RuntimeError: Before it is fitted.
        """
        center, scale = self._numbers(z.dtype)
        log_det = -scale.log().expand(z.shape[-1]).sum()
        return (z - center) / scale, log_det.expand(z.shape[:-1])

    def inverse(self, z: Float[Tensor, "*B L D"]) -> Float[Tensor, "*B L D"]:
        """Values on the autoencoder's scale.

        Raises:
            RuntimeError: Before it is fitted.
        """
        center, scale = self._numbers(z.dtype)
        return z * scale + center

    def posterior(self, posterior: Posterior) -> Posterior:
        """Mean and width on the new scale.

        Raises:
            RuntimeError: Before it is fitted.
        """
        center, scale = self._numbers(posterior.mean.dtype)
        log_std = None if posterior.log_std is None else posterior.log_std - scale.log()
        return Posterior((posterior.mean - center) / scale, log_std)

    @torch.no_grad()
    def fit(self, batches: Iterable[Float[Tensor, "_ _ D"]]) -> None:
        """Measure center and scale, in float64. A second call forgets the first.

        Raises:
            ValueError: For no values at all, or some that are not finite.
        """
        seen = Moments() if self.method == "standard" else Reservoir(self.reservoir)
        resolution = None
        for index, z in enumerate(batches):
            values = z.detach().cpu().reshape(-1, self.center.numel())  # of all dimensions as one for `all`
            if not values.isfinite().all():
                raise ValueError(
                    f"normalise: batch {index} holds values that are not finite; see what the autoencoder "
                    "makes of it."
                )
            if len(values):
                seen.add(values)
                resolution = torch.finfo(values.dtype).eps
        if resolution is None:
            raise ValueError("normalise: fit was given no values; a training split with data would do.")
        center, scale = seen.center_and_scale()
        flat = scale <= 16 * resolution * center.abs()  # equal values leave the rounding of their mean
        self.center.copy_(center)
        self.scale.copy_(scale.masked_fill(flat, 1.0))
        self.fitted.fill_(True)

    def forward_flops(self, units: int) -> int:
        """0: it multiplies no matrices."""
        del units
        return 0

    def _numbers(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if not self.fitted.is_meta and not self.fitted:
            raise RuntimeError(
                "normalise is not fitted, so it has no scale yet: fit it to values of the training split, or "
                "load weights that were saved after that."
            )
        return self.center.to(dtype), self.scale.to(dtype)


@hookimpl
def calmkit_transforms() -> dict[str, type[LatentTransform]]:
    """Register this part."""
    return {"normalise": NormaliseTransform}
