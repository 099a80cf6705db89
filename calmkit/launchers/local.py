"""Local: the jobs of a study as processes of this machine, as many at once as there is room for.

Source: CUDA's environment variables, CUDA_VISIBLE_DEVICES.
https://docs.nvidia.com/cuda/cuda-c-programming-guide/#env-vars
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from calmkit.cores import usable_cores
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Ended, Job, Launcher, StatesRoom
from calmkit.launchers.children import CANNOT_START, Children, terminable, thread_variables
from calmkit.nn.settings import require_at_least


@final
class LocalLauncher(StatesRoom):
    """Processes of this machine, started in order, each as soon as there is room for it.

    A job takes its devices, accelerators where there are any and it does not do without, else cores. Two
    running jobs never share an accelerator, unless they are asked to: each sees its own alone. A job that
    wants more than there is gets all and runs alone.

    Jobs end with the launcher: Ctrl-C and SIGTERM stop them with SIGINT, five seconds later SIGTERM, then
    SIGKILL, and where the launcher is killed outright a small process that guards it does the same. On POSIX
    systems alone.

    Args:
        workers: Jobs at once; None: as many as there is room for.
        threads: CPU threads of each process; None: its share of the cores, the same whether it runs alone or
            beside others: the last trial of a study takes no more than the first did, so that both round
            alike. OMP_NUM_THREADS, where it is set, wins over both.
        per_accelerator: Jobs at once on one accelerator, for small models that leave it idle between two
            launches; their times then say little. Jobs of several devices share none.

    Raises:
        ValueError: No workers, no threads, or no job per accelerator.

    Source:
        CUDA's environment variables.
    """

    on_this_machine = True

    def __init__(
        self, *, workers: int | None = None, threads: int | None = None, per_accelerator: int = 1
    ) -> None:
        require_at_least("local", 1, workers=workers, threads=threads, per_accelerator=per_accelerator)
        self.workers = workers
        self.threads = threads
        self.per_accelerator = per_accelerator

    def at_once(self, jobs: Sequence[Job]) -> int:
        """As many as there is room for."""
        return Room(usable_cores(), self._accelerators(jobs), self.workers).count(jobs)

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        """Run all jobs; tell of each as it ends."""
        cores, accelerators = usable_cores(), self._accelerators(jobs)
        room = Room(cores, accelerators, self.workers)
        waiting, running = deque(jobs), dict[int, tuple[Job, Place]]()
        with terminable(), Children() as children:
            while waiting or running:
                while waiting and (place := room.take(waiting[0])):
                    job = waiting.popleft()
                    threads = self.threads or share_of_cores(job, cores, len(accelerators), self.workers)
                    variables = {**thread_variables(threads), **place.variables}
                    child = children.start(job.command, job.log, variables)
                    if child is None:
                        room.leave(place)
                        ended(job, CANNOT_START)
                    else:
                        running[child] = job, place
                for child, code in children.wait().items():
                    job, place = running.pop(child)
                    room.leave(place)
                    ended(job, code)

    def _accelerators(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        """Their names, each as often as jobs may be on it."""
        alone = any(job.devices > 1 for job in jobs)
        return visible_accelerators() * (1 if alone else self.per_accelerator)


@dataclass(frozen=True)
class Place:
    """What one job has of the machine."""

    kind: str
    devices: tuple[str, ...]
    alone: bool

    @property
    def variables(self) -> dict[str, str]:
        """The environment that shows a job its accelerators and no others."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.devices)} if self.kind == "accelerators" else {}


class Room:
    """What no running job has.

    Args:
        cores: How many there are.
        accelerators: Their names.
        workers: Jobs at once; None: no bound.
    """

    def __init__(self, cores: int, accelerators: Sequence[str], workers: int | None) -> None:
        self.all = {"cores": [str(core) for core in range(cores)], "accelerators": list(accelerators)}
        self.free = {kind: list(devices) for kind, devices in self.all.items()}
        self.workers = workers
        self.taken: list[Place] = []

    def take(self, job: Job) -> Place | None:
        """A place for a job, or None as long as there is none."""
        kind = "accelerators" if self.all["accelerators"] and job.accelerator is not False else "cores"
        there, free = len(self.all[kind]), self.free[kind]
        wanted, alone = min(max(1, job.devices), there), job.devices > there
        full = len(self.taken) == self.workers or any(place.alone for place in self.taken)
        if full or (alone and self.taken) or wanted > len(free):
            return None
        place = Place(kind, tuple(free[:wanted]), alone)
        del free[:wanted]
        self.taken.append(place)
        return place

    def leave(self, place: Place) -> None:
        """Give a place back."""
        self.taken.remove(place)
        self.free[place.kind].extend(place.devices)

    def count(self, jobs: Sequence[Job]) -> int:
        """The most of these jobs that there is room for at once, at least 1. Takes their places."""
        return sum(self.take(job) is not None for job in sorted(jobs, key=lambda job: job.devices)) or 1


def share_of_cores(job: Job, cores: int, accelerators: int, workers: int | None) -> int:
    """CPU threads of each process of a job: what is left to it where as many run as ever will.

    It depends on the machine and on the job, not on what else runs at the time.

    Args:
        job: With `devices` processes.
        cores: That may be used.
        accelerators: How many there are; 0: jobs are counted by cores.
        workers: Jobs at once; None: no bound.

    Returns:
        At least 1.
    """
    there = accelerators if accelerators and job.accelerator is not False else cores
    devices = max(1, job.devices)
    room = max(1, there // devices)
    at_once = min(room, workers or room, job.peers or room)
    return max(1, cores // (at_once * devices))


def visible_accelerators() -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES calls those that this process sees.

    Accelerators that heed another variable can't be dealt out: all that there are count as one.
    """
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        return ()
    count = torch.accelerator.device_count() if accelerator.type == "cuda" else 1
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(i) for i in range(count)] if listed is None else [name.strip() for name in listed.split(",")]
    return tuple(names[:count])


@hookimpl
def calmkit_launchers() -> dict[str, type[Launcher]]:
    """Register this part."""
    return {"local": LocalLauncher}
