"""of_each: what a step takes in each of several processes, from what it takes in one alone.

With ddp every process holds everything, and the buckets in which gradients travel: as much again. With fsdp2
weights, gradients, moments and average are dealt out; while a pass runs, what stands outside the backbone's
layers is whole, and two of the layers, the one at work and the one that comes next; in the backward pass
their gradients too, until they are dealt out.

Sources: PyTorch, `DistributedDataParallel` (gradient_as_bucket_view).
https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
`torch.distributed.fsdp.fully_shard`. https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

from __future__ import annotations

from collections.abc import Mapping

from calmkit.metrics.live_memory import Label
from calmkit.training.made_up_step import BACKWARD, OPTIMISER
from calmkit.training.planned_memory import (
    AVERAGE,
    GRADIENTS,
    MOMENTS,
    WEIGHTS,
    WORKING,
    StageMemory,
)

FSDP2 = "fsdp2"  # as in `calmkit.training.sharding`, which loads Lightning
BUCKETS, GATHERED = "buckets", "gathered"
AT_WORK = 2  # layers


def of_each(alone: StageMemory, world: int, strategy: str) -> StageMemory:
    """What lives in each of the processes that share a step.

    Args:
        alone: In a single one.
        world: How many share.
        strategy: As in a recipe; whatever is not `fsdp2` is taken as ddp.
    """
    if strategy != FSDP2:
        if world == 1:
            return alone
        phases = {name: _with_buckets(live) for name, live in alone.phases.items()}
    else:
        phases = {name: _dealt(live, name, world, alone) for name, live in alone.phases.items()}
    return StageMemory(phases, alone.layer, alone.layers)


def _with_buckets(live: Mapping[Label, int]) -> dict[Label, int]:
    # Moments are twice the gradients, and there in every phase.
    size = sum(size for (kind, _), size in live.items() if kind == MOMENTS) // 2
    return {**live, (BUCKETS, ""): size}


def _dealt(live: Mapping[Label, int], phase: str, world: int, alone: StageMemory) -> dict[Label, int]:
    kinds = {WEIGHTS, GRADIENTS, MOMENTS, AVERAGE} | ({WORKING} if phase == OPTIMISER else set())
    shared = {label: -(-size // world) if label[0] in kinds else size for label, size in live.items()}
    if phase == OPTIMISER:
        return shared
    weights = sum(size for (kind, _), size in live.items() if kind == WEIGHTS)
    whole = weights - alone.layers + min(AT_WORK * alone.layer, alone.layers)
    return {**shared, (GATHERED, ""): whole * (2 if phase == BACKWARD else 1)}
