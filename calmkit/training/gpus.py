"""GPUS: what NVIDIA says of its GPUs, and whether a planned run fits one and how long it would take.

Dense rates: where a datasheet prints the rate with sparsity, half of it. A datasheet's GB of memory are
taken as GiB, less a tenth that is not a step's: the driver's context, the libraries' own memory, the gaps
between blocks of the allocator, and what a GPU with GDDR6 spends on its checksums.

Sources: NVIDIA's datasheets, by title: "NVIDIA H100 Tensor Core GPU", "NVIDIA H200 Tensor Core GPU", "NVIDIA
A100 Tensor Core GPU", "NVIDIA L4 Tensor Core GPU", "NVIDIA L40S", "NVIDIA V100 Tensor Core GPU", and "NVIDIA
Ada GPU Architecture" (GeForce RTX 4090, bfloat16 summed in float32). https://www.nvidia.com/en-us/data-center/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

from calmkit.interfaces import PASSES
from calmkit.recipe.plan import Plan, StagePlan
from calmkit.recipe.schema import Recipe
from calmkit.training.made_up_step import SECOND
from calmkit.training.planned_memory import ACTIVATIONS, WORKING, StageMemory
from calmkit.training.share_of_memory import FSDP2, of_each

GIB = 2**30
LEFT = 0.1
"""Share of a GPU's memory that is left to others than the step."""
SHARE = 0.4
"""Of the peak rate: an assumption, printed as one."""


@final
@dataclass(frozen=True)
class Gpu:
    """One kind of GPU.

    Attributes:
        title: As its maker calls it.
        memory: GiB.
        half: Peak dense FLOP/s of matrix products in bfloat16 or float16.
        single: Peak FLOP/s in float32.
        bf16: Whether it has bfloat16 in hardware.
        called: A word of the name that its driver gives, to know it by.
    """

    title: str
    memory: int
    half: float
    single: float
    bf16: bool = True
    called: str = ""

    @property
    def available(self) -> int:
        """Bytes that a step may take."""
        return round(self.memory * GIB * (1 - LEFT))

    def rate(self, precision: str) -> float:
        """Peak FLOP/s of a recipe's precision."""
        return self.half if "16" in precision else self.single


GPUS: Mapping[str, Gpu] = {
    "h100": Gpu("NVIDIA H100 SXM 80 GB", 80, 989.4e12, 67e12, called="H100"),
    "h200": Gpu("NVIDIA H200 SXM 141 GB", 141, 989.4e12, 67e12, called="H200"),
    "a100-40": Gpu("NVIDIA A100 40 GB", 40, 312e12, 19.5e12, called="A100"),
    "a100-80": Gpu("NVIDIA A100 80 GB", 80, 312e12, 19.5e12, called="A100"),
    "l4": Gpu("NVIDIA L4 24 GB", 24, 121e12, 30.3e12, called="L4"),
    "l40s": Gpu("NVIDIA L40S 48 GB", 48, 362.05e12, 91.6e12, called="L40S"),
    "rtx4090": Gpu("NVIDIA GeForce RTX 4090 24 GB", 24, 165.2e12, 82.6e12, called="4090"),
    "v100-16": Gpu("NVIDIA V100 SXM2 16 GB", 16, 125e12, 15.7e12, bf16=False, called="V100"),
    "v100-32": Gpu("NVIDIA V100 SXM2 32 GB", 32, 125e12, 15.7e12, bf16=False, called="V100"),
}


def find_gpu(name: str) -> Gpu:
    """The GPU of that name.

    Raises:
        ValueError: Nobody knows it; with those that are known.
    """
    if name.lower() not in GPUS:
        raise ValueError(f"nobody knows a device '{name}'; {', '.join(GPUS)} would do.")
    return GPUS[name.lower()]


@final
@dataclass(frozen=True)
class Verdict:
    """What a kind of GPU makes of a plan.

    Attributes:
        gpu: Which.
        world: How many of them.
        needed: Stage -> bytes of each.
        largest: Stage -> (kind, part, bytes) of what takes most.
        cures: Stage -> what would make it fit; empty where it does.
        warning: What else stands against it; empty: nothing.
        hours: Stage -> of all its steps at `share` of the peak rate.
        share: Of the peak rate.
        measured: Whether the share was measured, and not assumed.
    """

    gpu: Gpu
    world: int
    needed: Mapping[str, int]
    largest: Mapping[str, tuple[str, str, int]]
    cures: Mapping[str, list[str]]
    warning: str
    hours: Mapping[str, float]
    share: float
    measured: bool

    @property
    def fits(self) -> bool:
        """Whether each stage whose memory is known does."""
        return all(needed <= self.gpu.available for needed in self.needed.values())

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "device": self.gpu.title,
            "world": self.world,
            "memory_bytes": self.gpu.memory * GIB,
            "available_bytes": self.gpu.available,
            "fits": self.fits,
            "warning": self.warning,
            "hours": sum(self.hours.values()),
            "share_of_peak": self.share,
            "share_is": "measured" if self.measured else "assumed",
            "stages": {
                stage: {
                    "fits": needed <= self.gpu.available,
                    "needed_bytes": needed,
                    "largest": dict(zip(("kind", "part", "bytes"), self.largest[stage], strict=True)),
                    "cures": list(self.cures[stage]),
                }
                for stage, needed in self.needed.items()
            },
            "hours_by_stage": dict(self.hours),
        }


def verdict(
    gpu: Gpu,
    plan: Plan,
    memory: Mapping[str, StageMemory],
    recipe: Recipe,
    precision: str,
    share: float | None = None,
) -> Verdict:
    """Whether a plan fits a kind of GPU, and how long it takes.

    Args:
        gpu: Which.
        plan: Of the recipe; it says on how many.
        memory: Of its stages, on one device alone.
        recipe: Planned.
        precision: Of the plan.
        share: Of the peak rate, where it was measured.
    """
    world = max(stage.devices for stage in plan.stages.values())
    shared = {stage: of_each(alone, world, recipe.trainer.strategy) for stage, alone in memory.items()}
    needed = {stage: each.peak for stage, each in shared.items()}
    lacking = precision.startswith("bf16") and not gpu.bf16
    return Verdict(
        gpu,
        world,
        needed,
        {stage: _largest(each) for stage, each in shared.items()},
        {
            stage: [] if needed[stage] <= gpu.available else [*_cures(gpu, stage, alone, world, recipe)]
            for stage, alone in memory.items()
        },
        "it has no bfloat16 in hardware; trainer.precision=16-mixed would do" if lacking else "",
        {
            stage: _flops(stage, steps, recipe) / (world * (share or SHARE) * gpu.rate(precision)) / 3600
            for stage, steps in plan.stages.items()
        },
        share or SHARE,
        share is not None,
    )


def _flops(stage: str, steps: StagePlan, recipe: Recipe) -> float:
    """Of all processes; layers that are computed again take one forward pass more."""
    again = recipe.trainer.activation_checkpointing and stage == SECOND
    more = steps.train_flops.get("backbone", 0) / PASSES if again else 0
    return float(sum(steps.train_flops.values()) + more)


def _largest(memory: StageMemory) -> tuple[str, str, int]:
    (kind, part), size = max(memory.at_peak.items(), key=lambda item: item[1])
    return kind, part, size


def _cures(gpu: Gpu, stage: str, alone: StageMemory, world: int, recipe: Recipe) -> Iterator[str]:
    each = of_each(alone, world, recipe.trainer.strategy)
    rows = recipe.stages.lm if stage == SECOND else recipe.stages.autoencoder
    assert rows is not None
    if stage == SECOND and not recipe.trainer.activation_checkpointing:
        kept = each.at_peak.get((ACTIVATIONS, "backbone"), 0)
        if kept:
            yield (
                f"trainer.activation_checkpointing=true keeps little of the backbone's {kept / GIB:.3g} GiB"
            )
    with_rows = sum(size for (kind, _), size in each.at_peak.items() if kind in (ACTIVATIONS, WORKING))
    room = gpu.available - (each.peak - with_rows)
    fitting = [
        n
        for n in range(1, rows.batch_size)
        if rows.batch_size % n == 0 and n * with_rows <= room * rows.batch_size
    ]
    if fitting:
        more = recipe.trainer.accumulate * rows.batch_size // max(fitting)
        yield f"stages.{stage}.batch_size={max(fitting)} with trainer.accumulate={more} takes the same rows"
    if recipe.trainer.strategy != FSDP2 and world > 1:
        dealt = of_each(alone, world, FSDP2).peak
        if dealt < each.peak:
            yield f"trainer.strategy=fsdp2 comes to {dealt / GIB:.3g} GiB"
    if not fitting and room <= 0:
        yield "weights and what goes with them are too large already: more devices, or a smaller model"
