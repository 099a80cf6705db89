"""Modules without numbers: quick to build at any size, to see whether their shapes go together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@contextmanager
def shapes_only() -> Iterator[None]:
    """Within it every new tensor is on the meta device."""
    with torch.device("meta"), _NoRandomNumbers():
        yield


@final
class _NoRandomNumbers(TorchFunctionMode):
    """Makes no random numbers for meta tensors, which don't hold any.

    torch does the same by importing its compiler, which costs more time than all the rest of a validation.
    """

    FILLS = frozenset({"normal_", "uniform_", "trunc_normal_"})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The tensor as it is where it would be filled, an empty one for a random one; the rest as usual."""
        kwargs = kwargs or {}
        if func in (torch.randn, torch.rand) and "device" not in kwargs:
            return torch.empty(*args, **{key: value for key, value in kwargs.items() if key != "generator"})
        tensor = args[0] if args else kwargs.get("tensor")
        if getattr(func, "__name__", "") in self.FILLS and isinstance(tensor, Tensor) and tensor.is_meta:
            return tensor
        return func(*args, **kwargs)
