"""draw_rows: whole rows of a fixed number of units, along an order, guided.

    order.query -> context of the units that are known -> guided draws of the head -> order.commit -> ...

A causal backbone is stepped, so that no unit is read twice; one of any order reads the row anew at every
step. Under guidance every row is read twice: with its condition and with the null condition.

Sources: Li et al., MAR, 2024, section 3.3. https://arxiv.org/abs/2406.11838 Tschannen et al., GIVT, 2023,
sections 3.2 and 3.3. https://arxiv.org/abs/2312.02116
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from calmkit.beams import beam_rows
from calmkit.generation import Precision, SeededRandomness, in_precision
from calmkit.head_calls import guided_draws
from calmkit.interfaces import (
    AnyOrderBackbone,
    Backbone,
    Context,
    DensityHead,
    Guided,
    Order,
    PastReadingAutoencoder,
    RowSampler,
    State,
)
from calmkit.model import CalmModel

ROWS_AT_ONCE = 128
"""Rows that pass the model together; more are drawn in parts."""


@final
@dataclass(frozen=True)
class DrawnRows:
    """Rows that a model made.

    Attributes:
        data: As its autoencoder gives them.
        z: `[N, L, *E]`, the model's values.
        steps: Steps that each row took.
    """

    data: Shaped[Tensor, "*rows_and_data"]
    z: Float[Tensor, "*rows_and_event"]
    steps: int


@torch.no_grad()
def draw_rows(
    model: CalmModel,
    sampler: RowSampler,
    num: int,
    *,
    condition: Mapping[str, Tensor] | None = None,
    order: Order | None = None,
    seed: int = 0,
    precision: Precision = "auto",
    progress: Callable[[int], object] = lambda rows: None,
    rows_at_once: int | None = None,
) -> DrawnRows:
    """Draw `num` rows. The same model, sampler, condition, order, seed, precision, number of rows, rows at
    once and kind of device give the same rows, whoever else draws what. Rows that are drawn together share
    one stream of random numbers.

    Args:
        model: In eval mode; all is drawn on its device.
        sampler: How.
        num: N.
        condition: Of each row, `[N, ...]` each; None: the null condition, where the model has a conditioner.
        order: Instead of the model's own.
        seed: Of torch's default generators, which are given back as they were.
        precision: `bf16` runs the model under autocast.
        progress: Told of the rows that are there, now and then.
        rows_at_once: Rows that pass the model together; None: `ROWS_AT_ONCE`.

    Raises:
        ValueError: Rows have no fixed number of units, the decoder reads the past, guidance has no condition
            to push away from, or beams lack a density, a causal backbone, or the guidance 1.
    """
    if model.layout is None:
        raise ValueError("rows of this model have no fixed number of units; generate draws unit by unit.")
    if isinstance(model.autoencoder, PastReadingAutoencoder):
        raise ValueError(
            f"rows are decoded when all their values are drawn, and {type(model.autoencoder).__name__} "
            "decodes a unit behind those before it; generate draws unit by unit."
        )
    guided = sampler.guidance.weight != 1
    if guided and (model.conditioner is None or not condition):
        raise ValueError(
            f"guidance {sampler.guidance.weight:g} needs a condition, and none was given; "
            "weight 1 needs none."
        )
    _check_beams(model, sampler)
    device = next(model.parameters()).device
    randomness = SeededRandomness(seed, device)
    found: list[Tensor] = []
    steps = 0
    most = rows_at_once or ROWS_AT_ONCE
    for first in range(0, num, most):
        rows = min(most, num - first)
        given = {n: value[first : first + rows].to(device) for n, value in (condition or {}).items()}
        with randomness.borrowed(), in_precision(precision, device):
            z, steps = _drawn(model, sampler, rows, given, order or model.order)
        found.append(z)
        progress(first + rows)
    every = torch.cat(found)
    data = [model.to_data(every[i : i + most]) for i in range(0, num, most)]
    return DrawnRows(torch.cat(data), every, steps)


def _check_beams(model: CalmModel, sampler: RowSampler) -> None:
    if sampler.beams == sampler.fan == 1:
        return
    for part, kind, wanted in (
        (model.head, DensityHead, "a head that knows its density"),
        (model.backbone, Backbone, "a causal backbone"),
    ):
        if not isinstance(part, kind):
            raise ValueError(
                f"beams need {wanted}, and {type(part).__name__} is none; beams 1 and fan 1 would do."
            )
    if sampler.guidance.weight != 1:
        raise ValueError(f"beams are not guided, got guidance {sampler.guidance.weight:g}; 1 would do.")


def _drawn(
    model: CalmModel, sampler: RowSampler, rows: int, condition: Mapping[str, Tensor], order: Order | None
) -> tuple[Tensor, int]:
    assert model.layout is not None
    units = math.prod(model.layout)
    prefix = model.prefix(rows, condition)
    if sampler.guidance.weight != 1:
        null = model.prefix(rows)
        assert prefix is not None
        assert null is not None
        prefix = torch.cat([prefix, null])
    if not isinstance(model.backbone, AnyOrderBackbone):
        return _one_after_the_other(model, sampler, rows, units, prefix), units
    if order is None:
        raise ValueError("this backbone reads units in any order, and no order is given.")
    return _in_order(model, sampler, rows, units, prefix, order)


def _guided(context: Context, rows: int, weight: float) -> Guided:
    """Of the conditions of `rows` rows, or of as many more behind them under the null condition."""
    if len(context.h) == rows:
        return ((context, 1.0),)
    return ((context[:rows], weight), (context[rows:], 1.0 - weight))


def _one_after_the_other(
    model: CalmModel, sampler: RowSampler, rows: int, units: int, prefix: Tensor | None
) -> Float[Tensor, "*rows_and_event"]:
    """Left to right, one step of the backbone for each unit."""
    read = rows if prefix is None else len(prefix)
    length = 0 if prefix is None else prefix.shape[1]
    context, state = model.causal.start(read, length + units)
    if prefix is not None:
        front = torch.ones(prefix.shape[:2], dtype=torch.bool, device=prefix.device)
        context, state = model.causal.step(prefix, front, state)
    first = context[:, -1]
    if sampler.beams > 1 or sampler.fan > 1:
        return _best_rows(model, sampler, units, first, state)
    made: list[Tensor] = []
    context = first
    for unit in range(units):
        weight = sampler.guidance.at(unit / units, (unit + 1) / units)
        z = guided_draws(model.head, _guided(context, rows, weight), 1, sampler.options)[0]  # [B, *E]
        made.append(z)
        if unit < units - 1:
            context, state = _read(model, z.repeat(read // rows, *[1] * (z.ndim - 1)), state)
    return torch.stack(made, 1)


def _read(model: CalmModel, z: Tensor, state: State) -> tuple[Context, State]:
    """One more unit of each row."""
    real = torch.ones(len(z), 1, dtype=torch.bool, device=z.device)
    context, state = model.causal.step(model.embedder(None, z.unsqueeze(1)), real, state)
    return context[:, -1], state


def _best_rows(
    model: CalmModel, sampler: RowSampler, units: int, context: Context, state: State
) -> Float[Tensor, "*rows_and_event"]:
    """The likeliest of several rows kept side by side."""

    def advance(state: State, z: Tensor, rows: Int[Tensor, " R"]) -> tuple[Context, State]:
        return _read(model, z, model.causal.select(state, rows))

    def draw(context: Context, fan: int) -> Tensor:
        return guided_draws(model.head, ((context, 1.0),), fan, sampler.options)

    def log_prob(context: Context, z: Tensor) -> Tensor:
        return torch.stack([model.log_prob(context, one) for one in z])

    found = beam_rows(
        context,
        state,
        num_units=units,
        beams=sampler.beams,
        fan=sampler.fan,
        draw=draw,
        log_prob=log_prob,
        advance=advance,
    )
    return found.values[:, 0]


def _in_order(
    model: CalmModel,
    sampler: RowSampler,
    rows: int,
    units: int,
    prefix: Tensor | None,
    order: Order,
) -> tuple[Tensor, int]:
    """Several units at a step, in the order that the order says."""
    device = next(model.parameters()).device
    copies = 1 if prefix is None else len(prefix) // rows
    dtype = next((p.dtype for p in model.embedder.parameters()), torch.get_default_dtype())
    z = torch.zeros(rows, units, *model.event.shape, dtype=dtype, device=device)
    known = torch.zeros(rows, units, dtype=torch.bool, device=device)
    valid = torch.ones(rows * copies, units, dtype=torch.bool, device=device)
    state, done, schedule = order.start(rows, units, device=device), 0, order.schedule(units)
    row = torch.arange(rows, device=device).unsqueeze(1)
    for step in schedule:
        x = model.embedder(None, z)
        both = x.repeat(copies, 1, 1), known.repeat(copies, 1)
        context = model.conditions(both[0], valid, both[1], prefix)
        query = order.query(state)  # [B, m]
        asked = Context(
            context.h[torch.arange(rows * copies, device=device).unsqueeze(1), query.repeat(copies, 1)]
        )
        weight = sampler.guidance.at(done / units, (done + step.kept) / units)
        drawn = guided_draws(model.head, _guided(asked, rows, weight), 1, sampler.options)[0]  # [B, m, *E]
        score = model.log_prob(asked[:rows], drawn) if order.needs_density else None
        keep, state = order.commit(state, query, score)
        at = (row.expand_as(query)[keep], query[keep])
        z[at] = drawn[keep].to(z.dtype)
        known[at] = True
        done += step.kept
    if not bool(known.all()):
        raise ValueError(f"{type(order).__name__}: units are left when its schedule of {units} is through.")
    return z, len(schedule)
