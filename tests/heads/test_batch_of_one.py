"""A unit alone is what it is in a batch, for every head: its density, and its draws on given noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import FEW
from torch import Tensor

from calmkit.interfaces import Context, DensityHead, EventSpec, GenerativeHead, Posterior, SampleOptions
from calmkit.registry import make_manager

H, UNITS = 8, 5
MANAGER = make_manager(guests=[])
DENSITIES = {"mixture", "tied_mixture", "local_ar"}
LATENT, IDS, ONE_ID = EventSpec((3,)), EventSpec((3,), 5), EventSpec((1,), 5)
CASES: list[tuple[str, EventSpec, dict[str, Any]]] = [
    ("energy", LATENT, {"depth": 1, "noise_dim": 4, "num_targets": 6}),
    ("mixture", LATENT, {"depth": 1, "num_components": 3}),
    ("strata", LATENT, {"depth": 1, "noise_dim": 4, "num_codes": 3}),
    ("tied_mixture", LATENT, {"depth": 1, "num_components": 3}),
    ("mean_flow", LATENT, {"depth": 1}),
    ("consistency", LATENT, {"depth": 1}),
    ("regression", LATENT, {"depth": 1}),
    ("flow", LATENT, {"depth": 1, "num_steps": 3}),
    ("flow", LATENT, {"depth": 1, "num_steps": 3, "solver": "euler"}),
    ("diffusion", LATENT, {"depth": 1, "num_steps": 4}),
    ("diffusion", LATENT, {"depth": 1, "num_steps": 4, "scheduler": "ddim"}),
    ("diffusion", LATENT, {"depth": 1, "num_steps": 4, "scheduler": "ddpm"}),
    ("local_ar", IDS, {"depth": 1, "heads": 1}),
    ("local_ar", ONE_ID, {}),
]
every = pytest.mark.parametrize(("name", "event", "options"), CASES)


def make(name: str, event: EventSpec, options: dict[str, Any]) -> GenerativeHead:
    torch.manual_seed(0)
    head: GenerativeHead = MANAGER.build("heads", name, options, hidden_dim=H, event=event)
    for parameter in head.parameters():  # as after training: nothing is zero
        torch.nn.init.normal_(parameter, std=0.3)
    return head.double().eval()


@contextmanager
def noise_of(unit: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each random number is drawn for all UNITS, and this unit's are handed out."""

    def for_all(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def drawn(shape: tuple[int, ...], **options: Any) -> Tensor:
            num, units, *rest = shape
            assert units == 1
            return function((num, UNITS, *rest), **options)[:, unit : unit + 1]

        return drawn

    multinomial = torch.multinomial

    def chosen(p: Tensor, num: int, **options: Any) -> Tensor:
        """One row of probabilities for each unit, or for each draw of a unit, the draws outside."""
        draws = p.unsqueeze(1).expand(len(p), UNITS, -1).reshape(len(p) * UNITS, -1)
        return multinomial(draws, num, **options).view(len(p), UNITS, num)[:, unit]

    with monkeypatch.context() as patch:
        for name in ("randn", "rand"):
            patch.setattr(torch, name, for_all(getattr(torch, name)))
        patch.setattr(torch, "multinomial", chosen)
        yield


@every
@FEW
@given(seed=st.integers(0, 2**16), num=st.integers(1, 4))
@torch.no_grad()
def test_system_draws_on_given_noise(
    name: str, event: EventSpec, options: dict[str, Any], seed: int, num: int
) -> None:
    head = make(name, event, options)
    honoured = "generator" in head.info.options

    def draw(h: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed) if honoured else None
        return head.sample(Context(h), num, SampleOptions(generator=generator))

    h = torch.randn(UNITS, H, generator=torch.Generator().manual_seed(seed))
    together = draw(h)
    for unit in range(UNITS):
        with pytest.MonkeyPatch.context() as monkeypatch, noise_of(unit, monkeypatch):
            alone = draw(h[unit : unit + 1])
        torch.testing.assert_close(alone[:, 0], together[:, unit], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "event", "options"), [case for case in CASES if case[0] in DENSITIES])
@FEW
@given(seed=st.integers(0, 2**16))
@torch.no_grad()
def test_system_log_prob(name: str, event: EventSpec, options: dict[str, Any], seed: int) -> None:
    head = make(name, event, options)
    assert isinstance(head, DensityHead)
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(UNITS, H, generator=generator)
    if event.vocab_size is None:
        z = torch.randn(UNITS, *event.shape, generator=generator)
    else:
        z = torch.randint(event.vocab_size, (UNITS, *event.shape), generator=generator)
    together, loss = head.log_prob(Context(h), z), head.loss(Context(h), Posterior(z))
    for unit in range(UNITS):
        one = slice(unit, unit + 1)
        alone = head.log_prob(Context(h[one]), z[one])
        torch.testing.assert_close(alone, together[one], rtol=0, atol=1e-10)
        torch.testing.assert_close(-alone, loss[one], rtol=0, atol=1e-10)  # a point's loss is its density's


def test_every_head_is_here() -> None:
    heads = MANAGER.parts["heads"]
    assert {name for name, part in heads.items() if issubclass(part.cls, DensityHead)} == DENSITIES
    assert {case[0] for case in CASES} == set(MANAGER.parts["heads"])
