"""Modules without numbers: quick to build at any size, to see whether their shapes go together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

MOST = 20_000
"""Tensors that are made; a transformer of a hundred layers has about a thousand."""


@contextmanager
def shapes_only() -> Iterator[None]:
    """Within it every new tensor is on the meta device.

    Raises:
        ValueError: Sizes that no machine holds: a tensor too large to be counted, or more tensors than a part
            has a use for.
    """
    with torch.device("meta"), _NoRandomNumbers():
        yield


@final
class _NoRandomNumbers(TorchFunctionMode):
    """Makes no random numbers for meta tensors, which don't hold any.

    torch does the same by importing its compiler, which costs more time than all the rest of a validation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    FILLS = frozenset({"normal_", "uniform_", "trunc_normal_"})
    MAKES = frozenset({"empty", "zeros", "ones", "full", "arange", "rand", "randn", "tensor", "linspace"})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The tensor as it is where it would be filled, an empty one for a random one; the rest as usual."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self.MAKES:
            self.made += 1
            if self.made > MOST:
                raise ValueError(f"these settings make more than {MOST:,} tensors; smaller ones would do")
        if func in (torch.randn, torch.rand) and "device" not in kwargs:
            func, kwargs = torch.empty, {k: value for k, value in kwargs.items() if k != "generator"}
        tensor = args[0] if args else kwargs.get("tensor")
        if getattr(func, "__name__", "") in self.FILLS and isinstance(tensor, Tensor) and tensor.is_meta:
            return tensor
        try:
            return func(*args, **kwargs)
        except (RuntimeError, TypeError, OverflowError) as error:
            if "overflow" in str(error).lower():
                raise ValueError(
                    "these settings make a tensor that no machine holds; smaller ones would do"
                ) from error
            raise
