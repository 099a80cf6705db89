"""The laws of heads that know the weights of the values that a draw picks among."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from calmkit.head_calls import head_weighted_draws
from calmkit.interfaces import Context, EventSpec, SampleOptions, WeightedHead
from calmkit.testing import laws
from calmkit.testing.density import make_context
from calmkit.testing.laws import HIDDEN_DIM, Subject

NUM = 4096
UNITS = (2, 5)


@laws.law("a pick by its weight is a draw")
def check_weighted(part: Subject, head: WeightedHead, event: EventSpec) -> None:
    """What `weighted_draws` must do: weights that sum to 1, values like draws, and picks of the law of
    `sample`, whatever options both are given.
    """
    context = make_context(head, UNITS)
    _check_values(part, head, event, context)
    _check_options(part, head, context)
    if not head.info.needs_memory:  # the picks below would need a memory each
        asked = [None, SampleOptions(temperature=0.5)] if "temperature" in head.info.options else [None]
        for options in asked:
            _check_picks(part, head, options)
    _check_half(part, event)


def _check_values(part: Subject, head: WeightedHead, event: EventSpec, context: Context) -> None:
    log_weights, values = laws.with_seed(0, head.weighted_draws, context)
    law, count = "log weights are [*units, M], values [M, *units, *event]", log_weights.shape[-1]
    shapes = (tuple(log_weights.shape), tuple(values.shape))
    part.require(shapes == ((*UNITS, count), (count, *UNITS, *event.shape)), law, f"{shapes[0]}, {shapes[1]}")
    part.require(values.isfinite().all(), "values are finite", f"{values.tolist()}")
    total = log_weights.exp().sum(-1)
    part.close(total, torch.ones_like(total), "weights sum to 1", "their sums and 1", 1e-5)
    wide = log_weights.dtype in (torch.float32, torch.float64)
    part.require(wide, "log weights are float32 or wider", f"{log_weights.dtype}")
    if event.vocab_size is None:
        laws.check_dtype(part, values, context.h.dtype, "a value")
    again = laws.with_seed(0, head.weighted_draws, context)
    part.require(torch.equal(values, again[1]), "same seed, same values", "two calls with seed 0 differ")


def _check_options(part: Subject, head: WeightedHead, context: Context) -> None:
    """Weighted draws honour and refuse what plain ones do."""
    tries = {"temperature": 0.5, "num_steps": 2, "solver": "euler", "generator": torch.Generator()}
    law, honoured = "weighted draws take the sample options that a draw takes", head.info.options
    for name in sorted(tries.keys() - honoured):
        try:
            head.weighted_draws(context, SampleOptions(**{name: tries[name]}))  # type: ignore[arg-type]
        except ValueError:
            continue
        part.require(False, law, f"'{name}' is not in info.options, yet weighted_draws() took it")
    if "generator" in honoured:
        left, right = (
            laws.with_seed(
                seed, head.weighted_draws, context, SampleOptions(generator=torch.Generator().manual_seed(5))
            )[1]
            for seed in (0, 1)
        )
        source = "a given generator is the only source of randomness"
        part.require(torch.equal(left, right), source, "values changed with torch's default generator")


def _check_picks(part: Subject, head: WeightedHead, options: SampleOptions | None) -> None:
    """Two conditions, `NUM` picks and as many draws of each, compared by their distribution functions."""
    h = make_context(head, (2,)).h
    many = Context(h.unsqueeze(1).expand(2, NUM, HIDDEN_DIM))  # a fresh set of values for every pick
    log_weights, values = head.weighted_draws(many, options)
    picked = torch.multinomial(log_weights.exp().flatten(0, 1), 1).reshape(1, 2, NUM)
    index = picked.reshape(*picked.shape, *[1] * (values.ndim - 3)).expand(1, *values.shape[1:])
    picks = values.gather(0, index)[0].transpose(0, 1)  # [NUM, 2, *event]
    draws = head.sample(Context(h), NUM, options)
    gap = max(laws.cdf_gap(a, b) for a, b in zip(_columns(picks), _columns(draws), strict=True))
    # Smirnov's bound, 2 exp(-n gap^2): two samples of 4096 stray by 0.073 once in 10^9 seeds; this is one
    asked = "" if options is None else f"temperature {options.temperature:g}: "
    seen = f"{asked}distribution functions of picks and draws differ by {gap:.3f}"
    part.require(gap <= 0.073, "a pick by its weight is a draw", seen)


def _columns(draws: Tensor) -> Tensor:
    return draws.flatten(1).T.double()  # [units and event, num]


def _check_half(part: Subject, event: EventSpec) -> None:
    """As the program calls it under autocast: weights in float32, conditions in bfloat16."""
    head = part.build(HIDDEN_DIM, event, dtype=torch.float32)
    context = make_context(head, UNITS, torch.float32)
    context = replace(context, h=context.h.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_weights, values = head_weighted_draws(head, context)
    law = "weights and values are finite"
    finite = values.isfinite().all() and log_weights.exp().isfinite().all()
    part.require(finite, law, f"not under bfloat16 autocast: {log_weights.tolist()}, {values.tolist()}")
    wide = log_weights.dtype in (torch.float32, torch.float64)
    part.require(wide, "log weights are float32 or wider", f"{log_weights.dtype} under bfloat16 autocast")
