"""What the checks of all kinds share: one sentence per broken law, and the laws that hold for any module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from calmkit.registry import make_manager, refusal, settings

HIDDEN_DIM = 16
CHUNK_SIZE = 2
VOCAB_SIZE = 7
LEADING = ((), (3,), (2, 5), (0,), (2, 0))
"""Leading dimensions that a part must take, none and zero units among them."""

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest difference of two roads to the same number, relative to numbers of size 1."""


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
        """Raise an AssertionError naming part, law and what was seen, unless the law holds."""
        if not holds:
            raise AssertionError(f"{self.kind}: '{self.name}' breaks the law '{law}': {seen}.")

    def build(self, *sizes: Any, dtype: torch.dtype = torch.float64, seed: int = 0) -> Any:
        """A fresh instance in eval mode; its weights depend on the seed alone."""
        torch.manual_seed(seed)
        with default_dtype(torch.float32):
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


def subject(kind: str, part: str | type, options: dict[str, Any]) -> Subject:
    """The part under test, found by name or given as a class, once its constructor has been checked."""
    if isinstance(part, str):
        found = Subject(kind, part, make_manager().find(kind, part).cls, options)
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
    law = "the constructor is the recipe's schema"
    reason = refusal(part.kind, part.name, part.cls)
    part.require(reason is None, law, str(reason))
    documented = vars(part.cls).get("__doc__")
    part.require(documented, law, "the class has no docstring; `calmkit show` prints it")
    for name, setting in settings(part.cls).items():
        annotated = setting.annotation is not Any
        part.require(annotated, law, f"setting '{name}' has no annotation to check a recipe against")
        explained = not setting.required or name in (documented or "")
        part.require(explained, law, f"setting '{name}' has neither a default nor a word in the docstring")
