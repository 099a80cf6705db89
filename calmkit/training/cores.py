"""within_cores: a trainer that would start more processes than the CPU has cores is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from calmkit.cores import usable_cores
from calmkit.training.errors import RunFailed

if TYPE_CHECKING:
    import lightning.pytorch as pl

ALLOW_MORE = "CALMKIT_MORE_PROCESSES"
"""Set to 1, it lets a run start more processes than there are cores: for tests on a small machine."""


def within_cores(trainer: pl.Trainer) -> pl.Trainer:
    """The trainer, if its processes on this machine are no more than the cores that may be used.

    On the CPU a device is a process, and Lightning starts as many as it is told, each with a copy of the
    model. Other devices are counted by Lightning itself.

    Raises:
        RunFailed: Naming both numbers.
    """
    from lightning.pytorch.accelerators import CPUAccelerator

    cores, asked = usable_cores(), trainer.num_devices
    on_cpu, allowed = isinstance(trainer.accelerator, CPUAccelerator), os.environ.get(ALLOW_MORE) == "1"
    if on_cpu and asked > cores and not allowed:
        raise RunFailed(
            f"trainer.devices={asked} would start {asked} processes on a CPU with {cores} usable cores. "
            f"trainer.devices={cores} takes them all, one process each; {ALLOW_MORE}=1 in the environment "
            "lets more start."
        )
    return trainer
