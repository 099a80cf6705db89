"""Brier terms at K = 1 and K = 2: all positions rolled out at once, against one roll-out per position.

    python benchmarks/brier_rollout.py

Both ways use the same model, rows and number of draws; the second takes the positions one after another, each
from the backbone's state behind its prefix, and leaves out the accuracy, which the first way computes too.
Units are drawn from few tokens, so that pairs often agree, as a trained model's do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.backbones.transformer import TransformerBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.heads.local_ar import LocalARHead
from calmkit.metrics.rollout import brier_draws, eligible_units, units_per_continuation
from calmkit.model import CalmModel

VOCAB = 5


def make_model(chunk_size: int) -> CalmModel:
    autoencoder = TokenChunks(VOCAB, chunk_size=chunk_size)
    return CalmModel(
        autoencoder,
        TokensEmbedder(128, autoencoder.event, chunk_size, VOCAB),
        TransformerBackbone(hidden_dim=128, depth=4, heads=4),
        LocalARHead(128, autoencoder.event),
        eos_id=VOCAB - 1,
    ).eval()


@torch.no_grad()
def one_by_one(model: CalmModel, chunks: Tensor, valid: Tensor, num_draws: int) -> int:
    """Collision by one roll-out per position; returns how many pairs agreed in all their units."""
    x = model.embedder(chunks, model.encode(chunks).mean)
    context, prefixes = model.backbone(x, valid), model.backbone.states(x, valid)
    several, agreed = units_per_continuation(model.chunk_size), 0
    real = torch.ones(1, 1, dtype=torch.bool)
    for row, unit in eligible_units(valid, model.chunk_size).nonzero().tolist():
        for _ in range(num_draws // 2):
            here = context[row : row + 1, unit : unit + 1]
            state = model.backbone.select(prefixes, torch.tensor([row * chunks.shape[1] + unit]))
            for ahead in range(several):
                ids, z = model.draw(here, 2)
                if not torch.equal(ids[0], ids[1]):
                    break
                if ahead == several - 1:
                    agreed += 1
                    break
                here, state = model.backbone.step(model.embedder(ids[0], z[0]), real, state)
    return agreed


def seconds(call: Callable[[], object], repeats: int) -> float:
    """The shortest of several runs."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options}")
    for chunk_size in (1, 2):
        torch.manual_seed(0)
        model = make_model(chunk_size)
        units = options.tokens // chunk_size
        chunks = torch.randint(VOCAB, (options.rows, units, chunk_size))
        valid = torch.ones(options.rows, units, dtype=torch.bool)
        together = seconds(lambda: brier_draws(model, chunks, valid, options.draws), options.repeats)  # noqa: B023
        apart = seconds(lambda: one_by_one(model, chunks, valid, options.draws), options.repeats)  # noqa: B023
        positions = int(eligible_units(valid, chunk_size).sum())
        print(
            f"K={chunk_size}: {positions} positions, together {together:.3f} s, one by one {apart:.3f} s, "
            f"ratio {apart / together:.1f}"
        )


if __name__ == "__main__":
    main()
