"""The words of a number and the facts of a measure: impossible ones are refused where they are written."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.head_calls import head_log_prob
from calmkit.heads.energy import EnergyHead
from calmkit.heads.mixture import MixtureHead
from calmkit.interfaces import (
    Context,
    DensityHead,
    EventSpec,
    HeadInfo,
    HeldOut,
    MeasureInfo,
    Number,
    Posterior,
    SampleOptions,
)

WORDS: dict[str, Any] = {"label": "width", "better": "lower", "meaning": "How wide."}


def number(**other: Any) -> Number:
    return Number(**(WORDS | other))


def judged(cls: type, **fields: Any) -> None:
    """As the constructor would, without the tests' own checks of types, which users have not."""
    made = object.__new__(cls)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    made.__post_init__()


def test_the_unit_stands_behind_the_label() -> None:
    assert number().name == "width"
    assert number(unit="latent units").name == "width, latent units"
    assert number(unit="%").name == "width %"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"label": " "}, "label is one line of words, got ' '"),
        ({"label": "a\nb"}, "label is one line"),
        ({"better": "more"}, "'width': better is 'higher' or 'lower', got 'more'"),
        ({"meaning": "wide"}, "'width': its meaning is a sentence with a full stop, got 'wide'"),
        ({"digits": -1}, "digits are at least 0"),
        ({"factor": 0.0}, "the factor is above 0, got digits=3, factor=0.0"),
        ({"factor": float("nan")}, "the factor is above 0"),
    ],
)
def test_impossible_words_are_refused(words: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        judged(Number, **(WORDS | {"digits": 3, "factor": 1.0} | words))


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"numbers": {}}, "numbers is a Number, or a mapping of names and Numbers, got {}"),
        ({"numbers": {"a": "b"}}, "a mapping of names and Numbers"),
        ({"events": frozenset({"pictures"})}, r"events are some of \['continuous', 'tokens'\]"),
        ({"events": frozenset()}, "events are some of"),
        ({"needs": ("DensityHead",)}, "needs are classes such as DensityHead"),
    ],
)
def test_impossible_facts_are_refused(facts: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        judged(MeasureInfo, **({"numbers": number(), "needs": (), "events": frozenset({"tokens"})} | facts))


def test_numbers_are_stored_under_the_name_of_their_measure() -> None:
    assert list(MeasureInfo(number()).named("width")) == ["width"]
    several = MeasureInfo({"": number(), "spread": number()})
    assert list(several.named("w")) == ["w", "w_spread"]


def test_what_a_model_lacks_is_said_by_type() -> None:
    info = MeasureInfo(number(), needs=(DensityHead,), events=frozenset({"continuous"}))
    event = EventSpec((3,))
    density, draws = MixtureHead(4, event, num_components=1, depth=1), EnergyHead(4, event, depth=1)
    assert info.why_not(density, "continuous") == ""
    assert info.why_not(draws, "continuous") == "the head is no DensityHead"
    assert info.why_not(density, "tokens") == "it is of continuous events, and the model's are tokens"


class MemoryHead(DensityHead):
    """Its density of a unit is minus the unit's place in the row, so that a shuffled answer is seen."""

    info = HeadInfo(sampling="one_step", events=frozenset({"tokens"}), needs_memory=True)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        raise AssertionError("never called")

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        raise AssertionError("never called")

    def log_prob(self, context: Context, z: Tensor) -> Tensor:
        place = torch.arange(context.h.shape[1]).expand(context.h.shape[:2])
        return -place.to(torch.get_default_dtype()) - 100 * z[..., 0]


def held(head: Any, keep: Tensor) -> HeldOut:
    count = int(keep.sum())
    ids, autoencoder = torch.ones(count, 2, dtype=torch.long), TokenChunks(5, chunk_size=2)
    return HeldOut(
        head=head, autoencoder=autoencoder, context=Context(torch.zeros(*keep.shape, 4)), keep=keep,
        target=Posterior(ids), data=ids, rows=keep.nonzero()[:, 0], groups=None,
        draw=lambda num: (ids.expand(num or 2, -1, -1), ids.expand(num or 2, -1, -1)),
        density=partial(head_log_prob, head),
    )  # fmt: skip


def test_a_head_with_a_memory_gets_its_rows_whole_and_gives_the_units_that_count() -> None:
    keep = torch.tensor([[True, False, True], [False, True, True]])
    units = held(MemoryHead(), keep)
    assert units.log_prob(units.data).tolist() == [-100.0, -102.0, -101.0, -102.0]


def test_a_density_that_nobody_knows_is_refused_with_the_cure() -> None:
    units = held(EnergyHead(4, EventSpec((3,)), depth=1), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"EnergyHead knows no density; state needs=\(DensityHead,\)"):
        units.log_prob(units.data)
