"""Rejection against vote at temperature 1/2: what an exact choice costs, in draws per unit.

    python benchmarks/rejection.py runs/tiny/energy/...     a trained run
    python benchmarks/rejection.py                          trains tiny/gru for a short while first

Vote always draws its number of candidates. Rejection draws until it is done: 2 / sum P^2 on average, so a
context with many likely chunks costs a multiple of one with few, and a ceiling on draws decides how many
units fall back on a vote. Contexts are those of held-out text.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import calmkit
from calmkit.data.cache import default_cache
from calmkit.generation import UnitDraws
from calmkit.interfaces import Context, Sampler
from calmkit.model import CalmModel
from calmkit.registry import make_manager
from calmkit.samplers.rejection import RejectionSampler
from calmkit.samplers.vote import VoteSampler
from calmkit.text.metrics.brier import pair_collisions
from calmkit.text.prepare import prepare_data
from calmkit.training.run import Run

SHORT = ["stages.autoencoder.max_steps=250", "stages.autoencoder.gate=null", "stages.lm.max_steps=250"]
UNITS_PER_BLOCK = 32  # chosen for side by side


def held_out_contexts(run: Run, num: int) -> tuple[CalmModel, Context]:
    """The model of a run, and the conditions of units spread evenly over its held-out rows."""
    manager, recipe, loaded = make_manager(), run.recipe(), run.load()
    corpus = manager.build("corpora", recipe.data.part.name, recipe.data.part.options)
    prepared = prepare_data(corpus, loaded.tokenizer, default_cache())
    max_rows = recipe.evaluation.max_rows
    data = prepared.rows(recipe, loaded.model.autoencoder, batch_size=1, max_rows=max_rows)
    found = []
    with torch.no_grad():
        for batch in data.val_dataloader():
            context = loaded.model.context(batch.data, batch.valid)
            found.append(context.h[loaded.model.predict(batch.valid)])
    h = torch.cat(found)
    picks = (2 * torch.arange(num) + 1) * len(h) // (2 * num)
    return loaded.model, Context(h[picks])


@torch.no_grad()
def draws_and_levels(model: CalmModel, context: Context, sampler: Sampler) -> tuple[Tensor, Tensor]:
    """Of one choice per unit."""
    draws, levels = [], []
    for start in range(0, len(context.h), UNITS_PER_BLOCK):
        block = context[start : start + UNITS_PER_BLOCK]
        choice = sampler.choose(UnitDraws(model, block, sampler.options), torch.arange(len(block.h)))
        draws.append(choice.draws)
        levels.append(choice.level)
    return torch.cat(draws).double(), torch.cat(levels)


@torch.no_grad()
def collision(model: CalmModel, context: Context, num: int) -> Tensor:
    """Unbiased estimate of sum P^2 over whole chunks, per unit."""
    return torch.cat([pair_collisions(model.draw(part, num)[0])[:, -1] for part in blocks(context)]).double()


def blocks(context: Context) -> list[Context]:
    return [context[i : i + UNITS_PER_BLOCK] for i in range(0, len(context.h), UNITS_PER_BLOCK)]


def report(name: str, draws: Tensor, levels: Tensor, wanted: float) -> None:
    low, middle, high = draws.quantile(draws.new_tensor([0.05, 0.5, 0.95])).tolist()
    lower = (levels < wanted).double().mean()
    print(
        f"{name:<28} mean {draws.mean():8.1f}   5 % {low:6.0f}   median {middle:6.0f}   95 % {high:6.0f}   "
        f"lower agreement {lower:6.1%}   fell back {levels.isnan().double().mean():6.1%}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run", nargs="?", type=Path, help="a run folder; default: train a small model first")
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--ceilings", type=int, nargs="+", default=[20, 200, 2000, 10000])
    parser.add_argument("--candidates", type=int, nargs="+", default=[20, 50, 200])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        if args.run is None:
            print(f"training tiny/gru with {' '.join(SHORT)}")
            recipe = calmkit.load_recipe("tiny/gru", overrides=[*SHORT, "evaluation.max_rows=64"])
            run = calmkit.train(recipe, out=Path(folder) / "run")
        else:
            run = Run(args.run)
        name, (model, context) = run.recipe().name, held_out_contexts(run, args.units)
    torch.manual_seed(0)
    print(f"{name}: {args.units} units of held-out text, K={model.autoencoder.chunk_size}, temperature 1/2")
    twice = collision(model, context, 1000)
    low, middle, high = twice.quantile(twice.new_tensor([0.05, 0.5, 0.95])).tolist()
    print(f"sum P^2: mean {twice.mean():.4f}   5 % {low:.4f}   median {middle:.4f}   95 % {high:.4f}")
    for candidates in args.candidates:
        sampler: Sampler = VoteSampler(temperature=0.5, candidates=candidates)
        report(f"vote, {candidates} candidates", *draws_and_levels(model, context, sampler), 2)
    for ceiling in args.ceilings:
        sampler = RejectionSampler(temperature=0.5, max_draws=ceiling)
        report(f"rejection, at most {ceiling}", *draws_and_levels(model, context, sampler), 2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
