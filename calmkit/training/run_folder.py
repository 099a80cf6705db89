"""The folder of a run: whether something was made in it, and who fills it now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from calmkit.recipe.resolved import RESOLVED
from calmkit.training.checkpoints import not_written
from calmkit.training.errors import RunFailed


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
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = f"{folder} is being filled by another process; name another folder with --out."
                raise RunFailed(message) from None
        yield
