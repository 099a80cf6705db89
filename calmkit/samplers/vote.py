"""Vote: lower temperature from draws alone, by counting equal chunks in one batch.

For T = 1/n the law is proportional to P(x)^n, the probability that n independent draws all are x. In a batch
of N draws where x came c_x times, binom(c_x, n) of its n-subsets agree on x; choosing x with that weight
approaches the law as N grows. Where no chunk came n times, the largest smaller agreement m is asked for
instead: in text that is the common case, and N rather than T sets the sharpness, so the level reported is m.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 5.2, Algorithm 2.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Choice, Draw, SampleOptions, Sampler


@final
class VoteSampler(Sampler):
    """The batch estimate of a chunk's law at temperature 1/n.

    `Choice.level` is the agreement m <= n really used, and `Choice.index` one of the draws that agree, at
    random. Temperature 1 is a single draw.

    Args:
        temperature: T; 1/T must be whole.
        candidates: N, draws per unit.

    Raises:
        ValueError: A temperature whose inverse is not whole, or fewer candidates than 1/T.

    Source:
        Shao et al., 2025, Algorithm 2; the official code counts in Python, row by row.
    """

    def __init__(self, *, temperature: float = 0.5, candidates: int = 200) -> None:  # 200: official code
        whole = round(1 / temperature) if temperature > 0 else 0
        if whole < 1 or not math.isclose(1 / temperature, whole):
            near = 1 / max(whole, 1)
            raise ValueError(
                f"vote: 1 / temperature must be a whole number, got temperature={temperature}; "
                f"{near:.4g}, or sampler rejection, would do."
            )
        if candidates < whole:
            raise ValueError(
                f"vote: candidates must be at least 1 / temperature = {whole}, got {candidates}; "
                f"{100 * whole} would do."
            )
        self.agreement = whole
        self.candidates = candidates if whole > 1 else 1
        self.options = SampleOptions()

    def choose(self, draw: Draw, rows: Int[Tensor, " R"]) -> Choice:
        """Count `candidates` draws per row and choose by agreement."""
        ids = draw(self.candidates, rows)
        index, agreement = vote(label_chunks(ids), self.agreement)
        return Choice(
            ids[index, torch.arange(len(rows), device=ids.device)],
            index=index,
            draws=torch.full_like(index, self.candidates),
            level=agreement.to(torch.get_default_dtype()),
        )


def vote(labels: Int[Tensor, "N R"], agreement: int) -> tuple[Int[Tensor, " R"], Int[Tensor, " R"]]:
    """Choose one draw per row with chunk weights binom(count, m), m = min(agreement, largest count).

    Args:
        labels: Per row, equal labels in [0, N) where chunks are equal.
        agreement: n.

    Returns:
        Index of the chosen draw, and m.

    Source:
        Shao et al., 2025, Algorithm 2.
    """
    counts = torch.zeros_like(labels).scatter_add_(0, labels, torch.ones_like(labels)).gather(0, labels)
    used = counts.amax(0).clamp(max=agreement)
    # A chunk's weight is shared by its draws: log(binom(c, m) / c) = sum of log(c - j) over 0 < j < m, up to
    # a constant of the row. In logarithms binom(c, m) cannot overflow.
    weight = torch.zeros(labels.shape, dtype=torch.get_default_dtype(), device=labels.device)
    for j in range(1, agreement):
        weight = weight + torch.where(j < used, (counts - j).clamp(min=1), 1).to(weight.dtype).log()
    weight = weight.masked_fill(counts < used, -math.inf)
    return torch.multinomial(weight.T.softmax(-1), 1).squeeze(-1), used


def label_chunks(ids: Int[Tensor, "N R K"]) -> Int[Tensor, "N R"]:
    """Labels in [0, N), equal within a row exactly where chunks are; K sorts on the ids' device."""
    labels = torch.zeros(ids.shape[:2], dtype=torch.long, device=ids.device)
    for token in ids.long().unbind(-1):
        # label and token in one number: a label is below 2^31 draws, an id below 2^32
        ordered, order = ((labels << 32) | token).sort(0)
        rank = torch.zeros_like(labels)
        rank[1:] = (ordered[1:] != ordered[:-1]).long().cumsum(0)
        labels = torch.empty_like(labels).scatter_(0, order, rank)
    return labels


@hookimpl
def calmkit_samplers() -> dict[str, type[Sampler]]:
    """Register this part."""
    return {"vote": VoteSampler}
