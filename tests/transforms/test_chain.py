"""Transforms in a row: order, shared log_det, fits one behind the other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from calmkit.interfaces import EventSpec, LatentTransform, Posterior
from calmkit.transforms.adaptor import AdaptorTransform
from calmkit.transforms.chain import Chain
from calmkit.transforms.normalise import NormaliseTransform
from calmkit.transforms.patchify import PatchifyTransform

EVENT = EventSpec((2,))
GRID = (2, 4)


class Ramp(LatentTransform):
    """Unit i is doubled i times: a log_det that differs between units."""

    keeps_gaussians = True

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__()
        self.event, self.layout = event, layout

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        factor = 2.0 ** torch.arange(z.shape[-2])
        return z * factor[:, None], (z.shape[-1] * factor.log()).expand(z.shape[:-1])

    def inverse(self, z: Tensor) -> Tensor:
        return z / 2.0 ** torch.arange(z.shape[-2])[:, None]


def trained(transform: AdaptorTransform) -> AdaptorTransform:
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return transform


def three() -> Chain:
    """Normalise, patchify, adaptor."""
    adaptor = trained(AdaptorTransform(EventSpec((8,)), (1, 2), blocks=2))
    return Chain(
        EVENT, GRID, [NormaliseTransform(EVENT, GRID), PatchifyTransform(EVENT, GRID, patch=2), adaptor]
    )


def test_an_empty_one_gives_back_what_it_was_given() -> None:
    chain, z = Chain(EVENT, GRID), torch.randn(3, 8, 2)
    out, log_det = chain(z)
    assert out is z
    assert torch.equal(log_det, torch.zeros(3, 8))
    assert chain.inverse(z) is z
    given = Posterior(z, z)
    assert chain.posterior(given) is given
    chain.fit([z])
    assert (chain.event, chain.layout) == (EVENT, GRID)
    assert (chain.keeps_gaussians, chain.learned) == (True, False)
    assert chain.state_dict() == {}


def test_an_empty_one_takes_ids_and_values_of_any_shape() -> None:
    ids = torch.randint(9, (2, 5, 3))
    out, log_det = Chain(EventSpec((3,), vocab_size=9))(ids)
    assert out is ids
    assert torch.equal(log_det, torch.zeros(2, 5))
    assert Chain(EventSpec((3, 4)))(torch.randn(2, 5, 3, 4))[1].shape == (2, 5)


def test_the_last_says_what_comes_out() -> None:
    chain = three()
    assert (chain.event, chain.layout) == (EventSpec((8,)), (1, 2))
    assert (chain.keeps_gaussians, chain.learned) == (False, True)
    assert Chain(EVENT, GRID, [NormaliseTransform(EVENT, GRID)]).keeps_gaussians
    assert len(chain.state_dict()) == 3 + 2 * 7


def test_log_det_is_that_of_all_and_the_inverse_undoes_all() -> None:
    chain = three()
    z = 4 + 3 * torch.randn(5, 8, 2)
    chain.fit([z])
    out, log_det = chain(z)
    torch.testing.assert_close(chain.inverse(out), z)
    jacobian = torch.autograd.functional.jacobian(lambda row: chain(row)[0], z[0]).reshape(16, 16)
    torch.testing.assert_close(log_det[0].sum(), torch.linalg.slogdet(jacobian)[1])
    assert log_det.shape == (5, 2)


def test_a_log_det_stays_with_its_unit_until_the_units_change() -> None:
    z = torch.ones(1, 8, 2)
    same = Chain(EVENT, GRID, [Ramp(EVENT, GRID), Ramp(EVENT, GRID)])
    # two dimensions doubled i times by either: 4 i log 2 nats
    torch.testing.assert_close(same(z)[1][0], 4 * math.log(2) * torch.arange(8.0))
    fewer = Chain(EVENT, GRID, [Ramp(EVENT, GRID), PatchifyTransform(EVENT, GRID)])
    # 2 (0 + 1 + ... + 7) log 2 = 56 log 2 nats, half for either
    torch.testing.assert_close(fewer(z)[1][0], torch.full((2,), 28 * math.log(2)))


def test_each_is_fitted_to_what_those_before_it_give() -> None:
    first = NormaliseTransform(EVENT, GRID, per="all")
    second = NormaliseTransform(EventSpec((8,)), (1, 2))
    chain = Chain(EVENT, GRID, [first, PatchifyTransform(EVENT, GRID), second])
    batches = [5 + 2 * torch.randn(50, 8, 2), 9 * torch.randn(30, 8, 2)]
    chain.fit(batches)
    out = chain(torch.cat(batches))[0].flatten(0, 1)
    torch.testing.assert_close(out.mean(0), torch.zeros(8))
    torch.testing.assert_close(out.std(0, correction=0), torch.ones(8))
    alone = NormaliseTransform(EVENT, GRID, per="all")
    alone.fit(batches)
    assert torch.equal(first.center, alone.center)
    with pytest.raises(TypeError, match="once per transform, and a generator can be gone over once; a list"):
        chain.fit(z for z in batches)


def test_batches_are_made_only_for_those_who_ask() -> None:
    class Costly(list):  # type: ignore[type-arg]
        def __iter__(self) -> object:  # type: ignore[override]
            raise AssertionError("asked for")

    Chain(EVENT, GRID, [PatchifyTransform(EVENT, GRID)]).fit(Costly())
    with pytest.raises(AssertionError, match="asked for"):
        Chain(EVENT, GRID, [NormaliseTransform(EVENT, GRID)]).fit(Costly())


def test_a_gaussian_goes_through_those_that_keep_it() -> None:
    chain = Chain(EVENT, GRID, [NormaliseTransform(EVENT, GRID), PatchifyTransform(EVENT, GRID)])
    chain.fit([4 + 3 * torch.randn(5, 8, 2)])
    mean, log_std = torch.randn(8, 2), torch.randn(8, 2)
    found = chain.posterior(Posterior(mean, log_std))
    torch.testing.assert_close(found.mean, chain(mean)[0])
    # an affine map: the image of mean + std is the new mean + the new std
    assert found.log_std is not None
    torch.testing.assert_close(found.mean + found.log_std.exp(), chain(mean + log_std.exp())[0])


def test_where_one_keeps_no_gaussian_a_point_goes_through_and_a_gaussian_is_refused() -> None:
    chain = three()
    chain.fit([torch.randn(5, 8, 2)])
    given = Posterior(torch.randn(8, 2), torch.full((8, 2), -1.0))
    with pytest.raises(TypeError, match="AdaptorTransform keeps no Gaussian"):
        chain.posterior(given)
    point = chain.posterior(Posterior(given.mean))
    torch.testing.assert_close(point.mean, chain(given.mean)[0])
