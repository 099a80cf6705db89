"""cores: how many a process may use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Those that this process may run on, where the system tells; else all."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
