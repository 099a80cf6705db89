"""A file is there whole or not at all: written under a temporary name, then moved."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from calmkit.interfaces import DataError

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; move it there when the block ends well, remove it when it doesn't.

    Two processes may do this for the same path at once: each has its own temporary name, and the last to
    finish wins.

    Raises:
        DataError: The folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        culprit = Path(error.filename) if isinstance(error.filename, str) else None
        if culprit not in (None, temporary) and not path.is_relative_to(
            culprit
        ):  # a file that was being read
            raise
        if error.errno in DISK_FULL:
            free = shutil.disk_usage(path.parent).free
            raise DataError(
                f"the disk under {path.parent} is full ({free} bytes free): {path.name} was not written. "
                "Free some space, or set CALMKIT_CACHE to a folder on another disk"
            ) from error
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}). "
            "Make its folder writable, or set CALMKIT_CACHE to one that is"
        ) from error
    finally:
        with suppress(OSError):  # there may not even be a folder
            temporary.unlink(missing_ok=True)
