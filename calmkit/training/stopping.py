"""Stopping: a signal lets a step end, is agreed upon by all processes, and becomes an exit code."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

from calmkit.training.errors import Stopped

REQUEUE = 75
"""EX_TEMPFAIL: SLURM and others may start the same command again, and it goes on."""

INTERRUPTED = 130
"""What a shell reports of a command that Ctrl-C ended."""

SAVING: dict[int, int] = {
    signal.Signals[name]: code
    for name, code in (("SIGTERM", REQUEUE), ("SIGUSR1", REQUEUE), ("SIGINT", INTERRUPTED))
    if name in signal.Signals.__members__  # SIGUSR1 is of POSIX
}
"""Signals on which a run saves and ends -> its exit code."""


@final
class StopRequest:
    """Whether a signal asked this process to stop.

    Attributes:
        code: 0, or the exit code that was asked for.
        patient: A step goes on that must end first; where none does, a signal stops at once.
    """

    def __init__(self) -> None:
        self.code, self.patient, self._listening = 0, False, False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals, in the main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SAVING}
        try:
            self._listening = True
            self.listen()
            yield
        finally:
            self._listening = False
            for number, handler in before.items():
                signal.signal(number, handler)

    def listen(self) -> None:
        """Take signals again, where `listening` does: Lightning puts handlers of its own in their place."""
        if self._listening:
            for number in SAVING:
                signal.signal(number, self._take)

    def _take(self, number: int, frame: Any) -> None:
        del frame
        again, self.code = bool(self.code), self.code or SAVING[number]
        if self.patient and not (again and number == signal.SIGINT):
            return
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(f"Stopped by {signal.Signals(number).name}.", SAVING[number])
