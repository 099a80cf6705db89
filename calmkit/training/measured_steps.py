"""measure_steps: a few real steps of each stage on this machine: their time, its spread, their peak memory.

Rows are made up, so nothing is read or fetched; what reading costs, and what processes tell each other, is
not in it. On an accelerator the peak is that of torch's own allocator, on the CPU that of the allocations
that torch's profiler sees, on top of what lived before. What the system says of a process is another number.

Source: PyTorch, `torch.profiler` (profile_memory). https://docs.pytorch.org/docs/stable/profiler.html
"""

from __future__ import annotations

import dataclasses
import gc
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch

from calmkit.interfaces import NotTrainable
from calmkit.metrics.made_up import made_up_batch
from calmkit.model import CalmModel
from calmkit.recipe.assemble import assemble
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.training.device import find_device
from calmkit.training.errors import RunFailed
from calmkit.training.made_up_step import FIRST, MadeUpStep, stages_trained, units_of, weights_dtype
from calmkit.training.precision import choose_precision

WARM_UP, TIMED = 2, 5  # steps
METHODS = {
    True: "most bytes that torch's allocator of the device had given out at once",
    False: "most bytes that torch's profiler saw allocated at once on the CPU, on top of what lived before",
}


@final
@dataclasses.dataclass(frozen=True)
class MeasuredStage:
    """What steps of one stage took.

    Attributes:
        seconds: Of each timed step of the optimiser, in one process.
        steps: Of the whole stage.
        peak: Most bytes in a step.
    """

    seconds: tuple[float, ...]
    steps: int
    peak: int

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def whole(self) -> tuple[float, float, float]:
        """Seconds of the stage at the median step, at the quickest and at the slowest."""
        return self.steps * self.median, self.steps * min(self.seconds), self.steps * max(self.seconds)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        whole, least, most = self.whole
        return {
            "seconds_per_step": self.median,
            "seconds_of_each_step": list(self.seconds),
            "seconds_of_stage": whole,
            "seconds_of_stage_at_quickest": least,
            "seconds_of_stage_at_slowest": most,
            "peak_bytes": self.peak,
        }


@final
@dataclasses.dataclass(frozen=True)
class Measured:
    """What a machine did.

    Attributes:
        device: Its name.
        gpu: Whether it is one.
        precision: Of the steps.
        stages: Those that took steps.
    """

    device: str
    gpu: bool
    precision: str
    stages: Mapping[str, MeasuredStage]

    @property
    def method(self) -> str:
        """How the peaks were measured, in words."""
        return METHODS[self.gpu]


def measure_steps(
    recipe: Recipe, manager: Manager, *, warm_up: int = WARM_UP, timed: int = TIMED
) -> Measured:
    """Take a few steps of each stage on the device that the recipe asks for, in one process.

    Args:
        recipe: What would be trained. Its numbers of devices are not asked.
        manager: Where parts are looked up.
        warm_up: Steps of each stage before those that are timed.
        timed: Steps that are.

    Raises:
        RecipeError: The recipe can't be trained.
        RunFailed: This machine has no such device, or too little memory.
    """
    device = find_device("cpu" if recipe.trainer.accelerator == "cpu" else "auto")
    precision = choose_precision(recipe.trainer.precision, device.type)
    found = {}
    for stage in stages_trained(recipe):
        with torch.random.fork_rng(devices=[]):
            try:
                found[stage] = _measured(recipe, manager, stage, device, precision, (warm_up, timed))
            except NotTrainable:
                continue
        gc.collect()  # modules and optimisers hold each other
    name = "CPU" if device.type == "cpu" else torch.get_device_module(device).get_device_name()
    return Measured(name, device.type != "cpu", precision, found)


def _measured(
    recipe: Recipe, manager: Manager, stage: str, device: torch.device, precision: str, steps: tuple[int, int]
) -> MeasuredStage:
    settings = stages_trained(recipe)[stage]
    sizes = kind_of(recipe, manager).known_sizes(recipe, manager)
    model = assemble(recipe, manager, sizes)
    placed = model.autoencoder if stage == FIRST else model  # as in training, nothing else is on the device
    placed.to(device=device, dtype=weights_dtype(precision))
    try:
        step = _step(model, recipe, manager, stage, device, precision)
        return MeasuredStage(_seconds(step, device, *steps), settings.max_steps, _peak(step, device))
    except torch.OutOfMemoryError as error:
        raise RunFailed(
            f"A step of stage {stage} takes more memory than {device} has. "
            f"stages.{stage}.batch_size={max(1, settings.batch_size // 2)} with "
            f"trainer.accumulate={2 * recipe.trainer.accumulate} takes the same rows in less."
        ) from error


def _step(
    model: CalmModel, recipe: Recipe, manager: Manager, stage: str, device: torch.device, precision: str
) -> MadeUpStep:
    kind, on_gpu = kind_of(recipe, manager), device.type != "cpu"
    units = kind.num_units(recipe, model.autoencoder) if stage == FIRST else units_of(model, recipe, kind)
    if model.transform is not None and stage != FIRST:
        with torch.no_grad():  # a scale of made-up values takes as long as that of real ones
            data = made_up_batch(model.autoencoder, 2, units, device).data
            model.transform.fit([model.autoencoder.encode(data).mean])
    return MadeUpStep(model, recipe, stage, units, device=device, precision=precision, foreach=on_gpu)


def _seconds(step: MadeUpStep, device: torch.device, warm_up: int, timed: int) -> tuple[float, ...]:
    times = []
    for _ in range(warm_up + timed):
        began = time.perf_counter()
        step.take()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - began)
    return tuple(times[warm_up:])


def _peak(step: MadeUpStep, device: torch.device) -> int:
    """Of a step behind another one."""
    if device.type != "cpu":
        counters = torch.get_device_module(device)
        counters.reset_peak_memory_stats()
        step.take()
        torch.accelerator.synchronize()
        return int(counters.max_memory_allocated())
    step.drop()  # what is freed must have been seen when it was made
    with allocations() as changes:
        lived = _bytes_of(step)
        for _ in range(2):
            step.take()
    now = most = 0
    for change in changes:
        now += change
        most = max(most, now)
    return lived + most


@contextmanager
def allocations() -> Iterator[list[int]]:
    """Bytes that came or went inside, in order, known when it is left."""
    changes: list[int] = []
    gc.collect()  # what is freed inside must have been seen when it was made
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # else it complains that a CPU is no GPU
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        yield changes
    assert profile.profiler is not None
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes.extend(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))


def _bytes_of(step: MadeUpStep) -> int:
    """Of the weights and the moments."""
    moments = [value for state in step.optimizer.state.values() for value in state.values()]
    held = [*step.trained.parameters(), *step.trained.buffers(), *moments]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}
    return sum(storages.values())
