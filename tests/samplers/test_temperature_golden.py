"""CALM's temperature: chunks of probability (.5, .3, .2) at T = 1/2, and the law each sampler must follow."""

from __future__ import annotations

from math import comb

import pytest
import torch
from torch import Tensor

from calmkit.interfaces import Draw, Sampler
from calmkit.samplers.rejection import RejectionSampler
from calmkit.samplers.vote import VoteSampler

P = (0.5, 0.3, 0.2)
CHUNKS = torch.tensor([[0, 1], [0, 2], [3, 1]])  # they share tokens: only whole chunks tell them apart
SHARPENED = (0.6579, 0.2368, 0.1053)  # P^2 / sum P^2 = (25, 9, 4) / 38

# Chi-square with 2 degrees of freedom exceeds x with probability e^(-x / 2): 2e-7 for this one.
CHI_SQUARE = 31.0


def source() -> Draw:
    def draw(n: int, rows: Tensor) -> Tensor:
        p = torch.tensor(P)
        return CHUNKS[torch.multinomial(p, n * len(rows), replacement=True).view(n, len(rows))]

    return draw


def batch_law(candidates: int) -> list[float]:
    """The law of Algorithm 2 at n = 2, over all counts that a batch can have.

    Pairs of a chunk that came c times: binom(c, 2); where no chunk came twice, every chunk by its count.
    """
    law = [0.0] * 3
    for a in range(candidates + 1):
        for b in range(candidates + 1 - a):
            counts = (a, b, candidates - a - b)
            ways = comb(candidates, a) * comb(candidates - a, b)
            chance = ways * P[0] ** a * P[1] ** b * P[2] ** counts[2]
            weights = [comb(c, min(2, max(counts))) for c in counts]
            for x in range(3):
                law[x] += chance * weights[x] / sum(weights)
    return law


def chi_square(sampler: Sampler, law: tuple[float, ...], rows: int) -> float:
    ids = sampler.choose(source(), torch.arange(rows)).data
    counts = (ids[:, None] == CHUNKS).all(-1).double().sum(0)
    expected = rows * torch.tensor(law) / sum(law)
    return ((counts - expected).square() / expected).sum().item()


def test_temperature_one_half_is_the_square_of_the_law() -> None:
    squares = [p**2 / sum(q**2 for q in P) for p in P]
    assert squares == pytest.approx(SHARPENED, abs=5e-5)


def test_temperature_rejection_is_exact() -> None:
    assert chi_square(RejectionSampler(temperature=0.5), SHARPENED, 20_000) < CHI_SQUARE


@pytest.mark.parametrize(
    ("candidates", "expected", "tolerance"),
    [
        # p itself: p^2 from the pair of x, half of 2 p (1 - p) from the mixed ones
        (2, (0.5, 0.3, 0.2), 1e-12),
        (20, (0.6347, 0.2489, 0.1163), 5e-5),
        (200, (0.6552, 0.2383, 0.1065), 5e-5),
    ],
)
def test_temperature_vote_of_n_draws_has_this_law(
    candidates: int, expected: tuple[float, ...], tolerance: float
) -> None:
    """By enumeration. The golden cases say about (.636, .249, .115) at 20 and (.661, .236, .102) at 200."""
    assert batch_law(candidates) == pytest.approx(expected, abs=tolerance)
    rows = {2: 20_000, 20: 20_000, 200: 4_000}[candidates]
    sampler = VoteSampler(temperature=0.5, candidates=candidates)
    assert chi_square(sampler, expected, rows) < CHI_SQUARE


def test_temperature_vote_tends_to_the_exact_law() -> None:
    gaps = [abs(batch_law(candidates)[0] - 25 / 38) for candidates in (5, 20, 50, 200)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == pytest.approx(0.0027, abs=5e-5)


def test_temperature_of_two_draws_is_told_from_that_of_twenty() -> None:
    """Or the laws above would hold for anything: 20,000 rows tell them apart by far."""
    assert chi_square(VoteSampler(temperature=0.5, candidates=20), (0.5, 0.3, 0.2), 20_000) > 10 * CHI_SQUARE
