"""Launcher: starts the processes of a study, several at once, here or elsewhere.

A study is a list of jobs that know nothing of each other. Each is a command that writes all it makes into its
own folder, so a launcher needs no results back: exit codes are enough, and a file system that all can see.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final


@final
@dataclass(frozen=True)
class Job:
    """One process to be started.

    Attributes:
        name: What people call it.
        command: Program and arguments, absolute or found on PATH.
        log: File that gets its output and its errors; its folder may not exist yet.
        devices: How many devices (cores on a CPU, else accelerators) it takes.
        accelerator: Whether it asks for accelerators; None: for those there are.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    devices: int = 1
    accelerator: bool | None = None


Ended = Callable[[Job, int], None]
"""`ended(job, code)`: the job is over, with its exit code as `subprocess` gives it: negative for the signal
that killed it."""


class Launcher(ABC):
    """Runs jobs. The constructor is `(*, ...)`, all of it settable by a study's key `launcher`.

    Attributes:
        on_this_machine: Whether its jobs run on the machine that starts them; then a study whose devices that
            machine lacks is refused before it begins.
    """

    on_this_machine: ClassVar[bool] = False

    @abstractmethod
    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        """Run all jobs, and tell of each as it ends, from the caller's thread. Returns when all have ended.

        A job that can't be started or was lost has ended too, with a code other than 0 and the reason at the
        end of its log. On KeyboardInterrupt the jobs that still run are stopped before it is raised again.
        """
