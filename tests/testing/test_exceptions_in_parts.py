"""What goes wrong inside a part is told as the law that was being checked and the call behind it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from test_broken_parts import Coder, Head, Line, Reader, Second
from torch import Tensor, nn

from calmkit.interfaces import (
    Choice,
    Context,
    Draw,
    Ended,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    Job,
    Launcher,
    LossOutput,
    Posterior,
    SampleOptions,
)
from calmkit.testing import (
    check_autoencoder,
    check_backbone,
    check_embedder,
    check_head,
    check_launcher,
    check_sampler,
)


class WrongSplit(Head):
    """Splits its condition into parts that it does not have."""

    def loss(self, context: Context, target: Posterior) -> Tensor:
        first, _ = context.h.split([3, 4], dim=-1)
        return super().loss(context, target) + first.sum(-1)


class FlatUnits(Head):
    """Counts on one leading dimension."""

    def loss(self, context: Context, target: Posterior) -> Tensor:
        (units, _) = context.h.shape
        return super().loss(context, target).view(units)


class Asserts(Head):
    """Says what it needs by an assertion, as its own authors would."""

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        assert num != 3, "three is too many"
        return super().sample(context, num, options)


class Nothing(Head):
    """Returns no loss."""

    def loss(self, context: Context, target: Posterior) -> Tensor:
        super().loss(context, target)
        return None  # type: ignore[return-value]


class OtherSignature(Head):
    """Cannot be called as the contract has it."""

    def sample(self, context: Context) -> Tensor:  # type: ignore[override]
        return super().sample(context, 1)


class Unbuilt(Head):
    """Cannot be built."""

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__(hidden_dim, event)
        nn.Linear(hidden_dim, event.shape[1])


class InAList(Head):
    """Keeps its layers in a list, where torch does not find them."""

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__(hidden_dim, event)
        self.layers = [nn.Linear(hidden_dim, hidden_dim) for _ in range(2)]


class Loose(Head):
    """Keeps a tensor that would stay behind when the head moves."""

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__(hidden_dim, event)
        self.grid = torch.linspace(0, 1, 5)


class Counting(Head):
    """Its loss grows with every call."""

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__(hidden_dim, event)
        self.calls = 0

    def loss(self, context: Context, target: Posterior) -> Tensor:
        self.calls += 1
        return super().loss(context, target) + 0.1 * self.calls


class Running(Head):
    """Keeps a running mean of its targets in train mode, and subtracts it."""

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__(hidden_dim, event)
        self.register_buffer("mean", torch.zeros(event.shape))

    def loss(self, context: Context, target: Posterior) -> Tensor:
        if self.training and target.mean.ndim > 1:
            self.mean = 0.9 * self.mean + 0.1 * target.mean.detach().flatten(0, -2).mean(0)
        return super().loss(context, Posterior(target.mean - self.mean, target.log_std))


class Overclaims(GenerativeHead):
    """Claims half precision, and draws from what torch has in float32 only."""

    info = HeadInfo(sampling="one_step", half_precision=True)

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__()
        self.project = nn.Linear(hidden_dim, event.shape[0])

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return (self.project(context.h) - target.mean).square().sum(-1)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        self.info.accept(options)
        mean = self.project(context.h).expand(num, *context.h.shape[:-1], -1)
        spread = torch._standard_gamma(torch.full_like(mean, 3.0)).rsqrt()
        return mean + torch.randn_like(mean) * spread


class Modest(Overclaims):
    """The same, honestly: it is called in float32."""

    info = HeadInfo(sampling="one_step")


HEADS: list[tuple[type[GenerativeHead], str, str]] = [
    (
        WrongSplit,
        "loss and draws for any leading dimensions",
        r"loss\(context=Context\(h=\[16\]\), target=Posterior\(mean=\[6\], log_std=\[6\]\)\) "
        r"\(test_exceptions_in_parts.py, line \d+\) raised RuntimeError: split_with_sizes",
    ),
    (
        FlatUnits,
        "loss and draws for any leading dimensions",
        r"loss\(context=.* raised ValueError",
    ),
    (
        Asserts,
        "loss and draws for any leading dimensions",
        r"sample\(context=Context\(h=\[16\]\), num=3, options=None\) .* raised AssertionError: three is too",
    ),
    (
        Nothing,
        "loss and draws for any leading dimensions",
        r"`part.require\(loss.shape.* raised Attr",
    ),
    (
        OtherSignature,
        "loss and draws for any leading dimensions",
        r"`draws, law = head.sample\(context, num\), .* raised TypeError: OtherSignature.sample\(\) takes 2",
    ),
    (
        Unbuilt,
        "it is built from its sizes and its settings",
        r"__init__\(hidden_dim=.* raised IndexError",
    ),
    (InAList, "what a part keeps is registered", r"'layers' holds a Linear .* nn.ModuleList"),
    (Loose, "what a part keeps is registered", r"'grid' holds a Tensor .* a buffer"),
    (Counting, "a loss keeps no state", r"two equal calls after the same seed differ where training is True"),
    (Running, "a loss keeps no state", r"two equal calls .* differ where training is True"),
    (
        Overclaims,
        "dtype and device follow the input",
        r"sample\(context=Context\(h=\[2, 5, 16\]\), num=2, options=None\) .* not implemented for 'BFloat16'",
    ),
]


@pytest.mark.parametrize(("cls", "law", "seen"), HEADS)
def test_a_head_that_fails_names_law_and_call(cls: type[GenerativeHead], law: str, seen: str) -> None:
    with pytest.raises(AssertionError, match=f"^heads: '{cls.__name__}' breaks the law '{law}': {seen}"):
        check_head(cls)


def test_a_head_that_holds_in_float32_only_keeps_every_law() -> None:
    check_head(Modest)


def test_the_exception_itself_stays_behind_the_sentence() -> None:
    with pytest.raises(AssertionError) as caught:
        check_head(WrongSplit)
    assert isinstance(caught.value.__cause__, RuntimeError)


class NoUnits(Head):
    """Refuses what the core never asks for."""

    def loss(self, context: Context, target: Posterior) -> Tensor:
        assert context.h.numel() > 0
        return super().loss(context, target)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        assert context.h.numel() > 0
        return super().sample(context, num, options)


def test_a_head_is_not_asked_for_zero_units() -> None:
    check_head(NoUnits)


class Facts(Coder):
    """Forgets to say what a unit is."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        del self.event


class Undecoded(Coder):
    """Cannot decode what it encodes."""

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z @ torch.ones(3, 3, dtype=z.dtype))


class Remembers(Coder):
    """Its loss leans on how often it was asked."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.asked = 0

    def loss(self, data: Tensor) -> LossOutput:
        self.asked += 1
        return LossOutput(super().loss(data).per_unit + self.asked)


class Elsewhere(Line):
    """Its step takes one unit at a time."""

    def step(self, x: Tensor, valid: Tensor, state: Any) -> Any:
        if x.shape[1] > 1:
            raise NotImplementedError("one unit at a time")
        return super().step(x, valid, state)


class Widthless(Line):
    """Does not say how wide it is."""

    def __init__(self, *, hidden_dim: int = 8) -> None:
        super().__init__(hidden_dim=hidden_dim)
        self.hidden_dim = None  # type: ignore[assignment]


class Drifts(Line):
    """Each forward pass is a little further off."""

    drift = 0.0

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        self.drift += 1e-3
        return Context(super().forward(x, valid).h + self.drift)


class Unread(Reader):
    """Counts on a batch of rows."""

    def forward(self, data: Tensor, z: Tensor) -> Tensor:
        rows, units, size = data.shape
        return super().forward(data.view(rows, units, size), z)


class HalfFails(Reader):
    """Holds in float32, and not under autocast."""

    def forward(self, data: Tensor, z: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("no such kernel")
        return super().forward(data, z)


class Unasked(Second):
    """Asks for draws as nobody hands them out."""

    def choose(self, draw: Draw, rows: Tensor, generator: torch.Generator | None = None) -> Choice:
        draw(2)  # type: ignore[call-arg]
        return super().choose(draw, rows)


class Optionless(Second):
    """Does not say what it asks of a head."""

    def __init__(self) -> None:
        pass


class Grounded(Launcher):
    """Cannot start anything."""

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        if jobs:
            raise OSError("no machine")


OTHERS: list[tuple[Callable[..., None], type[Any], str, str]] = [
    (check_autoencoder, Facts, "the constructor states the facts of its kind", "event to an EventSpec"),
    (
        check_autoencoder,
        Undecoded,
        "encode, decode and to_data for any leading dimensions",
        r"decode\(z=\[4\]\) .* raised RuntimeError",
    ),
    (check_autoencoder, Remembers, "a loss keeps no state", "differ"),
    (check_backbone, Widthless, "the constructor states the facts of its kind", "hidden_dim to its width"),
    (check_backbone, Drifts, "forward keeps no state", "differ"),
    (
        check_backbone,
        Elsewhere,
        "step equals forward",
        r"step\(x=\[3, 6, 8\], valid=\[3, 6\], state=.* raised NotImplementedError: one unit at a time",
    ),
    (check_embedder, Unread, "one vector per unit", r"forward\(data=\[2\], z=\[6\]\) .* raised ValueError"),
    (
        check_embedder,
        HalfFails,
        "it holds under bfloat16 autocast",
        r"forward\(.* raised RuntimeError",
    ),
    (check_sampler, Optionless, "the constructor states the facts of its kind", "options to SampleOptions"),
    (
        check_sampler,
        Unasked,
        "a choice has one entry per row",
        r"choose\(draw=Recorder, rows=\[1\], generator=None\) .* raised TypeError",
    ),
    (check_launcher, Grounded, "each job is told once", r"run\(jobs=.* raised OSError: no machine"),
]


@pytest.mark.parametrize(("check", "cls", "law", "seen"), OTHERS)
def test_any_part_that_fails_names_law_and_call(
    check: Callable[..., None], cls: type[Any], law: str, seen: str
) -> None:
    with pytest.raises(AssertionError) as caught:
        check(cls)
    assert f"'{cls.__name__}' breaks the law '{law}': " in str(caught.value)
    assert re.search(seen, str(caught.value)), str(caught.value)
