"""How a head is called: in the precision that its `HeadInfo` allows, and never with zero units.

Whoever wants something of a head asks here, with or without a model; no other line of the program calls one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from calmkit.interfaces import (
    Context,
    DensityHead,
    GenerativeHead,
    Guided,
    GuidedHead,
    PlacewiseHead,
    Posterior,
    SampleOptions,
    ScheduledHead,
    TakesDraws,
    WeightedHead,
)
from calmkit.interfaces import UnitLoss as UnitLoss  # others import it from here

HALF = (torch.bfloat16, torch.float16)


def unit_loss(
    head: GenerativeHead, context: Context, target: Posterior, keep: Bool[Tensor, "B L"]
) -> UnitLoss:
    """The head's loss of some units of rows `[B, L]`; a head that reads the past is asked of whole rows."""
    if head.info.needs_memory:
        return UnitLoss(head_loss(head, context, target)[keep], keep)
    return UnitLoss(head_loss(head, context[keep], target[keep]), keep)


def head_loss(head: GenerativeHead, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
    """The head's loss of each unit, as its facts ask to be called.

    Of a target that is known by draws a head that is no `TakesDraws` gets one, as a point.
    """
    if context.h[..., 0].numel() == 0:
        return context.h.sum(-1)
    if target.values is not None and not isinstance(head, TakesDraws):
        target = Posterior(target.sample(1)[0])
    with _precision_of(head, context.h.device):
        if head.info.half_precision:
            return head.loss(context, target)
        return head.loss(_wide_context(context), _wide_target(target))


def tell_progress(head: GenerativeHead, fraction: float) -> None:
    """Before a loss: which fraction of the training is done, for a head that goes by it; 1 to measure it."""
    if isinstance(head, ScheduledHead):
        head.at_progress(min(1.0, fraction))


def head_log_prob(
    head: DensityHead, context: Context, z: Shaped[Tensor, "*units_and_event"]
) -> Float[Tensor, "*units"]:
    """The head's log density of each value, as its facts ask to be called."""
    if context.h[..., 0].numel() == 0:
        return context.h.sum(-1)
    with _precision_of(head, context.h.device):
        if head.info.half_precision:
            return head.log_prob(context, z)
        return head.log_prob(_wide_context(context), _wide(z))


def head_place_log_probs(
    head: PlacewiseHead, context: Context, z: Shaped[Tensor, "*units K"]
) -> Float[Tensor, "*units K V"]:
    """The log probability of every id at every place, of one unit at least, as its facts ask to be called."""
    with _precision_of(head, context.h.device):
        return head.place_log_probs(context if head.info.half_precision else _wide_context(context), z)


def head_draws(
    head: GenerativeHead, context: Context, num: int = 1, options: SampleOptions | None = None
) -> Shaped[Tensor, "num *units_and_event"]:
    """`num` draws of each unit, of which there is one at least, as the head's facts ask to be called."""
    with _precision_of(head, context.h.device):
        return head.sample(context if head.info.half_precision else _wide_context(context), num, options)


def head_weighted_draws(
    head: WeightedHead, context: Context, options: SampleOptions | None = None
) -> tuple[Float[Tensor, "*units M"], Shaped[Tensor, "M *units_and_event"]]:
    """The head's log weights and one value for each, of one unit at least, as its facts ask to be called."""
    with _precision_of(head, context.h.device):
        return head.weighted_draws(context if head.info.half_precision else _wide_context(context), options)


def guided_draws(
    head: GenerativeHead, guided: Guided, num: int = 1, options: SampleOptions | None = None
) -> Shaped[Tensor, "num *units_and_event"]:
    """`num` draws of each unit under an affine combination of conditions, taken where the head says.

    Terms of weight 0 are left out. One term that is left is `head_draws`, bit for bit, for any head.

    Args:
        head: Its `info.guidance` says where the combination is taken.
        guided: Conditions of the same units and their weights, the condition wished for before the null ones.
        num: Draws per unit.
        options: Of each draw.

    Raises:
        ValueError: If the weights do not sum to 1, the head can't be guided, or it refuses the combination.
    """
    total = sum(weight for _, weight in guided)
    if not abs(total - 1) <= 1e-6:  # also refuses NaN
        weights = ", ".join(f"{weight:g}" for _, weight in guided)
        raise ValueError(f"guided_draws: weights must sum to 1, got {weights}; w and 1 - w would do.")
    terms = tuple((context, float(weight)) for context, weight in guided if weight != 0)
    if len(terms) == 1:
        return head_draws(head, terms[0][0], num, options)
    if isinstance(head, GuidedHead):
        if not head.info.half_precision:
            terms = tuple((_wide_context(context), weight) for context, weight in terms)
        with _precision_of(head, terms[0][0].h.device):
            return head.sample_guided(terms, num, options)
    if head.info.guidance == "none":
        name = type(head).__name__
        raise ValueError(
            f"{name} can't be guided (its HeadInfo.guidance is 'none'), and {len(terms)} conditions came; "
            "guidance 1 would do."
        )
    mixed = torch.stack([weight * _wide(context.h) for context, weight in terms]).sum(0)
    return head_draws(head, Context(mixed.to(terms[0][0].h.dtype)), num, options)


@contextmanager
def _precision_of(head: GenerativeHead, device: torch.device) -> Iterator[None]:
    """Outside autocast for a head that does not hold in half precision.

    Raises:
        ValueError: If the weights of such a head are of half precision.
    """
    if head.info.half_precision:
        yield
        return
    half = next((name for name, value in head.named_parameters() if value.dtype in HALF), None)
    if half is not None:
        name = type(head).__name__
        raise ValueError(
            f"{name} does not hold in half precision (its HeadInfo.half_precision is false), and its "
            f"parameter '{half}' is of half precision; keep the model in float32 and use autocast."
        )
    with torch.autocast(device.type, enabled=False):
        yield


def _wide(value: Tensor) -> Tensor:
    return value.float() if value.dtype in HALF else value


def _wide_target(target: Posterior) -> Posterior:
    log_std, values, weights = (
        None if value is None else _wide(value) for value in (target.log_std, target.values, target.weights)
    )
    return Posterior(_wide(target.mean), log_std, values, weights)


def _wide_context(context: Context) -> Context:
    memory = None if context.memory is None else _wide(context.memory)
    return Context(_wide(context.h), memory, context.visible)
