"""ReadsAhead: what a process that reads ahead does first, so that it ends with the one that trains."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from typing import final

LAST_SECONDS = 60.0
"""How long a process that reads ahead outlives a SIGTERM, so that the one that trains can end its step."""
PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: the kernel sends a signal when the parent dies."""


@final
class ReadsAhead:
    """Called in each worker of a `DataLoader`; made in the process that trains.

    A signal to all processes of a run is for the one that trains: it needs one more batch to stop well. A
    worker that is told to end does so a little later, whether or not it is asked to by then. Where the one
    that trains was killed, its workers go with it: torch's own watch misses one that went before it looked.
    """

    def __init__(self) -> None:
        self.parent = os.getpid()

    def __call__(self, worker: int) -> None:
        """In the worker of that number."""
        del worker
        for name in ("SIGINT", "SIGUSR1"):
            if name in signal.Signals.__members__:  # SIGUSR1 is of POSIX
                signal.signal(signal.Signals[name], signal.SIG_IGN)
        if os.name == "posix":
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, lambda *_: signal.setitimer(signal.ITIMER_REAL, LAST_SECONDS))
            self._end_with_parent()

    def _end_with_parent(self) -> None:
        if sys.platform == "linux":
            with suppress(AttributeError, OSError):
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self.parent:
            os._exit(1)
