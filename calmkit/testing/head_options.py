"""The laws of what a draw can be asked for: `SampleOptions`, and what a head makes of them."""

from __future__ import annotations

import torch
from torch import Tensor

from calmkit.interfaces import Context, EventSpec, GenerativeHead, SampleOptions
from calmkit.testing import laws
from calmkit.testing.density import make_context
from calmkit.testing.laws import Subject


@laws.law("a sample option is honoured or a ValueError, never ignored")
def check_options(part: Subject, head: GenerativeHead, event: EventSpec) -> None:
    """Each option is honoured or refused, as `info.options` says, and a temperature narrows."""
    context, honoured = make_context(head, (2, 5)), head.info.options
    tries = {"temperature": 0.5, "num_steps": 2, "solver": "euler", "generator": torch.Generator()}
    for name in sorted(tries.keys() - honoured):
        seen = f"'{name}' is not in info.options, yet sample() took it"
        _require_refused(part, head, context, SampleOptions(**{name: tries[name]}), seen)  # type: ignore[arg-type]
    if head.info.temperature != "none":  # exactly where options name it, says HeadInfo
        _require_refused(part, head, context, SampleOptions(temperature=0.0), "sample() took temperature 0")
        _check_temperature(part, head, event)
    if "solver" in honoured:
        unknown = SampleOptions(solver="no such solver")
        _require_refused(part, head, context, unknown, "sample() took solver 'no such solver'")
    if "num_steps" in honoured:
        draws = head.sample(context, 2, SampleOptions(num_steps=2))
        part.require(draws.isfinite().all(), "draws are finite", f"num_steps=2 gave {draws.tolist()}")
    if "generator" in honoured:
        left, right = (laws.with_seed(seed, head.sample, context, 2, _generator_options()) for seed in (0, 1))
        law = "a given generator is the only source of randomness"
        part.require(torch.equal(left, right), law, "draws changed with torch's default generator")


def _generator_options() -> SampleOptions:
    return SampleOptions(generator=torch.Generator().manual_seed(5))


def _require_refused(
    part: Subject, head: GenerativeHead, context: Context, options: SampleOptions, seen: str
) -> None:
    try:
        head.sample(context, 1, options)
    except ValueError:
        return
    part.require(False, "a sample option is honoured or a ValueError, never ignored", seen)


@laws.law("a temperature below 1 narrows the draws")
def _check_temperature(part: Subject, head: GenerativeHead, event: EventSpec) -> None:
    """Seeded, and far from the border: the spread at temperature 0.1 against that at 1, over 256 draws."""
    context = make_context(head, (1, 4))
    cold, plain, one = (
        laws.with_seed(0, head.sample, context, 256, options)
        for options in (SampleOptions(temperature=0.1), None, SampleOptions(temperature=1.0))
    )
    part.close(one, plain, "temperature 1 changes nothing", "draws with it and without")
    law, (low, high) = "a temperature below 1 narrows the draws", (_spread(cold, event), _spread(one, event))
    seen = f"spread {low:.4g} at temperature 0.1, {high:.4g} at 1"
    # A temperature on noise leaves the first noise of an iterative head alone, and of a head that has hardly
    # learned that may be nearly all of the spread.
    allowed = 1.01 * high if head.info.temperature == "noise" else high
    part.require(low <= allowed and not torch.equal(cold, one), law, seen)


def _spread(draws: Tensor, event: EventSpec) -> float:
    """Mean standard deviation, or, of ids, the share of draws that are not the most frequent id."""
    if event.vocab_size is None:
        return draws.std(0).mean().item()
    ids = torch.nn.functional.one_hot(draws, event.vocab_size).double().mean(0)
    return 1 - ids.amax(-1).mean().item()
