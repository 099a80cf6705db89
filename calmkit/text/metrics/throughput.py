"""Throughput: how fast a model writes, timed in the loop that users run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import final

from calmkit.interfaces import IterativeHead, Sampler
from calmkit.metrics.sampler_use import SamplerUse
from calmkit.model import CalmModel
from calmkit.text.generation import generate
from calmkit.text.units import chunk_size_of


@final
@dataclass(frozen=True)
class Throughput:
    """What writing cost.

    Attributes:
        tokens_per_second: Of all rows together, ended rows not counted.
        draws_per_unit: Draws that the sampler asked the head for, per unit written.
        network_calls_per_draw: Calls of the head's network for one draw; None for an adaptive solver.
        tokens: Tokens the figures rest on.
        seconds: Time they took.
        level: Mean level of agreement that the sampler reached (`Choice.level`); None where it never did.
        fallback_share: Share of the units for which it fell back.
    """

    tokens_per_second: float
    draws_per_unit: float
    network_calls_per_draw: int | None
    tokens: int
    seconds: float
    level: float | None = None
    fallback_share: float = 0.0

    @property
    def network_calls_per_unit(self) -> float | None:
        """Draws per unit times calls per draw."""
        calls = self.network_calls_per_draw
        return None if calls is None else self.draws_per_unit * calls


def network_calls_per_draw(model: CalmModel, sampler: Sampler) -> int | None:
    """Calls of the head's network for one draw: 1, its steps, or one per token; None: adaptive solver."""
    head = model.head
    if isinstance(head, IterativeHead):
        return head.network_calls(sampler.options)
    return chunk_size_of(model) if head.info.sampling == "autoregressive" else 1


def measure_throughput(
    model: CalmModel, sampler: Sampler, *, eos_id: int, units: int = 64, rows: int = 1, seed: int = 0
) -> Throughput:
    """Time generation from empty prompts until at least `units` steps of the loop are made.

    Texts that end early are followed by new ones from the next seed, so an untrained model is timed over as
    many steps as any other. One text of two steps is written before the clock starts.

    Args:
        model: In eval mode.
        sampler: As users would run it.
        eos_id: End-of-text.
        units: Steps to time, at least 1; also the longest text.
        rows: Texts written side by side.
        seed: Of the first text.

    Raises:
        ValueError: If units or rows is below 1.
    """
    if units < 1 or rows < 1:
        raise ValueError(
            f"Throughput is timed over at least 1 unit and 1 row, got units={units}, rows={rows}."
        )
    prompts: list[list[int]] = [[] for _ in range(rows)]
    for _ in generate(model, prompts, sampler, eos_id=eos_id, max_units=2, seed=seed):
        pass
    steps, use = 0, SamplerUse()
    begin = time.perf_counter()
    while steps < units:
        for unit in generate(model, prompts, sampler, eos_id=eos_id, max_units=units - steps, seed=seed):
            steps += 1
            use.add(unit.draws, unit.level)  # reading a number also waits for the device
        seed += 1
    seconds = time.perf_counter() - begin
    tokens = use.units * chunk_size_of(model)
    return Throughput(
        tokens / seconds,
        use.draws_per_unit,
        network_calls_per_draw(model, sampler),
        tokens,
        seconds,
        use.level,
        use.fallback_share,
    )
