"""A second device that is none: its numbers lie on the CPU, and its manners are an accelerator's.

A tensor of the device `pretend` is never the CPU tensor it was made from, does not mix with CPU tensors, does
not turn into NumPy, and draws from a generator of its own; a module, a generator or a tensor that was left
behind on the CPU is an error here as it is there. One process has it or has it not (torch registers it for
good and then takes it for its accelerator), so tests that want it run in a process of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
CROSSING = {"_to_copy", "copy_", "_copy_from", "_copy_from_and_resize"}
STREAM = torch.Generator()
"""Randomness of the device."""


class Twin(Tensor):
    """A tensor of the device: shape and strides of the CPU tensor behind it, and a storage of nobody's."""

    behind: Tensor

    @staticmethod
    def __new__(cls, behind: Tensor) -> Twin:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            behind.size(),
            strides=behind.stride(),
            storage_offset=behind.storage_offset(),
            dtype=behind.dtype,
            device=torch.device(NAME, 0),
        )
        made.behind = behind
        return made

    def __repr__(self, **words: Any) -> str:
        return f"Twin({self.behind})"

    @classmethod
    def __torch_dispatch__(
        cls, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return run(op, args, kwargs or {})


def run(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation of the device: on the CPU tensors behind, with the device's own randomness."""
    given = [
        value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor | torch.Generator)
    ]
    name = op.overloadpacket.__name__
    for value in given:
        if isinstance(value, torch.Generator):
            raise RuntimeError(f"{name}: a generator of the {value.device.type} for tensors of the device")
        stranger = isinstance(value, Tensor) and not isinstance(value, Twin)
        if stranger and value.ndim and name not in CROSSING:
            raise RuntimeError(f"{name}: a tensor {list(value.shape)} of the CPU among those of the device")
    twins = {id(value.behind): value for value in given if isinstance(value, Twin)}
    stays = torch.device(kwargs.get("device") or NAME).type == NAME
    args, kwargs = tree_map(lambda value: value.behind if isinstance(value, Twin) else value, (args, kwargs))
    if "device" in kwargs:
        kwargs["device"] = torch.device("cpu")
    with _own_randomness() if torch.Tag.nondeterministic_seeded in op.tags else _nothing():
        result = op(*args, **kwargs)
    resized = [twin.shape for twin in twins.values() if twin.behind.shape != twin.shape]
    assert not resized, f"{name} resized a tensor {resized}, which this device can't"
    if not stays or (name == "copy_" and id(args[0]) not in twins):
        return result

    def back(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return twins[id(value)] if id(value) in twins else Twin(value)

    return tree_map(back, result)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _own_randomness() -> Iterator[None]:
    before = torch.get_rng_state()
    torch.set_rng_state(STREAM.get_state())
    yield
    STREAM.set_state(torch.get_rng_state())
    torch.set_rng_state(before)


class _Module:
    """What torch asks of a device's module, `torch.pretend`."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers = {
            "is_available": True,
            "is_initialized": True,
            "is_bf16_supported": True,
            "device_count": 1,
            "current_device": 0,
            "get_device_name": "a pretend device",
            "_is_in_bad_fork": False,
            "get_amp_supported_dtype": [torch.bfloat16],
        }
        if name not in answers:
            raise AttributeError(name)
        return lambda *given: answers[name]

    @staticmethod
    @contextmanager
    def device(index: Any) -> Iterator[None]:
        yield

    @staticmethod
    def manual_seed(seed: int) -> None:
        STREAM.manual_seed(seed)

    manual_seed_all = manual_seed

    @staticmethod
    def get_rng_state(device: Any = 0) -> Tensor:
        return STREAM.get_state()

    @staticmethod
    def set_rng_state(state: Tensor, device: Any = 0) -> None:
        STREAM.set_state(state)


def _moved(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Makes a tensor on the CPU and moves it: for what fills the memory of a device past all dispatch."""

    def made(*given: Any, device: Any = None, **words: Any) -> Tensor:
        tensor = make(*given, **words)
        return tensor if device is None else tensor.to(device)

    return made


@cache
def register() -> torch.device:
    """The device, from now on and until this process ends."""
    _setup_privateuseone_for_python_backend(NAME, _Module())
    for name in ("tensor", "arange", "linspace", "randperm"):
        setattr(torch, name, _moved(getattr(torch, name)))
    LIBRARY.fallback(lambda op, *args, **kwargs: run(op, args, kwargs), "PrivateUse1")
    LIBRARY.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")  # autocast casts nothing
    return torch.device(NAME, 0)


LIBRARY = torch.library.Library("_", "IMPL")
