"""Jobs of a study: what a process takes, and a launcher's refusal in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calmkit.interfaces import Ended, Job, LastingLauncher, Launcher
from calmkit.recipe.schema import Recipe
from calmkit.training.errors import RunFailed
from calmkit.training.progress import Say


def job_of(name: str, command: tuple[str, ...], log: Path, recipe: Recipe, peers: int) -> Job:
    """A job that takes the devices of its recipe; `peers` as in `Job`."""
    trainer = recipe.trainer
    devices = int(trainer.devices) if trainer.devices.isdecimal() else 1
    on_cpu = trainer.accelerator == "cpu"
    return Job(name, command, log, devices, accelerator=False if on_cpu else None, peers=peers)


def launch(launcher: Launcher, jobs: Sequence[Job], ended: Ended) -> None:
    """Run jobs.

    Raises:
        RunFailed: The launcher can't work on this machine, such as for want of a cluster.
    """
    try:
        launcher.run(jobs, ended)
    except ValueError as error:
        raise RunFailed(f"The launcher can't start the study here: {error}") from error


def stop_left(launcher: Launcher, logs: Sequence[Path], say: Say) -> None:
    """End what an earlier launcher left running, before the same work is begun again."""
    if isinstance(launcher, LastingLauncher):
        for log in launcher.stop_left(logs):
            say(f"a job of an earlier try still ran, and was cancelled; its log is {log}")
