"""Brier terms at K = 1 and K = 2: all positions rolled out at once, against one roll-out per position.

    python benchmarks/brier_rollout.py

Both ways use the same model, rows and number of draws, and roll a pair out for as long as it agrees. The
second takes the positions one after another, each from the backbone's state behind its prefix, as the
official code does; it leaves out the accuracy, which the first way computes too. The model is not trained,
but its logits are sharpened until pairs of tokens agree in some 40 to 45 percent, about as often as those of
a small model of bytes.

Both ways estimate the same numbers: their difference, position by position, must have mean 0 within 5.1
standard errors for each n (a false alarm in 3e-7 of comparisons, with Gaussian tails).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.backbones.transformer import TransformerBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.heads.local_ar import LocalARHead
from calmkit.model import CalmModel
from calmkit.text.metrics.rollout import brier_draws, eligible_units, units_per_continuation

VOCAB = 5
SHARPER = {1: 3.7, 2: 8.5}  # factor on the logits of a fresh head, by chunk size
MIN_RATIO = 10.0
MAX_DEVIATION = 5.1


def make_model(chunk_size: int) -> CalmModel:
    autoencoder = TokenChunks(VOCAB, chunk_size=chunk_size)
    head = LocalARHead(128, autoencoder.event)
    head.to_logits.weight.data *= SHARPER[chunk_size]
    return CalmModel(
        autoencoder,
        TokensEmbedder(128, autoencoder.event, chunk_size, VOCAB),
        TransformerBackbone(hidden_dim=128, depth=4, heads=4),
        head - 1,
    ).eval()


@torch.no_grad()
def one_by_one(model: CalmModel, chunks: Tensor, valid: Tensor, num_draws: int) -> Tensor:
    """Collision for n = 1..4 of every position, by roll-outs of one position at a time; `[P, 4]`.

    At K = 1 the last token is integrated, not counted: E p(x) = sum p^2, as in the official discrete code.
    """
    x = model.embedder(chunks, model.encode(chunks).mean)
    context, prefixes = model.backbone(x, valid), model.backbone.states(x, valid)
    several, positions = (
        units_per_continuation(model.autoencoder.chunk_size),
        eligible_units(valid, model.autoencoder.chunk_size),
    )
    terms = torch.zeros(int(positions.sum()), several * model.autoencoder.chunk_size)
    real = torch.ones(1, 1, dtype=torch.bool)
    for slot, (row, unit) in zip(terms, positions.nonzero().tolist(), strict=True):
        for _ in range(num_draws // 2):
            here = context[row : row + 1, unit : unit + 1]
            state = model.backbone.select(prefixes, torch.tensor([row * chunks.shape[1] + unit]))
            for ahead in range(several):
                ids, z = model.draw(here, 2)
                equal = (ids[0] == ids[1]).flatten().cumprod(0)
                part = slice(ahead * model.autoencoder.chunk_size, (ahead + 1) * model.autoencoder.chunk_size)
                if model.autoencoder.chunk_size == 1:
                    slot[part] += torch.stack([model.log_prob(here, draw) for draw in ids]).exp().mean()
                else:
                    slot[part] += equal
                if not equal[-1] or ahead == several - 1:
                    break
                here, state = model.backbone.step(model.embedder(ids[0], z[0]), real, state)
    return terms[:, :4] / (num_draws // 2)


def timed(call: Callable[[], Tensor], repeats: int) -> tuple[float, Tensor]:
    """The shortest of several runs, and the mean of what they return."""
    times, values = [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        values.append(call())
        times.append(time.perf_counter() - begin)
    return min(times), torch.stack(values).mean(0)


def compare(chunk_size: int, num_draws: int, options: argparse.Namespace) -> bool:
    """Time both ways and print one line; whether ratio and equality hold."""
    torch.manual_seed(0)
    model = make_model(chunk_size)
    units = options.tokens // chunk_size
    chunks = torch.randint(VOCAB, (options.rows, units, chunk_size))
    valid = torch.ones(options.rows, units, dtype=torch.bool)
    together, left = timed(lambda: brier_draws(model, chunks, valid, num_draws)[1], options.repeats)
    apart, right = timed(lambda: one_by_one(model, chunks, valid, num_draws), options.repeats)
    difference = left.double() - right.double()
    deviation = difference.mean(0) / (difference.std(0) / len(difference) ** 0.5).clamp(min=1e-12)
    print(
        f"K={chunk_size}, {num_draws} draws: {len(left)} positions, together {together:.3f} s, one by one "
        f"{apart:.3f} s, ratio {apart / together:.1f}\n"
        f"    collision n=1..4 together {_numbers(left.mean(0))}, one by one {_numbers(right.mean(0))}, "
        f"apart by {_numbers(deviation, 1)} standard errors"
    )
    return apart >= MIN_RATIO * together and bool((deviation.abs() <= MAX_DEVIATION).all())


def _numbers(values: Tensor, digits: int = 4) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values.tolist())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--draws", type=int, nargs="+", default=[2, 4])  # the least; calmkit's default
    parser.add_argument("--repeats", type=int, default=3)
    # One thread: on a shared machine the barriers between threads would time the neighbours.
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options}")
    kept = [compare(chunk_size, draws, options) for chunk_size in (1, 2) for draws in options.draws]
    print("targets kept" if all(kept) else "TARGET MISSED", f"(ratio at least {MIN_RATIO:.0f} in every line)")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
