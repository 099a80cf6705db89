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
from functools import lru_cache
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Choice, Draw, Sampler, StatesDraws
from calmkit.samplers.chunk_counts import count_labels, label_chunks
from calmkit.samplers.head_wishes import head_wishes


@final
class VoteSampler(Sampler, StatesDraws):
    """The batch estimate of a chunk's law at temperature 1/n.

    `Choice.level` is the agreement m <= n really used, and `Choice.index` one of the draws that agree, at
    random. Temperature 1 is a single draw.

    Args:
        temperature: T; 1/T must be whole.
        candidates: N, draws per unit.
        head_temperature: The head's own temperature; None: as the head was built.
        num_steps: Steps of an iterative head; None: as it was built.
        solver: Solver of an iterative head; None: as it was built.

    Raises:
        ValueError: A temperature whose inverse is not whole, or fewer candidates than 1/T.

    Source:
        Shao et al., 2025, Algorithm 2; the official code counts in Python, row by row.
    """

    compares = True

    def __init__(
        self,
        *,
        temperature: float = 0.5,
        candidates: int = 200,  # official code
        head_temperature: float | None = None,
        num_steps: int | None = None,
        solver: str | None = None,
    ) -> None:
        inverse = 1 / temperature if temperature > 0 else math.inf
        whole = round(inverse) if math.isfinite(inverse) else 0
        if whole < 1 or not math.isclose(inverse, whole):
            raise ValueError(
                f"vote: 1 / temperature must be a whole number, got temperature={temperature}; "
                f"{_near(inverse)} would do."
            )
        if candidates < whole:
            raise ValueError(
                f"vote: candidates must be at least 1 / temperature = {whole}, got {candidates}; "
                f"{100 * whole} would do."
            )
        self.agreement = whole
        self.candidates = candidates if whole > 1 else 1
        self.options = head_wishes("vote", head_temperature, num_steps, solver)

    def draws_per_unit(self) -> int:
        """The candidates; one at temperature 1."""
        return self.candidates

    def choose(self, draw: Draw, rows: Int[Tensor, " R"], generator: torch.Generator | None = None) -> Choice:
        """Count `candidates` draws per row and choose by agreement."""
        ids = draw(self.candidates, rows)
        index, agreement = vote(label_chunks(ids), self.agreement, generator)
        return Choice(
            ids[index, torch.arange(len(rows), device=ids.device)],
            index=index,
            draws=torch.full_like(index, self.candidates),
            level=agreement.to(torch.get_default_dtype()),
        )


def _near(inverse: float) -> str:
    """Temperatures that would do in place of one with this inverse."""
    if not math.isfinite(inverse):
        return "0.5"
    return "1" if inverse < 1 else f"{1 / round(inverse):.4g}, or sampler rejection,"


def vote(
    labels: Int[Tensor, "N R"], agreement: int, generator: torch.Generator | None = None
) -> tuple[Int[Tensor, " R"], Int[Tensor, " R"]]:
    """Choose one draw per row with chunk weights binom(count, m), m = min(agreement, largest count).

    Args:
        labels: Per row, equal labels in [0, N) where chunks are equal.
        agreement: n.
        generator: Source of randomness; None: torch's default.

    Returns:
        Index of the chosen draw, and m.

    Source:
        Shao et al., 2025, Algorithm 2.
    """
    counts = count_labels(labels).T  # [R, N]
    used = counts.amax(1, keepdim=True).clamp(max=agreement)
    weight = _log_weights(len(labels), agreement, labels.device, torch.get_default_dtype())
    place = (used - 1) * (len(labels) + 1) + counts
    weight = weight.flatten().index_select(0, place.flatten()).view_as(counts)
    return pick(weight.softmax(-1), generator), used[:, 0]


@lru_cache(maxsize=4)  # a sampler asks for the same one at every unit
def _log_weights(
    num_draws: int, agreement: int, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "n counts"]:
    """What each of the c draws of a chunk weighs at agreement m = 1..n: log(binom(c, m) / c), c = 0..N.

    Up to a constant of m it is the sum of log(c - j) over 0 < j < m. In logarithms binom(c, m) cannot
    overflow; where c < m one of the terms is log 0, and the weight 0.
    """
    counts = torch.arange(num_draws + 1, device=device)
    taken = torch.arange(agreement, device=device).unsqueeze(1)
    steps = (counts - taken).clamp(min=0).to(dtype).log()
    steps[0] = 0
    return steps.cumsum(0)


def pick(weight: Float[Tensor, "R N"], generator: torch.Generator | None) -> Int[Tensor, " R"]:
    """One column per row by weight: where the running sum first reaches a uniform share of the total.

    One random number per row, where `torch.multinomial` takes one per column. The share is above 0 and may
    be the whole, so that the first running sum to reach it belongs to a positive weight.
    """
    total = weight.cumsum(-1)
    coin = torch.rand(len(total), 1, dtype=total.dtype, device=total.device, generator=generator)
    share = coin.neg_().add_(1)
    return torch.searchsorted(total, share * total[:, -1:])[:, 0]


@hookimpl
def calmkit_samplers() -> dict[str, type[Sampler]]:
    """Register this part."""
    return {"vote": VoteSampler}
