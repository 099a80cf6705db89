"""The laws of heads whose loss moves while they are trained."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from calmkit.interfaces import EventSpec, ScheduledHead
from calmkit.testing import laws
from calmkit.testing.density import make_context, make_target
from calmkit.testing.laws import Subject

FRACTIONS = (0.0, 0.3, 1.0)


def loss_on_the_way(head: ScheduledHead, event: EventSpec, units: tuple[int, ...]) -> Tensor:
    """The losses of several fractions together: a parameter may matter at some of them only. The head is left
    at the end of its training.
    """
    context, target = make_context(head, units), make_target(event, units)
    total = torch.zeros((), dtype=context.h.dtype)
    for fraction in FRACTIONS:
        head.at_progress(fraction)
        total = total + head.loss(context, target).mean()
    return total


@laws.law("the loss at a fraction of the training depends on that fraction alone")
def check_schedule(part: Subject, head: ScheduledHead, event: EventSpec) -> None:
    """A head is built at the end of its training, goes anywhere from anywhere, and saves nothing of it.

    It is left at the end of its training.
    """
    law = "a head is built at the end of its training"
    _close(part, event, law, part.build(laws.HIDDEN_DIM, event), [1.0])
    law = "the loss at a fraction of the training depends on that fraction alone"
    for fraction in FRACTIONS:
        for way in ([fraction, fraction], [1.0, 0.0, 0.6, fraction]):
            _close(part, event, law, _at(part, event, fraction), way)
    _check_saved(part, head, event)
    _check_gradients(part, head, event)


def _at(part: Subject, event: EventSpec, fraction: float) -> ScheduledHead:
    head: ScheduledHead = part.build(laws.HIDDEN_DIM, event)
    head.at_progress(fraction)
    return head


def _close(part: Subject, event: EventSpec, law: str, straight: ScheduledHead, way: list[float]) -> None:
    """One that was told a fraction, and one that gave two losses at every fraction of a way there."""
    other: ScheduledHead = part.build(laws.HIDDEN_DIM, event)
    context, target = make_context(straight, (2, 5)), make_target(event, (2, 5))
    for fraction in way:
        other.at_progress(fraction)
        reached = [laws.with_seed(0, other.loss, context, target) for _ in range(2)]
    expected = laws.with_seed(0, straight.loss, context, target)
    told = " -> ".join(f"{fraction:g}" for fraction in way)
    seen = f"told {told}, a fresh head has another loss than it should"
    part.require(all(torch.equal(expected, loss) for loss in reached), law, seen)


def _check_saved(part: Subject, head: ScheduledHead, event: EventSpec) -> None:
    law = "how far training is stays out of the state_dict"
    states = []
    for fraction in FRACTIONS:
        head.at_progress(fraction)
        head.loss(make_context(head, (2, 5)), make_target(event, (2, 5)))
        states.append({name: value.clone() for name, value in head.state_dict().items()})
    for one, other in itertools.pairwise(states):
        odd = one.keys() ^ other.keys() or {n for n in one if not torch.equal(one[n], other[n])}
        part.require(not odd, law, f"{sorted(odd)} changed with the fraction")


def _check_gradients(part: Subject, head: ScheduledHead, event: EventSpec) -> None:
    law = "every parameter has a gradient at every fraction"
    for fraction in FRACTIONS:
        head.at_progress(fraction)
        head.zero_grad(set_to_none=True)
        head.loss(make_context(head, (2, 5)), make_target(event, (2, 5))).mean().backward()
        missing = [n for n, p in head.named_parameters() if p.requires_grad and p.grad is None]
        part.require(not missing, law, f"none for {missing} at {fraction:g}; DDP needs all in every step")
    head.zero_grad(set_to_none=True)
