"""look_ahead: what a recipe costs, what its steps hold in memory, and what they take here or elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, final

import torch

from calmkit.recipe.plan import Plan, plan
from calmkit.recipe.schema import Recipe, TrainerSection
from calmkit.registry import Manager
from calmkit.training.gpus import Gpu, Verdict, verdict
from calmkit.training.measured_steps import Measured, measure_steps
from calmkit.training.planned_memory import PlannedMemory, StageMemory, plan_memory
from calmkit.training.precision import BF16, FP32, choose_precision
from calmkit.training.share_of_memory import FSDP2, of_each

ONE = "one"  # process: nobody to share with


@final
@dataclasses.dataclass(frozen=True)
class Outlook:
    """All that is known of a recipe before it runs.

    Attributes:
        plan: What is counted.
        world: Processes that share a step.
        strategy: `one`, `ddp` or `fsdp2`.
        alone: Memory of a step of one process alone.
        each: Stage -> memory of a step in each of the processes.
        verdict: Of a kind of GPU; None where none was named.
        measured: Steps on this machine; None where none were taken.
        here: Memory as planned for the machine that took them, in one process.
    """

    plan: Plan
    world: int
    strategy: str
    alone: PlannedMemory
    each: Mapping[str, StageMemory]
    verdict: Verdict | None
    measured: Measured | None
    here: PlannedMemory | None

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        told = self.plan.as_dict()
        told["memory"] = {
            "rules": "cuda" if self.alone.gpu else "cpu",
            "precision": self.alone.precision,
            "processes": self.world,
            "strategy": self.strategy,
            "stages": {stage: _stage_dict(memory) for stage, memory in self.each.items()},
            "unknown": dict(self.alone.unknown),
        }
        told["verdict"] = None if self.verdict is None else self.verdict.as_dict()
        told["measured"] = None if self.measured is None else self._measured_dict(self.measured)
        return told

    def planned_here(self, stage: str) -> int | None:
        """Bytes of a step as planned for the machine that measured; None: not known."""
        found = None if self.here is None else self.here.stages.get(stage)
        return None if found is None else found.peak

    def _measured_dict(self, measured: Measured) -> dict[str, Any]:
        return {
            "device": measured.device,
            "precision": measured.precision,
            "peak_is": measured.method,
            "stages": {
                stage: {**found.as_dict(), "planned_peak_bytes": self.planned_here(stage)}
                for stage, found in measured.stages.items()
            },
        }


def look_ahead(
    recipe: Recipe,
    manager: Manager,
    *,
    gpu: Gpu | None = None,
    world: int | None = None,
    measure: bool = False,
) -> Outlook:
    """Plan a recipe, and measure it where that is asked for.

    Args:
        recipe: From `load_recipe`.
        manager: Where parts are looked up.
        gpu: The kind that is to train; None: as the recipe and this machine say.
        world: How many processes share a step; None: as the recipe says.
        measure: Whether to take steps on this machine.

    Raises:
        RecipeError: The recipe can't be trained.
        RunFailed: This machine can't take the steps that are to be measured.
    """
    if world is not None:
        trainer = dataclasses.replace(recipe.trainer, devices=str(world), num_nodes=1)
        recipe = dataclasses.replace(recipe, trainer=trainer)
    counted = plan(recipe, manager)
    processes = max(stage.devices for stage in counted.stages.values())
    rules, precision = rules_of(recipe.trainer, gpu)
    measured = measure_steps(recipe, manager) if measure else None  # before tensors without numbers are made
    alone = plan_memory(recipe, manager, gpu=rules, precision=precision)
    each = {stage: of_each(one, processes, recipe.trainer.strategy) for stage, one in alone.stages.items()}
    here = None if measured is None else alone
    if measured is not None and (measured.gpu, measured.precision) != (rules, precision):
        here = plan_memory(recipe, manager, gpu=measured.gpu, precision=measured.precision)
    judged = None
    if gpu is not None:
        share = None if measured is None else _share(gpu, counted, measured)
        judged = verdict(gpu, counted, alone.stages, recipe, precision, share)
    dealt = recipe.trainer.strategy == FSDP2
    strategy = FSDP2 if dealt else "ddp" if processes > 1 else ONE
    return Outlook(counted, processes, strategy, alone, each, judged, measured, here)


def rules_of(trainer: TrainerSection, gpu: Gpu | None) -> tuple[bool, str]:
    """Whether a step is planned by CUDA's rules, and its precision."""
    if gpu is not None:
        best = BF16 if gpu.bf16 else FP32
        return True, best if trainer.precision == "auto" else trainer.precision
    there = torch.accelerator.is_available()
    if trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not there):
        return False, choose_precision(trainer.precision, "cpu")
    return True, choose_precision(trainer.precision, "gpu") if there or trainer.precision != "auto" else BF16


def _share(gpu: Gpu, counted: Plan, measured: Measured) -> float | None:
    """Of the peak rate, as the longest stage reached it here; None where this is another kind of GPU."""
    if not measured.gpu or gpu.called not in measured.device.replace("-", " ").split():
        return None
    stage = max(measured.stages, key=lambda stage: measured.stages[stage].whole[0])
    steps = counted.stages[stage]
    flops = sum(steps.train_flops.values()) / steps.steps / steps.devices
    return flops / measured.stages[stage].median / gpu.rate(measured.precision)


def _stage_dict(memory: StageMemory) -> dict[str, Any]:
    by_part: dict[str, dict[str, int]] = {}
    for (kind, part), size in sorted(memory.at_peak.items()):
        if size:
            by_part.setdefault(part or "step", {})[kind] = size
    phases = {phase: sum(live.values()) for phase, live in memory.phases.items()}
    return {"peak_bytes": memory.peak, "peak_is_in": memory.during, "by_phase": phases, "by_part": by_part}
