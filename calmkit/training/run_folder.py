"""The folder of a run: whether something was made in it, and who fills it now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from calmkit.recipe.resolved import RESOLVED
from calmkit.sums import drop_sums
from calmkit.training.checkpoints import not_written
from calmkit.training.errors import RunFailed

_HELD: set[int] = set()  # descriptors of the folders that this process holds


def holds_work(folder: Path) -> bool:
    """Whether something was trained, measured or imported in a run folder.

    Training leaves losses and checkpoints, an end its weights and numbers. A folder with no more than a
    recipe and a lock is of a start that was refused or killed, and no run.
    """
    if not (folder / RESOLVED).exists():
        return False
    files = [folder / "metrics.csv", folder / "samples.txt", *folder.glob("*.json")]
    kept = [path for name in ("checkpoints", "model") for path in (folder / name).rglob("*")]
    return any(path.is_file() and not path.name.startswith(".") for path in (*files, *kept))


def is_measured(folder: Path) -> bool:
    """Whether a run folder holds numbers of a trained model, and what it makes, which is written last."""
    return any(folder.glob("samples.*")) and (folder / "evaluation.json").is_file()


def forget_measured(folder: Path) -> None:
    """Take away what was measured of a model that another one is about to replace."""
    for path in (folder / "evaluation.json", *folder.glob("samples.*")):
        drop_sums(path)
        path.unlink(missing_ok=True)


def sweep_temporary(folder: Path) -> None:
    """Delete files that a killed process had begun to write."""
    for path in (*folder.rglob(".*.tmp"), *folder.rglob(".tmp*")):  # ours, and those of safetensors
        path.unlink(missing_ok=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run folder while this one fills it; the kernel lets go of the dead.

    Without effect on a system or a file system that can't lock a folder.

    Raises:
        RunFailed: Another process holds it, or it can't be made.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_written(folder, error) from error
        with suppress(ImportError, OSError):
            import fcntl

            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            stack.enter_context(_ours_alone(descriptor))
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFailed(
                    f"{folder} is being filled by another process; wait for it, or name another folder with "
                    "--out."
                ) from None
        yield


@contextmanager
def _ours_alone(descriptor: int) -> Iterator[None]:
    """A process that this one forks, such as one that reads ahead, may outlive it, and holds no folder."""
    _close_in_forks()
    _HELD.add(descriptor)
    try:
        yield
    finally:
        _HELD.discard(descriptor)


@cache
def _close_in_forks() -> None:
    os.register_at_fork(after_in_child=_close_held)


def _close_held() -> None:
    for descriptor in _HELD:
        with suppress(OSError):
            os.close(descriptor)
    _HELD.clear()
