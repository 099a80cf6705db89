"""Files and folders that a recipe names: there and readable, or refused with the setting that names them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calmkit.interfaces import DataError


def existing(name: str, setting: str) -> Path:
    """The path, a file or a folder.

    Raises:
        DataError: Nothing is there.
    """
    path = Path(name).expanduser()
    if not path.exists():
        raise DataError(f"{setting}: {name} does not exist (looked in {Path.cwd()}); correct the path")
    return path


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """While a file or a folder is read: what the system says against it is told with its name."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); check that it is a file, there and readable"
        ) from error
