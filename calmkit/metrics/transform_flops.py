"""FLOPs of the transforms of a model, over a row: each says its own, or is measured as other parts are.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, Table 1 (what a row costs).
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor

from calmkit.interfaces import PASSES, EventSpec, LatentTransform, StatesFlops, StatesTrainingFlops
from calmkit.metrics.made_up import MadeUpInput
from calmkit.metrics.measured_flops import copied, flops_of, flops_with_gradients, given
from calmkit.transforms.chain import Chain

Transforms = LatentTransform | Chain


def members(transform: Transforms) -> list[LatentTransform]:
    """The transforms of a chain, or the one that there is."""
    if isinstance(transform, Chain):
        return list(cast(Iterable[LatentTransform], transform.transforms))
    return [transform]


def transform_training_flops(transform: Transforms, coded: MadeUpInput, event: EventSpec) -> int:
    """FLOPs of a row in a step of training: forward and backward of what learns, forward of the rest.

    Args:
        transform: Of a model.
        coded: The values as the autoencoder gives them.
        event: Of these values.
    """
    return sum(_training(part, before, units) for part, before, units in _places(transform, coded, event))


def transform_inverse_flops(transform: Transforms, coded: MadeUpInput, event: EventSpec) -> int:
    """FLOPs of taking a whole row back; arguments as above."""
    return sum(_inverse(part, before, units) for part, before, units in _places(transform, coded, event))


def _places(
    transform: Transforms, coded: MadeUpInput, event: EventSpec
) -> Iterator[tuple[LatentTransform, tuple[int, ...], int]]:
    """Each with the shape of the row that it reads, `(L, *E)`, and the number of units that it gives."""
    units = coded.units
    for part in members(transform):
        before, units = (units, *event.shape), units if part.layout is None else math.prod(part.layout)
        yield part, before, units
        event = part.event


def _training(part: LatentTransform, row: tuple[int, ...], units: int) -> int:
    if isinstance(part, StatesTrainingFlops) and part.learned:
        return part.training_flops(units)
    if isinstance(part, StatesFlops):
        return (PASSES if part.learned else 1) * part.forward_flops(units)
    learned = part.learned
    with copied(part) as (part, device, dtype):
        z = _fitted_row(part, row, device, dtype)
        if not learned:
            return flops_of(lambda: part(z))
        z = given(z)
        return flops_with_gradients(part, lambda: part(z)[0], [z])


def _inverse(part: LatentTransform, row: tuple[int, ...], units: int) -> int:
    if isinstance(part, StatesFlops):
        return part.forward_flops(units)
    with torch.no_grad(), copied(part) as (part, device, dtype):
        z = part(_fitted_row(part, row, device, dtype))[0]
        return flops_of(lambda: part.inverse(z))


def _fitted_row(
    part: LatentTransform, row: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Tensor:
    """`[1, L, *E]`; the transform, a copy, is fitted to some like it, for it may refuse before that."""
    values = torch.randn(8, *row, device=device, dtype=dtype)
    part.fit([values])
    return values[:1]
