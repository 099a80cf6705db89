"""Jobs of a study: what a process takes, and a launcher's refusal in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calmkit.interfaces import Ended, Job, Launcher
from calmkit.recipe.schema import Recipe
from calmkit.training.errors import RunFailed


def job_of(name: str, command: tuple[str, ...], log: Path, recipe: Recipe) -> Job:
    """A job that takes the devices of its recipe."""
    trainer = recipe.trainer
    devices = int(trainer.devices) if trainer.devices.isdecimal() else 1
    return Job(name, command, log, devices, accelerator=False if trainer.accelerator == "cpu" else None)


def launch(launcher: Launcher, jobs: Sequence[Job], ended: Ended) -> None:
    """Run jobs.

    Raises:
        RunFailed: The launcher can't work on this machine, such as for want of a cluster.
    """
    try:
        launcher.run(jobs, ended)
    except ValueError as error:
        raise RunFailed(f"The launcher can't start the study here: {error}") from error
