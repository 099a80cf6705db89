"""Coupling blocks by hand, the determinant of their Jacobian, and what mixes with what."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from calmkit.interfaces import EventSpec, Posterior
from calmkit.transforms.adaptor import AdaptorTransform

CASES = [((4,), None), ((5,), None), ((4,), (2, 3)), ((5,), (3, 2))]


class Times(nn.Module):
    """A function whose values can be worked out in the head."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x.square()


def disturbed(transform: AdaptorTransform) -> AdaptorTransform:
    """With weights as after some training: none is zero."""
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return transform


def test_two_blocks_by_hand() -> None:
    transform = AdaptorTransform(EventSpec((2,)), None, blocks=2)
    transform.blocks[0], transform.blocks[1] = Times(2.0), Times(3.0)
    # (a, b) = (1, 10): b becomes 10 + 2 * 1 = 12, then a becomes 1 + 3 * 144 = 433
    out, log_det = transform(torch.tensor([[1.0, 10.0], [0.0, 0.0]]))
    assert out.tolist() == [[433, 12], [0, 0]]
    assert log_det.tolist() == [0, 0]
    assert transform.inverse(out).tolist() == [[1, 10], [0, 0]]


@pytest.mark.parametrize(("shape", "layout"), CASES)
def test_at_first_it_is_the_identity_bit_for_bit(
    shape: tuple[int, ...], layout: tuple[int, ...] | None
) -> None:
    z = torch.randn(2, 6, *shape)
    for dtype in (torch.float32, torch.float64):
        transform = AdaptorTransform(EventSpec(shape), layout).to(dtype)
        assert torch.equal(transform(z.to(dtype))[0], z.to(dtype))


@pytest.mark.parametrize(("shape", "layout"), CASES)
def test_g5_the_jacobian_has_determinant_one(shape: tuple[int, ...], layout: tuple[int, ...] | None) -> None:
    transform = disturbed(AdaptorTransform(EventSpec(shape), layout, blocks=3))
    z = torch.randn(6, *shape)
    jacobian = torch.autograd.functional.jacobian(lambda z: transform(z)[0], z).reshape(z.numel(), -1)
    assert (jacobian - torch.eye(z.numel())).abs().max() > 0.1
    torch.testing.assert_close(torch.linalg.det(jacobian), torch.tensor(1.0))
    torch.testing.assert_close(transform.inverse(transform(z)[0]), z)


def test_neighbours_mix_on_a_grid_and_nowhere_else() -> None:
    for layout, mixing, alone in (((2, 3), None, False), ((2, 3), "unit", True), (None, None, True)):
        transform = disturbed(AdaptorTransform(EventSpec((4,)), layout, blocks=2, mixing=mixing))  # type: ignore[arg-type]
        z = torch.randn(6, 4)
        moved = z.clone()
        moved[0] += 1
        same = (transform(moved)[0] == transform(z)[0]).all(-1)
        assert same[1:].all() == alone
        assert not same[0]


def test_right_and_down_are_what_the_layout_says() -> None:
    # one block that adds to each unit's second number the first number of its right, or lower, neighbour
    z = torch.stack([torch.arange(1.0, 7.0), torch.zeros(6)], -1)  # 1 2 3 over 4 5 6
    for place, wanted in (((1, 2), [2, 3, 0, 5, 6, 0]), ((2, 1), [4, 5, 6, 0, 0, 0])):
        transform = AdaptorTransform(EventSpec((2,)), (2, 3), blocks=1)
        look = nn.Conv2d(1, 1, 3, padding="same", bias=False)
        nn.init.zeros_(look.weight)
        with torch.no_grad():
            look.weight[0, 0, place[0], place[1]] = 1
        transform.blocks[0] = look
        assert transform(z)[0][:, 1].tolist() == wanted


def test_its_width_follows_the_dimensions_of_the_official_code() -> None:
    # D = 16: halves of 8, inner convolutions of 32 channels (a bottleneck of 4 * 16, halved), 3 x 3
    transform = AdaptorTransform(EventSpec((16,)), (16, 16))
    kernels = [p.shape for p in transform.parameters() if p.dim() == 4]
    assert kernels == [(32, 8, 3, 3), (32, 32, 3, 3), (8, 32, 3, 3)] * 8


@pytest.mark.parametrize(("shape", "layout"), CASES)
def test_the_flops_stated_are_those_counted(shape: tuple[int, ...], layout: tuple[int, ...] | None) -> None:
    transform = AdaptorTransform(EventSpec(shape), layout, blocks=2)
    with FlopCounterMode(display=False) as counter:
        transform(torch.randn(1, 6, *shape))
    assert transform.forward_flops(6) == counter.get_total_flops()


def test_it_keeps_no_gaussian_and_says_so() -> None:
    transform = AdaptorTransform(EventSpec((4,)), None)
    with pytest.raises(TypeError, match="AdaptorTransform keeps no Gaussian; draw a value"):
        transform.posterior(Posterior(torch.zeros(2, 4), torch.zeros(2, 4)))


def test_what_cannot_be_built_is_refused() -> None:
    event = EventSpec((4,))
    with pytest.raises(ValueError, match="adaptor: a vector of 1 dimension has no two halves"):
        AdaptorTransform(EventSpec((1,)), None)
    with pytest.raises(ValueError, match=r"adaptor: mixing 'grid' needs .* got layout \(6,\)"):
        AdaptorTransform(event, (6,), mixing="grid")
    with pytest.raises(ValueError, match="adaptor: blocks must be at least 1, got 0"):
        AdaptorTransform(event, None, blocks=0)
    with pytest.raises(ValueError, match="adaptor: width must be at least 2, got 1"):
        AdaptorTransform(event, None, width=1)
