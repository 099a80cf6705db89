"""What a part that does not learn costs in a step: its forward pass, and gradients that go through it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from calmkit.interfaces import Embedder, StatesFlops


def with_frozen(
    training: Mapping[str, int], parts: Mapping[str, tuple[nn.Module, int]], in_front: Iterable[nn.Module]
) -> dict[str, int]:
    """FLOPs of a training step by part, less what frozen parts save; as given where no part learns at all,
    as in a model that only writes.

    Args:
        training: Part -> FLOPs if all learned (measured ones: without gradients of frozen weights).
        parts: The same parts in the order in which a row passes them, each with its units.
        in_front: What the first of them reads from.
    """
    found, passed = dict(training), [*in_front]
    if not any(_learns(part) for part in [*passed, *(part for part, _ in parts.values())]):
        return found
    for name, (part, units) in parts.items():
        if not _learns(part) and any(True for _ in part.parameters()):
            found[name] = _frozen(part, units, training[name], any(map(_learns, passed)))
        passed.append(part)
    return found


def _learns(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters())


def _frozen(part: nn.Module, units: int, whole: int, through: bool) -> int:
    """The forward pass, and where gradients go through half of the backward pass: those for the inputs."""
    if isinstance(part, StatesFlops):
        once = part.forward_flops(units)
        back = (whole - once) // 2
    else:  # measured, so without the gradients of its weights; an embedder has no other inputs
        once = whole if isinstance(part, Embedder) else whole // 2
        back = whole - once
    return once + back if through else once
