"""The geometry of the latents: what lies between two chunks, and whether near latents mean near text.

Along the line from one chunk's mean to another's, in n steps, ids_0 .. ids_n are read. With [.] = 1 where
true, summed over pairs of chunks and positions,

    path_changes    sum_i [ids_i != ids_(i+1)]  /  [ids_0 != ids_n]
    path_strangers  share of [ids_i != ids_0 and ids_i != ids_n], 0 < i < n

Near text is measured by the Hamming distance: the share of positions at which two chunks differ.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 2.2 (why the latent must be
smooth). https://arxiv.org/abs/2510.27688
Lines between codes: Bowman et al., Generating Sentences from a Continuous Space, 2016.
https://arxiv.org/abs/1511.06349
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calmkit.text.metrics.latent_units import Read

STEPS = 16  # of a line; even ones are shown in reports
PATHS = 128  # lines
PAIRS = 4096  # for the rank correlation: two standard errors are 0.03 where there is none
NEIGHBOUR_BLOCK = 512  # rows of a block of distances: 16 MiB against 4096 others


def random_pairs(
    total: int, num: int, generator: torch.Generator
) -> tuple[Int[Tensor, " num"], Int[Tensor, " num"]]:
    """Pairs of two different numbers below `total`, which is at least 2."""
    one = torch.randint(total, (num,), generator=generator)
    step = torch.randint(1, total, (num,), generator=generator)
    return one, (one + step) % total


def read_paths(
    read: Read, start: Float[Tensor, "P D"], end: Float[Tensor, "P D"], steps: int = STEPS
) -> Int[Tensor, "P points K"]:
    """What is read at `steps + 1` equidistant points of each line, both ends included."""
    part = torch.linspace(0, 1, steps + 1, dtype=start.dtype).view(1, -1, 1)
    return read(torch.lerp(start.unsqueeze(1), end.unsqueeze(1), part))


def path_changes(ids: Int[Tensor, "P points K"]) -> float:
    """Tokens that change along the lines, per token in which the two ends differ.

    1 is a straight exchange, in which every token that must change does so once; more means detours. Never
    below 1; NaN where no two ends differ. Ends are those that are read, not the chunks that were encoded.
    """
    must = (ids[:, 0] != ids[:, -1]).sum()
    return ((ids[:, 1:] != ids[:, :-1]).sum() / must).item() if must else float("nan")


def path_strangers(ids: Int[Tensor, "P points K"]) -> float:
    """Share of the tokens strictly between the ends that are neither end's at their position, in [0, 1]."""
    inner = ids[:, 1:-1]
    return ((inner != ids[:, :1]) & (inner != ids[:, -1:])).double().mean().item()


def hamming(one: Int[Tensor, "N K"], other: Int[Tensor, "N K"]) -> Float[Tensor, " N"]:
    """Share of positions at which two chunks differ, in [0, 1]."""
    return (one != other).double().mean(-1)


def mean_hamming(chunks: Int[Tensor, "N K"]) -> float:
    """Mean Hamming distance over all pairs of two rows, exactly: 1 - share of equal pairs per position."""
    equal = 0.0
    for column in chunks.T:
        counts = column.unique(return_counts=True)[1].double()
        equal += (counts * (counts - 1)).sum().item()
    return 1 - equal / (chunks.numel() * (len(chunks) - 1))


def nearest_other(points: Float[Tensor, "N D"], power: float = 2.0) -> Int[Tensor, " N"]:
    """The row nearest to each row but itself, the first of several.

    Args:
        power: Of the distance: 2 is Euclid's, 0 counts the columns that differ.
    """
    found = []
    for rows in torch.arange(len(points)).split(NEIGHBOUR_BLOCK):
        distances = torch.cdist(points[rows], points, p=power)
        distances[torch.arange(len(rows)), rows] = float("inf")
        found.append(distances.argmin(1))
    return torch.cat(found)


def ranks(values: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Ranks from 1, in double precision; equal values share their mean."""
    _, which, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2).double()[which]


def spearman(x: Float[Tensor, " N"], y: Float[Tensor, " N"]) -> float:
    """Correlation of the ranks, in [-1, 1]; NaN below three values or where one side is constant.

    Source:
        Spearman, The Proof and Measurement of Association between Two Things, 1904.
    """
    one, other = (ranks(values) - (len(values) + 1) / 2 for values in (x, y))
    size = (one.square().sum() * other.square().sum()).sqrt()
    return ((one @ other) / size).item() if len(x) > 2 and size > 0 else float("nan")


def nearness(
    chunks: Int[Tensor, "N K"], mean: Float[Tensor, "N D"], generator: torch.Generator
) -> dict[str, float]:
    """How well near latents mean near text, over chunks that all differ, at least two.

    Returns:
        `distance_rank_correlation` between the distance of two latents and the Hamming distance of their
        chunks, over random pairs; `neighbour_hamming`, mean distance between a chunk and the one whose latent
        is nearest, which lies between `closest_hamming`, where the nearest text is taken instead, and, for
        latents that know nothing, `random_hamming`, the mean over all pairs.
    """
    one, other = random_pairs(len(chunks), PAIRS, generator)
    apart, differ = (mean[one] - mean[other]).norm(dim=-1), hamming(chunks[one], chunks[other])
    return {
        "distance_rank_correlation": spearman(apart, differ),
        "neighbour_hamming": hamming(chunks, chunks[nearest_other(mean)]).mean().item(),
        "closest_hamming": hamming(chunks, chunks[nearest_other(chunks.double(), 0.0)]).mean().item(),
        "random_hamming": mean_hamming(chunks),
    }
