"""Temperature 1/2 by known weights, against draws alone: seconds and FLOPs per chunk.

    python benchmarks/temperature.py runs/tiny/mixture/...     a trained run whose head knows its weights
    python benchmarks/temperature.py                           a random mixture of known law

Without a run the head's 16 components are narrow and far apart, with random weights, so what they decode to
is all but certain and all samplers but `vote` have the same law: their collision must agree, and the ratios
are those at one point. With a run they need not agree; `calmkit calibrate RUN sampler=sharpen` tells the
temperature at which they do, which `--temperature` takes. The exit code is 1 where `sharpen` without merging
takes more than a tenth of the FLOPs of rejection or of vote, or where, on the random mixture, rejection and
`sharpen` collide differently (by four standard errors: a false alarm in 16,000).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from calmkit.generation import UnitDraws
from calmkit.heads.mixture import MixtureHead
from calmkit.interfaces import Context, Sampler
from calmkit.metrics.choice_flops import ChoiceFlops
from calmkit.model import CalmModel
from calmkit.recipe.assemble import assemble
from calmkit.recipe.load import load_recipe
from calmkit.registry import make_manager
from calmkit.samplers.rejection import RejectionSampler
from calmkit.samplers.sharpen import SharpenSampler
from calmkit.samplers.vote import VoteSampler
from calmkit.training.run import Run

UNITS_PER_BLOCK = 32  # chosen for side by side
MIN_RATIO = 10.0


@dataclass(frozen=True)
class Cost:
    """Of a choice: FLOPs, seconds, draws, how often two agree, and the standard error of that."""

    flops: float
    seconds: float
    draws: float
    collision: float
    error: float


def random_mixture(units: int) -> tuple[CalmModel, Context]:
    """tiny/mixture, with narrow components far apart and weights that differ from unit to unit."""
    manager = make_manager(guests=[])
    model = assemble(load_recipe("tiny/mixture", (), manager), manager, {"vocab_size": 257}).eval()
    head = model.head
    assert isinstance(head, MixtureHead)
    last, M = head.network.write, head.num_components
    with torch.no_grad():
        last.weight.zero_()
        last.weight[:M].normal_(std=1.5 / math.sqrt(last.in_features))
        loc, raw_scale = last.bias[M:].unflatten(0, (M, -1)).chunk(2, -1)
        loc.normal_(std=5)
        raw_scale.fill_(-1e4)  # a standard deviation of 1e-4
    return model, Context(torch.randn(units, model.backbone.hidden_dim))


@torch.no_grad()
def cost(model: CalmModel, context: Context, sampler: Sampler) -> Cost:
    """Two choices for each unit; the first is timed."""
    flops, counted, seconds = ChoiceFlops(model, sampler.options), 0, 0.0
    draws, agree = [], []
    for start in range(0, len(context.h), UNITS_PER_BLOCK):
        block = context[start : start + UNITS_PER_BLOCK]
        rows, source = torch.arange(len(block.h)), UnitDraws(model, block, sampler.options)
        begin = time.perf_counter()
        one = sampler.choose(source, rows)
        seconds += time.perf_counter() - begin
        counted += flops.of(source) or 0
        other = sampler.choose(UnitDraws(model, block, sampler.options), rows)
        draws.append(one.draws.double())
        agree.append((one.data == other.data).all(-1).double())
    equal, units = torch.cat(agree), len(context.h)
    return Cost(
        counted / units,
        seconds / units,
        torch.cat(draws).mean().item(),
        equal.mean().item(),
        equal.std().item() / math.sqrt(units),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run", nargs="?", type=Path, help="a run folder; default: a random mixture")
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--temperature", type=float, default=0.5, help="nominal, of sharpen")
    parser.add_argument("--head-temperature", type=float, help="of sharpen; default: as the head was built")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.run is None:
        model, context = random_mixture(args.units)
    else:
        from rejection import held_out_contexts

        model, context = held_out_contexts(Run(args.run), args.units)
    settings = {"temperature": args.temperature, "head_temperature": args.head_temperature}
    samplers: dict[str, Sampler] = {
        "sharpen": SharpenSampler(**settings),
        "sharpen merge=false": SharpenSampler(merge=False, **settings),
        "rejection": RejectionSampler(temperature=0.5),
        "vote candidates=200": VoteSampler(temperature=0.5, candidates=200),
    }
    cost(model, context[:UNITS_PER_BLOCK], samplers["vote candidates=200"])  # warms up
    found = {name: cost(model, context, sampler) for name, sampler in samplers.items()}
    for name, one in found.items():
        print(
            f"{name:<22} {one.flops:10.3e} FLOPs   {one.seconds * 1e6:9.1f} us   {one.draws:7.1f} decoded   "
            f"collision {one.collision:.4f} +- {one.error:.4f}"
        )
    kept = True
    for name in ("sharpen", "sharpen merge=false"):
        for other in ("rejection", "vote candidates=200"):
            ours, theirs = found[name], found[other]
            ratio = theirs.flops / ours.flops
            print(
                f"{name} against {other}: {ratio:.1f} x FLOPs, {theirs.seconds / ours.seconds:.1f} x seconds"
            )
            kept &= name == "sharpen" or ratio >= MIN_RATIO
        if args.run is None:
            apart = abs(found[name].collision - found["rejection"].collision)
            kept &= apart <= 4 * math.hypot(found[name].error, found["rejection"].error)
    print(f"targets kept ({MIN_RATIO:g} x without merging, one law)" if kept else "TARGET MISSED")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
