"""What only a second device shows, on one that is none. `tests/test_second_device.py` runs this file in a
process of its own, since torch keeps a device that it was once given.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import second_device
import torch
from second_device import NAME, Twin
from torch import Tensor, nn

from calmkit.interfaces import Context, EventSpec, GenerativeHead, HeadInfo, Posterior, SampleOptions
from calmkit.testing import (
    check_backbone,
    check_conditioner,
    check_embedder,
    check_head,
    check_order,
    check_sampler,
)

DEVICE = second_device.register()


def test_numbers_are_those_of_the_cpu_and_places_are_not() -> None:
    x = torch.randn(3, 4)
    there = x.to(DEVICE)
    assert isinstance(there, Twin)
    assert there.device.type == NAME
    assert torch.equal((there * 2 + 1).cpu(), x * 2 + 1)
    assert torch.zeros(2, device=DEVICE).device == there[there > 0].device == there.device
    assert torch.tensor([1, 2], device=DEVICE).device == there.device


FAULTS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "a tensor left on the CPU": (lambda x: x + torch.ones(3), r"add: a tensor \[3\] of the CPU"),
    "a mask left on the CPU": (lambda x: x[torch.ones(3, dtype=torch.bool)], "of the CPU among those"),
    "a generator of the CPU": (
        lambda x: torch.randn(3, device=x.device, generator=torch.Generator()),
        "a generator of the cpu",
    ),
    "a device's numbers as NumPy's": (lambda x: x.numpy(), "numpy"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_the_cpu_forgives_is_seen(fault: str) -> None:
    does, said = FAULTS[fault]
    does(torch.ones(3))
    with pytest.raises(RuntimeError, match=said):
        does(torch.ones(3).to(DEVICE))


def test_what_was_moved_is_no_leaf() -> None:
    draws = torch.randn(3).requires_grad_()
    assert draws.to(torch.device("cpu")).is_leaf
    assert not draws.to(DEVICE).is_leaf
    assert draws.detach().to(DEVICE, copy=True).requires_grad_().is_leaf


def test_its_randomness_is_its_own() -> None:
    torch.manual_seed(0)
    here = torch.randn(3)
    torch.manual_seed(0)
    torch.randn(3, device=DEVICE)
    assert torch.equal(torch.randn(3), here)


class Stays(GenerativeHead):
    """Shifts by numbers that it makes anew, on the CPU wherever it is."""

    info = HeadInfo(sampling="one_step")

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__()
        self.project = nn.Linear(hidden_dim, event.shape[0])

    def loss(self, context: Context, target: Posterior) -> Tensor:
        shift = torch.ones(target.mean.shape[-1], dtype=target.mean.dtype)
        return (self.project(context.h) + shift - target.mean).square().sum(-1)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        self.info.accept(options)
        return self.project(context.h).expand(num, *context.h.shape[:-1], -1)


def test_the_kit_names_a_head_that_stays_on_the_cpu() -> None:
    said = (
        r"'dtype and device follow the input': loss\(.* raised RuntimeError: add: a tensor \[6\] of the CPU"
    )
    with pytest.raises(AssertionError, match=said):
        check_head(Stays)


def test_parts_of_every_kind_keep_their_laws_there() -> None:
    check_head("regression", depth=1)
    check_head("mixture", num_components=2, depth=1)
    check_embedder("tokens")
    check_backbone("transformer", hidden_dim=8, depth=1, heads=2)
    check_backbone("any_order", hidden_dim=8, depth=1, heads=2, buffer=1)
    check_conditioner("label")
    check_conditioner("prefix")
    check_order("left_to_right")
    check_order("random", steps=4)
    check_order("confidence", steps=4)
    check_sampler("vote", candidates=8)
