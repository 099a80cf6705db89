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
        peers: How many jobs its study has that could ever run at once, done ones and itself included, so that
            its share of a machine is the same alone and beside others; None: as many as there is room for.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    devices: int = 1
    accelerator: bool | None = None
    peers: int | None = None


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


class StatesRoom(Launcher):
    """A capability: a launcher that knows how many jobs it would run at once, for estimates of time."""

    @abstractmethod
    def at_once(self, jobs: Sequence[Job]) -> int:
        """The most of these jobs that would run at the same time, at least 1. Starts nothing."""


class LastingLauncher(Launcher):
    """A capability: a launcher whose jobs go on if it is killed outright, for they are a cluster's.

    Where each runs is noted beside its log, so that whoever starts the same job again finds the one before.
    """

    @abstractmethod
    def stop_left(self, logs: Sequence[Path]) -> list[Path]:
        """End the jobs that an earlier launcher left running, and wait until they have ended.

        The caller holds the folders of these logs, so no living launcher waits for such a job.

        Args:
            logs: `Job.log` of jobs that are about to be started again.

        Returns:
            The logs whose jobs were told to end; empty where nothing was left.
        """
