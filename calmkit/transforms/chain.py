"""Chain: the transforms of a model, one behind the other.

Source: Tabak and Vanden-Eijnden, Density estimation by dual ascent of the log-likelihood, 2010 (maps in a
row: their log-determinants add). https://doi.org/10.4310/CMS.2010.v8.n1.a11
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import cast, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from calmkit.interfaces import EventSpec, LatentTransform, Posterior


@final
class Chain(nn.Module):
    """Transforms in a row. An empty one is the identity, for values of any kind, with log_det 0.

    Args:
        event: Of the values that come in: the autoencoder's.
        layout: Of the units that come in.
        transforms: Each built with the event and the layout of the one before it.

    Attributes:
        event: Of the values that come out.
        layout: Of the units that come out.
    """

    def __init__(
        self,
        event: EventSpec,
        layout: tuple[int, ...] | None = None,
        transforms: Sequence[LatentTransform] = (),
    ) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.event = transforms[-1].event if transforms else event
        self.layout = transforms[-1].layout if transforms else layout
        self._came_in = event

    @property
    def keeps_gaussians(self) -> bool:
        """True where all of them do."""
        return all(transform.keeps_gaussians for transform in self._each())

    @property
    def learned(self) -> bool:
        """True where one of them is trained in stage 2."""
        return any(transform.learned for transform in self._each())

    def forward(
        self, z: Shaped[Tensor, "*B_L_event"]
    ) -> tuple[Shaped[Tensor, "*B_l_event"], Float[Tensor, "*B_l"]]:
        """Values -> transformed values and the summed log_det, nats, shared out to the units that come out.

        A log_det stays with its unit as long as the units do; where a transform gives another number of
        them, that of the row is shared out evenly.
        """
        units = z.shape[: z.dim() - len(self._came_in.shape)]
        dtype = z.dtype if z.is_floating_point() else torch.get_default_dtype()
        total = torch.zeros(units, dtype=dtype, device=z.device)
        for transform in self._each():
            z, log_det = transform(z)
            count = log_det.shape[-1]
            if count != total.shape[-1]:
                total = (total.sum(-1, keepdim=True) / count).expand(log_det.shape)
            total = total + log_det
        return z, total

    def inverse(self, z: Shaped[Tensor, "*B_l_event"]) -> Shaped[Tensor, "*B_L_event"]:
        """Back again, the last one first."""
        for transform in reversed(self._each()):
            z = transform.inverse(z)
        return z

    def posterior(self, posterior: Posterior) -> Posterior:
        """A diagonal Gaussian, or a point, transformed. A point goes through any transform.

        Raises:
            TypeError: For a Gaussian where one of them keeps none; it names that one.
        """
        for transform in self._each():
            posterior = _through(transform, posterior)
        return posterior

    def fit(self, batches: Iterable[Float[Tensor, "_ _ D"]]) -> None:
        """Fit each to the output of those before it, which goes over the batches once per transform.

        Args:
            batches: Values `[B, L, D]` of the training split, the same each time: a list, or a loader that
                does not shuffle. Transforms that need no fit don't ask for them.

        Raises:
            TypeError: For an iterator, which would be empty the second time.
        """
        if isinstance(batches, Iterator):
            raise TypeError(
                f"Chain.fit goes over its batches once per transform, and a {type(batches).__name__} can be "
                "gone over once; a list or a loader would do."
            )
        for place, transform in enumerate(self._each()):
            transform.fit(self._behind(batches, place))

    def _each(self) -> list[LatentTransform]:
        return list(cast(Iterable[LatentTransform], self.transforms))

    def _behind(self, batches: Iterable[Tensor], place: int) -> Iterator[Tensor]:
        """The batches as the transform at that place sees them, made when asked for."""
        for z in batches:
            with torch.no_grad():
                for transform in self._each()[:place]:
                    z = transform(z)[0]
            yield z


def _through(transform: LatentTransform, posterior: Posterior) -> Posterior:
    """A point is a value like any other; for a Gaussian the transform has its own answer."""
    if posterior.log_std is None and not transform.keeps_gaussians:
        return Posterior(transform(posterior.mean)[0])
    return transform.posterior(posterior)
