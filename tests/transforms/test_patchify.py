"""A grid of sixteen numbers, cut up by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from calmkit.interfaces import EventSpec, Posterior
from calmkit.transforms.patchify import PatchifyTransform


def test_four_by_four_by_hand() -> None:
    transform = PatchifyTransform(EventSpec((1,)), (4, 4), patch=2)
    assert (transform.event, transform.layout) == (EventSpec((4,)), (2, 2))
    # 0  1 |  2  3
    # 4  5 |  6  7
    # -----+------
    # 8  9 | 10 11
    # 12 13| 14 15
    out, log_det = transform(torch.arange(16.0).reshape(16, 1))
    assert out.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert log_det.tolist() == [0, 0, 0, 0]
    assert transform.inverse(out).flatten().tolist() == list(range(16))


def test_within_a_patch_the_dimension_comes_first() -> None:
    transform = PatchifyTransform(EventSpec((2,)), (2, 4), patch=2)
    assert (transform.event, transform.layout) == (EventSpec((8,)), (1, 2))
    z = torch.stack([torch.arange(8.0), 100 + torch.arange(8.0)], -1)
    out = transform(z)[0]
    assert out.tolist() == [[0, 1, 4, 5, 100, 101, 104, 105], [2, 3, 6, 7, 102, 103, 106, 107]]


def test_it_is_what_torch_does_to_channels() -> None:
    transform = PatchifyTransform(EventSpec((3,)), (6, 9), patch=3)
    z = torch.randn(2, 5, 54, 3)
    rows = z.reshape(10, 6, 9, 3).permute(0, 3, 1, 2)
    wanted = F.pixel_unshuffle(rows, 3).permute(0, 2, 3, 1).reshape(2, 5, 6, 27)
    assert torch.equal(transform(z)[0], wanted)


def test_the_width_goes_where_its_mean_goes() -> None:
    transform = PatchifyTransform(EventSpec((1,)), (2, 2))
    mean, log_std = torch.tensor([[1.0], [2.0], [3.0], [4.0]]), torch.tensor([[-1.0], [-2.0], [-3.0], [-4.0]])
    found = transform.posterior(Posterior(mean, log_std))
    assert found.mean.tolist() == [[1, 2, 3, 4]]
    assert found.log_std is not None
    assert found.log_std.tolist() == [[-1, -2, -3, -4]]
    assert transform.posterior(Posterior(mean)).log_std is None


def test_layouts_that_cannot_be_cut_are_refused() -> None:
    event = EventSpec((3,))
    for layout in (None, (8,), (2, 2, 2)):
        with pytest.raises(ValueError, match="patchify: the units must lie in a grid of two dimensions, got"):
            PatchifyTransform(event, layout)
    for layout in ((4, 6), (6, 4)):
        with pytest.raises(
            ValueError, match=r"patchify: patch 3 does not divide the grid .* one of \[1, 2\]"
        ):
            PatchifyTransform(event, layout, patch=3)
    with pytest.raises(ValueError, match="patchify: patch must be at least 1, got 0"):
        PatchifyTransform(event, (4, 4), patch=0)
    with pytest.raises(ValueError, match="patchify: event must be one latent vector"):
        PatchifyTransform(EventSpec((3,), vocab_size=5), (4, 4))
