"""Ranks: an error of any process reaches the user once, told by the first one."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, final, runtime_checkable

import torch

from calmkit.interfaces import DataError
from calmkit.training.errors import GateMissed, RunFailed, Stopped, TrainingDiverged
from calmkit.training.run import is_rank_zero

COUNT, TEXT = "calmkit/failures", "calmkit/failure/"
PATIENCE = 5.0
"""Seconds in which the first process waits for another one's error, when talking to it failed."""
GRACE = 60.0
"""Seconds in which the first process may end by itself, when another one failed."""
AGREED = (TrainingDiverged, Stopped, GateMissed, KeyboardInterrupt)
"""What all processes raise at the same step."""


@runtime_checkable
class Store(Protocol):
    """What torch's processes share: `torch.distributed.Store`."""

    def add(self, key: str, amount: int) -> int:
        """Add to a number, and return it."""

    def set(self, key: str, value: str) -> None:
        """Keep a text."""

    def get(self, key: str) -> bytes:
        """Wait for a text."""


@final
class OtherProcessFailed(RunFailed):
    """Another process failed, and this one can't go on without it."""


@contextmanager
def told_once(processes: int) -> Iterator[None]:
    """What goes wrong inside reaches the user once: the first process raises it, the others leave quietly.

    They end with exit code 0, for a launcher kills all where one ends with another, and the first may still
    have to save. Errors that all have in common are the first one's own. What another one has alone, it tells
    the first through the store in which torch's processes meet. A process that waits in a collective of gloo
    notices at once that another one has gone; one that waits for ever, as in NCCL's, is ended.

    Args:
        processes: Of the run, over all machines.

    Raises:
        OtherProcessFailed: In the first process: another one failed, with its words.
    """
    over = threading.Event()
    if processes > 1 and is_rank_zero():
        threading.Thread(target=watch, args=(over,), daemon=True).start()
    try:
        yield
    except BaseException as error:
        if processes == 1 or not torch.distributed.is_initialized():
            raise
        store = _store()
        if is_rank_zero():
            told = None if _is_its_own(error) else first_failure(store, PATIENCE)
            if told is None:
                raise
            raise OtherProcessFailed(told) from error
        if not (isinstance(error, AGREED) or talking_failed(error)):
            tell(store, torch.distributed.get_rank(), error)
        raise SystemExit(0) from None
    finally:
        over.set()


def tell(store: Store, rank: int, error: BaseException) -> None:
    """Let the first process know why this one ends; where it has gone, nobody needs to know."""
    named = str(error) if isinstance(error, RunFailed | DataError) else f"{type(error).__name__}: {error}"
    with suppress(RuntimeError):
        number = store.add(COUNT, 1)
        store.set(f"{TEXT}{number}", f"Process {rank}: {named}")


def first_failure(store: Store, patience: float) -> str | None:
    """The words of the process that failed first; None: within so many seconds nobody said anything."""
    until = time.monotonic() + patience
    while True:
        with suppress(RuntimeError):
            if store.add(COUNT, 0):
                return store.get(f"{TEXT}1").decode()
        if time.monotonic() >= until:
            return None
        time.sleep(0.1)


def watch(
    over: threading.Event,
    find_store: Callable[[], Store | None] | None = None,
    end: Callable[[int], Any] = os._exit,
    grace: float = GRACE,
) -> None:
    """End this process if another one failed and this one waits for it still.

    Args:
        over: Set when there is nothing to watch any more.
        find_store: Where the processes meet; None until they do.
        end: Takes the exit code.
        grace: Seconds.
    """
    while not over.wait(1.0):
        store = (find_store or _store_if_any)()
        told = None if store is None else first_failure(store, 0.0)
        if told is not None and not over.wait(grace):
            print(f"error: {told}", file=sys.stderr, flush=True)
            end(1)
        if told is not None:
            return


def talking_failed(error: BaseException) -> bool:
    """Whether an error says no more than that another process can't be reached."""
    if isinstance(error, torch.distributed.DistError):
        return True
    words = ("gloo", "nccl", "connection closed", "connection reset", "timed out")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def _is_its_own(error: BaseException) -> bool:
    """Whether the first process would have failed alone too."""
    return not isinstance(error, Exception) or not talking_failed(error)


def _store() -> Any:
    return torch.distributed.distributed_c10d._get_default_store()


def _store_if_any() -> Any:
    return _store() if torch.distributed.is_initialized() else None
