"""The laws of heads that combine several conditions themselves."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from calmkit.head_calls import guided_draws
from calmkit.interfaces import Context, EventSpec, GuidedHead, SampleOptions
from calmkit.testing import laws
from calmkit.testing.density import make_context
from calmkit.testing.laws import HIDDEN_DIM, Subject

SAME = ((3.0, -2.0), (0.25, 0.75), (2.0, -0.5, -0.5))
"""Weights under which terms of one condition are no guidance."""
NUM = 4096
UNITS = (2, 5)


@laws.law("a guided draw is a draw")
def check_guidance(part: Subject, head: GuidedHead, event: EventSpec) -> None:
    """What `sample_guided` must do: draws like any other, of the plain law where all conditions are the same,
    and of another where they differ.
    """
    context = make_context(head, UNITS)
    _check_draws(part, head, event, context)
    _check_same(part, head, context)
    _check_options(part, head, context)
    _check_half(part, event)


def _pair(context: Context, weight: float = 0.5, apart: float = 0.5) -> tuple[tuple[Context, float], ...]:
    """A condition and one that differs from it; the geometric mean of two densities is always one."""
    return (context, weight), (replace(context, h=context.h + apart), 1 - weight)


def _check_draws(part: Subject, head: GuidedHead, event: EventSpec, context: Context) -> None:
    guided = _pair(context)
    for num in (1, 3):
        draws, wanted = head.sample_guided(guided, num), (num, *UNITS, *event.shape)
        law = "guided draws are [num, *units, *event]"
        part.require(draws.shape == wanted, law, f"{tuple(draws.shape)} instead of {wanted}")
        seen = f"weights 0.5, 0.5 gave {draws.tolist()}"
        part.require(draws.isfinite().all(), "guided draws are finite", seen)
    laws.check_dtype(part, draws, context.h.dtype, "a guided draw")
    first, again, plain = (
        laws.with_seed(0, draw)
        for draw in (*[lambda: head.sample_guided(guided, 3)] * 2, lambda: head.sample(context, 3))
    )
    part.require(torch.equal(first, again), "same seed, same draw", "two guided calls with seed 0 differ")
    law = "guidance by another condition moves the draws"
    part.require(not torch.equal(first, plain), law, "weights 0.5, 0.5 of two conditions left them alone")


def _check_same(part: Subject, head: GuidedHead, context: Context) -> None:
    """One condition in all terms. Where a head spends its randomness otherwise, the laws are compared."""
    law = "terms of one condition are no guidance"
    plain = laws.with_seed(0, head.sample, context, 2)
    for weights in SAME:
        guided = tuple((context, weight) for weight in weights)
        draws = laws.with_seed(0, head.sample_guided, guided, 2)
        if plain.is_floating_point() and torch.allclose(draws, plain, rtol=1e-6, atol=1e-6):
            continue
        left, right = head.sample(context, NUM), head.sample_guided(guided, NUM)
        gap = max(laws.cdf_gap(a, b) for a, b in zip(_columns(left), _columns(right), strict=True))
        # Smirnov's bound, 2 exp(-n gap^2): two samples of 4096 stray by 0.073 once in 10^9 seeds; this is one
        seen = f"weights {', '.join(f'{w:g}' for w in weights)}: distribution functions differ by {gap:.3f}"
        part.require(gap <= 0.073, law, seen)


def _columns(draws: Tensor) -> Tensor:
    return draws.flatten(1).T.double()  # [units and event, num]


def _check_options(part: Subject, head: GuidedHead, context: Context) -> None:
    """Guided draws honour and refuse what plain ones do."""
    guided, honoured = _pair(context), head.info.options
    tries = {"temperature": 0.5, "num_steps": 2, "solver": "euler", "generator": torch.Generator()}
    law = "a guided draw takes the sample options that a draw takes"
    for name in sorted(tries.keys() - honoured):
        try:
            head.sample_guided(guided, 1, SampleOptions(**{name: tries[name]}))  # type: ignore[arg-type]
        except ValueError:
            continue
        part.require(False, law, f"'{name}' is not in info.options, yet sample_guided() took it")
    if "generator" in honoured:
        left, right = (
            laws.with_seed(
                seed, head.sample_guided, guided, 2, SampleOptions(generator=torch.Generator().manual_seed(5))
            )
            for seed in (0, 1)
        )
        source = "a given generator is the only source of randomness"
        part.require(torch.equal(left, right), source, "guided draws changed with torch's default generator")
    if "temperature" in honoured:
        cold, plain = (
            laws.with_seed(0, head.sample_guided, guided, 2, SampleOptions(temperature=temperature))
            for temperature in (0.1, 1.0)
        )
        part.require(not torch.equal(cold, plain), law, "a temperature of 0.1 left guided draws alone")


def _check_half(part: Subject, event: EventSpec) -> None:
    """As the program calls it under autocast: weights in float32, conditions in bfloat16."""
    head = part.build(HIDDEN_DIM, event, dtype=torch.float32)
    context = make_context(head, UNITS, torch.float32)
    context = replace(context, h=context.h.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        draws = guided_draws(head, _pair(context), 2)
    law = "guided draws are finite"
    part.require(draws.isfinite().all(), law, f"not under bfloat16 autocast: {draws.tolist()}")
