"""How a sampler scores on a model: the law of what it chooses, and what the choice costs.

A sampler on a head is a law of its own, P', so BrierLM's terms apply to it as to any model that can only be
sampled: with two independent choices x, x' per unit,

    accuracy_n   1{x_1..x_n = y_1..y_n}, averaged over both        how often it is right
    collision_n  1{x_1..x_n = x'_1..x'_n}                          how little it varies

A lower temperature buys accuracy with collision; BrierLM says whether that was worth it. For K < 4 the pair
is rolled out along its first choice for as long as it agrees, as `calmkit.text.metrics.rollout` does with
plain draws.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 7.5, Figures 10 and 11.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from calmkit.decoding import behind
from calmkit.generation import SeededRandomness, UnitDraws
from calmkit.interfaces import Batch, Choice, Context, Past, Sampler, State
from calmkit.metrics.choice_flops import ChoiceFlops
from calmkit.metrics.sampler_use import SamplerUse
from calmkit.model import CalmModel
from calmkit.text.metrics.brier import NUM_TOKENS, BrierLM
from calmkit.text.metrics.rollout import chained_accuracy, eligible_units, units_per_continuation
from calmkit.text.metrics.sampling_scores import SamplingScores, summarise
from calmkit.text.metrics.throughput import network_calls_per_draw
from calmkit.text.units import chunk_size_of

UNITS_PER_BLOCK = 64  # units that a sampler chooses for at once; with 200 draws each the head makes 12800


@final
@dataclass
class Use:
    """What the choices under teacher forcing cost, as they are made; `flops` None: no formula can say it."""

    counted: ChoiceFlops
    sampler: SamplerUse = field(default_factory=SamplerUse)
    flops: int | None = 0

    def add(self, choice: Choice, draws: UnitDraws) -> None:
        """Count one choice of each row."""
        self.sampler.add(choice.draws, choice.level)
        cost = self.counted.of(draws)
        self.flops = None if self.flops is None or cost is None else self.flops + cost

    @property
    def flops_per_unit(self) -> float | None:
        """Mean FLOPs of a choice."""
        return None if self.flops is None else self.flops / self.sampler.units


@torch.no_grad()
def measure_sampling(
    model: CalmModel,
    sampler: Sampler,
    batches: Iterable[Batch],
    *,
    max_units: int | None = 1024,
    seed: int = 0,
    progress: Callable[[int], object] = lambda units: None,
) -> SamplingScores:
    """Score a sampler under teacher forcing, at units spread evenly over held-out rows.

    The past is read and positions are eligible as in `brier_draws`, and like there nothing is replaced after
    an end-of-text, so that the sampler `direct` has the expectation of plain draws. Cost and levels are those
    of the choices under teacher forcing, not of roll-outs.

    Args:
        model: In eval mode.
        sampler: As users would run it.
        batches: Of chunks `[B, L, K]`, as a datamodule's validation loader gives.
        max_units: Positions to score; None or more than there are: all.
        seed: The same seed gives the same scores.
        progress: Called after each batch with the units scored so far.

    Raises:
        ValueError: If there is no position to score, or `max_units` is below 1.
    """
    if max_units is not None and max_units < 1:
        raise ValueError(f"max_units must be at least 1, got {max_units}; null takes all.")
    held = [(batch.data, batch.valid, batch.group) for batch in batches]
    eligible = [eligible_units(model.predict(valid), chunk_size_of(model)) for _, valid, _ in held]
    total = sum(int(where.sum()) for where in eligible)
    if total == 0:
        raise ValueError("No position to score a sampler at: no unit of the data is followed by 4 tokens.")
    chosen = _evenly(eligible, total, min(total, max_units or total))
    device = next(model.parameters(), held[0][0]).device
    use, metric = Use(ChoiceFlops(model, sampler.options)), BrierLM()
    metric.distributed_available_fn = lambda: False  # each process may measure for itself
    terms: list[Tensor] = []
    rows_before = 0
    with SeededRandomness(seed, device).borrowed():
        for (chunks, valid, documents), begins in zip(held, chosen, strict=True):
            if bool(begins.any()):
                accuracy, collision = _terms(
                    model, sampler, chunks.to(device), valid.to(device), begins.to(device), use
                )
                rows = begins.nonzero()[:, 0].to(device)
                of = None if documents is None else documents.to(device)[begins.to(device)]
                metric.update(accuracy, collision, rows, of)
                terms.append(torch.cat([accuracy, collision, (rows + rows_before).unsqueeze(1)], 1).cpu())
            rows_before += len(chunks)
            progress(sum(map(len, terms)))
    calls = network_calls_per_draw(model, sampler)
    return summarise(metric, torch.cat(terms), use.sampler, calls, use.flops_per_unit)


def _evenly(eligible: list[Tensor], total: int, count: int) -> list[Tensor]:
    """`count` of the positions of all batches, in the middles of as many equal stretches."""
    middles = (2 * torch.arange(count) + 1) * total // (2 * count)
    chosen, before = [], 0
    for where in eligible:
        here = int(where.sum())
        mine = middles[(middles >= before) & (middles < before + here)] - before
        flat = where.flatten().nonzero()[:, 0][mine.to(where.device)]
        begins = torch.zeros(where.numel(), dtype=torch.bool, device=where.device)
        begins[flat] = True
        chosen.append(begins.view(where.shape))
        before += here
    return chosen


def _terms(
    model: CalmModel,
    sampler: Sampler,
    chunks: Int[Tensor, "B L K"],
    valid: Bool[Tensor, "B L"],
    begins: Bool[Tensor, "B L"],
    use: Use,
) -> tuple[Float[Tensor, "P 4"], Float[Tensor, "P 4"]]:
    """Accuracy and collision at the positions that begin in a batch."""
    x = model.embedder(chunks, model.encode(chunks).mean)
    context = behind(model.autoencoder, model.backbone(x, valid), chunks, valid)
    ahead = units_per_continuation(chunk_size_of(model)) - 1
    needed = begins.clone()
    for further in range(1, ahead + 1):
        needed[:, further:] |= begins[:, :-further]
    ids, z = _choices(model, sampler, context[needed], use)
    other, _ = _choices(model, sampler, context[needed], use)
    truth = chunks[needed]
    hits = torch.zeros(chunks.shape, dtype=torch.get_default_dtype(), device=chunks.device)
    hits[needed] = ((ids == truth).cumprod(-1) + (other == truth).cumprod(-1)) / 2
    here = begins[needed]
    ids, other, z = ids[here], other[here], z[here]
    collision = torch.zeros(
        len(ids), (ahead + 1) * chunk_size_of(model), dtype=hits.dtype, device=hits.device
    )
    collision[:, : chunk_size_of(model)] = (ids == other).cumprod(-1).to(hits.dtype)
    live = collision[:, chunk_size_of(model) - 1].nonzero()[:, 0]
    if ahead and len(live):
        branches = begins.flatten().nonzero()[:, 0]
        state = model.causal.select(model.causal.states(x, valid), branches[live])
        past = context[begins][live].past
        collision[live, chunk_size_of(model) :] = _roll_out(
            model, sampler, state, past, ids[live], z[live], ahead
        )
    return chained_accuracy(hits, begins), collision[:, :NUM_TOKENS]


def _choices(
    model: CalmModel, sampler: Sampler, context: Context, use: Use | None = None
) -> tuple[Int[Tensor, "P K"], Shaped[Tensor, "P *event"]]:
    """One choice per position, as ids and as the value behind them, in blocks of positions."""
    made = []
    for start in range(0, len(context.h), UNITS_PER_BLOCK):
        block = context[start : start + UNITS_PER_BLOCK]
        draws = UnitDraws(model, block, sampler.options)
        rows = torch.arange(len(block.h), device=block.h.device)
        choice = sampler.choose(draws, rows)
        made.append((choice.data, draws.value(rows, choice.index)))
        if use is not None:
            use.add(choice, draws)
    return torch.cat([ids for ids, _ in made]), torch.cat([z for _, z in made])


def _roll_out(
    model: CalmModel,
    sampler: Sampler,
    state: State,
    past: Past | None,
    ids: Int[Tensor, "A K"],
    z: Shaped[Tensor, "A *event"],
    ahead: int,
) -> Float[Tensor, "A tokens"]:
    """Go `ahead` units on from the pairs' common unit; which of their further tokens agree."""
    chunk_size = ids.shape[1]
    terms = torch.zeros(len(ids), ahead * chunk_size, dtype=torch.get_default_dtype(), device=ids.device)
    at = torch.arange(len(ids), device=ids.device)
    for step in range(ahead):
        real = torch.ones(len(ids), 1, dtype=torch.bool, device=ids.device)
        x = model.embedder(ids.unsqueeze(1), z.unsqueeze(1))
        context, state = model.causal.step(x, real, state)
        past = None if past is None else past.then(ids)
        context = context[:, 0].behind(past)
        ids, z = _choices(model, sampler, context)
        other, _ = _choices(model, sampler, context)
        agree = (ids == other).cumprod(-1)
        terms[at, step * chunk_size : (step + 1) * chunk_size] = agree.to(terms.dtype)
        alike = agree[:, -1].nonzero()[:, 0]
        if step == ahead - 1 or len(alike) == 0:
            break
        at, ids, z, state = at[alike], ids[alike], z[alike], model.causal.select(state, alike)
        past = None if past is None else past[alike]
    return terms
