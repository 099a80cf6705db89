"""LiveMemory: bytes of all tensors that live, call by call, each told by what it is for and whose it is.

Storages are counted, not tensors: views cost nothing. A storage begins to count when an operation gives it,
and ends when nobody holds it any more, so what autograd saves is in it as long as autograd keeps it. It works
on tensors with and without numbers (`torch._subclasses.FakeTensorMode`). What a kernel takes and gives back
inside one operation is not seen.

Source: PyTorch, `torch.utils._python_dispatch` and the memory trackers of `torch.distributed._tools`.
https://github.com/pytorch/pytorch/blob/main/torch/distributed/_tools/mem_tracker.py
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

Label = tuple[str, str]
"""What storages are for, such as `weights`, and the part that they belong to."""


@final
class LiveMemory(TorchDispatchMode):
    """Counts while it is entered; what lived before counts if `own` is told of it.

    Attributes:
        label: Of the storages that the next operations give.
        phase: What goes on now, in a word of the caller's.
        peaks: Phase -> label -> bytes, when most lived in that phase.
    """

    def __init__(self) -> None:
        super().__init__()
        self.label: Label = ("working", "")
        self.phase = ""
        self.peaks: dict[str, Mapping[Label, int]] = {}
        self._most: Counter[str] = Counter()
        self._live: Counter[Label] = Counter()
        self._total = 0
        self._known: dict[int, tuple[weakref.ref[Any], Label, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The operation, and then the storages of what it gives."""
        del types
        given = func(*args, **(kwargs or {}))
        for leaf in (given,) if isinstance(given, Tensor) else pytree.tree_leaves(given):
            if isinstance(leaf, Tensor):
                self._count(leaf, self.label)
        if self._total > self._most[self.phase]:
            self._most[self.phase], self.peaks[self.phase] = self._total, dict(self._live)
        return given

    def own(self, tensor: Tensor, label: Label) -> None:
        """Give a storage another label; one that was not known counts from now on."""
        key = _key(tensor)
        if key in self._known:
            ref, before, size = self._known[key]
            self._known[key] = ref, label, size
            self._live[before] -= size
            self._live[label] += size
        else:
            self._count(tensor, label)

    def forget_peaks(self) -> None:
        """Begin anew with the peaks; what lives goes on counting."""
        self.peaks, self._most = {}, Counter()

    @contextmanager
    def labelled(self, label: Label) -> Iterator[None]:
        """Another label for what comes into being inside."""
        before, self.label = self.label, label
        try:
            yield
        finally:
            self.label = before

    def _count(self, tensor: Tensor, label: Label) -> None:
        key = _key(tensor)
        if key in self._known:
            return
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        self._known[key] = weakref.ref(storage, lambda _: self._gone(key)), label, size
        self._live[label] += size
        self._total += size

    def _gone(self, key: int) -> None:
        _, label, size = self._known.pop(key)
        self._live[label] -= size
        self._total -= size


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
