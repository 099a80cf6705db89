"""What the checks of all kinds share: one sentence per broken law, and the laws that hold for any module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from calmkit.admission import broken, missing_fact
from calmkit.registry import KINDS, Manager, make_manager, sizes_of
from calmkit.testing.blame import call_behind

HIDDEN_DIM = 16
CHUNK_SIZE = 2
VOCAB_SIZE = 7
LEADING = ((), (3,), (2, 5))
"""Leading dimensions that a part must take, none among them. The core never asks for zero units."""

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest difference of two roads to the same number, relative to numbers of size 1."""


P = ParamSpec("P")
R = TypeVar("R")


class LawBroken(AssertionError):
    """A part does not keep a law; the message names part, law and what was seen."""


@dataclass(frozen=True)
class Subject:
    """The part under test: what the sentence of a broken law begins with, and how to build it.

    Attributes:
        kind: As in `calmkit.registry.KINDS`.
        name: Name in the registry, or of the class.
        cls: The class.
        options: Settings by keyword.
    """

    kind: str
    name: str
    cls: type[Any]
    options: dict[str, Any]

    def require(self, holds: object, law: str, seen: str) -> None:
        """Raise a `LawBroken` naming part, law and what was seen, unless the law holds."""
        if not holds:
            raise LawBroken(f"{self.kind}: '{self.name}' breaks the law '{law}': {seen}.")

    @contextmanager
    def under(self, law: str, where: str = "") -> Iterator[None]:
        """While a law is checked, an exception that comes out of the part has broken it; `where` is told
        before the call that it came through.
        """
        try:
            yield
        except LawBroken:
            raise
        except Exception as error:
            words = str(error).strip().split("\n", 1)[0].rstrip(".")
            what = type(error).__name__ + (f": {words}" if words else "")
            seen = f"{where}{call_behind(error, self.cls)} raised {what}"
            raise LawBroken(f"{self.kind}: '{self.name}' breaks the law '{law}': {seen}.") from error

    def build(self, *sizes: Any, dtype: torch.dtype = torch.float64, seed: int = 0) -> Any:
        """A fresh instance in eval mode; its weights depend on the seed alone."""
        torch.manual_seed(seed)
        with default_dtype(torch.float32), self.under("it is built from its sizes and its settings"):
            part = self.cls(*sizes, **self.options)
        return part.to(dtype).eval() if isinstance(part, nn.Module) else part

    def close(self, left: Tensor, right: Tensor, law: str, what: str, tolerance: float | None = None) -> None:
        """The law that two roads lead to the same numbers; the tolerance follows their dtype."""
        self.require(
            left.shape == right.shape, law, f"{what} have shapes {tuple(left.shape)} and {tuple(right.shape)}"
        )
        if left.numel() == 0:
            return
        if tolerance is None:
            tolerance = TOLERANCE.get(left.dtype, 0.0)
        gap = (left.double() - right.double()).abs().max().item()
        size = max(1.0, right.double().abs().max().item())
        self.require(
            gap <= tolerance * size, law, f"{what} differ by {gap:.3g}, allowed {tolerance * size:.3g}"
        )


def law(name: str) -> Callable[[Callable[Concatenate[Subject, P], R]], Callable[Concatenate[Subject, P], R]]:
    """Marks a check with the law that an exception in it has broken, where no law in it is named nearer."""

    def marked(check: Callable[Concatenate[Subject, P], R]) -> Callable[Concatenate[Subject, P], R]:
        @wraps(check)
        def checked(part: Subject, /, *arguments: P.args, **keywords: P.kwargs) -> R:
            with part.under(name):
                return check(part, *arguments, **keywords)

        return checked

    return marked


def subject(kind: str, part: str | type, options: dict[str, Any], manager: Manager | None = None) -> Subject:
    """The part under test, found by name or given as a class, once its constructor has been checked."""
    if isinstance(part, str):
        found = Subject(kind, part, (manager or make_manager()).find(kind, part).cls, options)
    else:
        found = Subject(kind, part.__name__, part, options)
    _check_constructor(found)
    return found


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave the caller's random state and default dtype alone."""
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            torch.set_default_dtype(before)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Torch's default dtype for a while: whoever falls back on it instead of following the input is seen."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def other(dtype: torch.dtype) -> torch.dtype:
    """A default dtype that the part must not follow."""
    return torch.float32 if dtype == torch.float64 else torch.float64


def with_seed(seed: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's value after seeding torch."""
    torch.manual_seed(seed)
    return function(*arguments)


def check_facts(part: Subject, built: object) -> None:
    """What a recipe asks of an instance is set by its constructor."""
    missing = missing_fact(built)
    part.require(missing is None, "the constructor states the facts of its kind", str(missing))


def check_repeats(part: Subject, module: nn.Module, law: str, outputs: Callable[[], Tensor]) -> None:
    """Two equal calls under one seed give the same, in train and in eval mode: no state is kept between them.

    To be checked before the other laws, which compare calls with each other.
    """
    with part.under(law):
        for mode in (True, False):
            module.train(mode)
            first, again = (with_seed(0, outputs) for _ in range(2))
            seen = f"two equal calls after the same seed differ where training is {mode}"
            part.require(torch.equal(first, again), law, seen)


def check_autocast(part: Subject, outputs: Callable[[], list[Tensor]]) -> None:
    """Training may run all parts but the frozen autoencoder under bfloat16 autocast, with float32 weights."""
    law = "it holds under bfloat16 autocast"
    with part.under(law):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = outputs()
        for i, value in enumerate(found):
            part.require(value.isfinite().all(), law, f"output {i} is not finite")


def cdf_gap(left: Tensor, right: Tensor) -> float:
    """Largest difference between two empirical distribution functions."""
    at = torch.cat([left, right]).sort().values
    below = [torch.searchsorted(one.sort().values, at, right=True) / len(one) for one in (left, right)]
    return (below[0] - below[1]).abs().max().item()


@law("gradient reaches every parameter")
def check_gradients(part: Subject, module: nn.Module, loss: Callable[[], Tensor], steps: int = 3) -> None:
    """Gradient reaches every parameter: none missing at once, none all zero after a few optimiser steps.

    Zero-initialised last layers and gates let the gradient through one layer per step, hence the steps. The
    module is left trained, in train mode.
    """
    law = "gradient reaches every parameter"
    module.train()
    parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
    if not parameters:
        return
    optimizer = torch.optim.Adam(parameters.values(), lr=1e-2)
    for step in range(steps + 1):
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        part.require(value.requires_grad, law, "the loss has no gradient at all")
        value.backward()
        missing = [n for n, p in parameters.items() if p.grad is None]
        part.require(
            not missing, law, f"no gradient for {missing} in step {step}; DDP needs all in every step"
        )
        bad = [n for n, p in parameters.items() if p.grad is not None and not p.grad.isfinite().all()]
        part.require(not bad, law, f"not finite for {bad} in step {step}")
        if step < steps:
            optimizer.step()
    zero = [n for n, p in parameters.items() if p.grad is not None and not p.grad.any()]
    part.require(not zero, law, f"all zero for {zero} after {steps} optimiser steps")
    optimizer.zero_grad(set_to_none=True)


@law("state_dict round trip")
def check_state_dict(
    part: Subject, trained: nn.Module, fresh: nn.Module, outputs: Callable[[Any], list[Tensor]]
) -> None:
    """A fresh instance with the loaded state gives the same outputs."""
    law = "state_dict round trip"
    fresh.load_state_dict(trained.state_dict())
    trained.eval()
    fresh.eval()
    for i, (left, right) in enumerate(zip(outputs(trained), outputs(fresh), strict=True)):
        part.require(torch.equal(left, right), law, f"output {i} of the restored instance differs")


def check_dtype(part: Subject, value: Tensor, wanted: torch.dtype, what: str) -> None:
    """The dtype of an output follows the input, whatever torch's default is."""
    part.require(value.dtype == wanted, "dtype follows the input", f"{what} is {value.dtype}, not {wanted}")


def check_device(part: Subject, value: Tensor, device: torch.device, what: str) -> None:
    """The device of an output follows the input."""
    seen = value.device.type
    part.require(seen == device.type, "device follows the input", f"{what} is on {seen}, not {device.type}")


def accelerator() -> torch.device | None:
    """The accelerator of this machine, or None."""
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None


def _check_constructor(part: Subject) -> None:
    kind = KINDS[part.kind]
    law = "a part derives from the class of its kind"
    bases = kind.base if isinstance(kind.base, tuple) else (kind.base,)
    derives = isinstance(part.cls, type) and issubclass(part.cls, bases)
    part.require(derives, law, f"{part.cls!r} is not a subclass of {' or '.join(b.__name__ for b in bases)}")
    found = broken(part.cls, kind.base_of(part.cls), sizes_of(part.kind, part.cls))
    if found is not None:
        part.require(False, found.law, found.seen)
    documented = vars(part.cls).get("__doc__")
    law = "the constructor is the recipe's schema"
    part.require(documented, law, "the class has no docstring; `calmkit show` prints it")
