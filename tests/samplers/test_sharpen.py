"""Sharpen: known weights to a power, by hand and by law.

Chi-square with d degrees of freedom exceeds the bounds here with probability below 1e-6 for each test.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from calmkit.interfaces import Choice
from calmkit.samplers.direct import DirectSampler
from calmkit.samplers.sharpen import SharpenSampler, sharpen
from calmkit.testing.samplers import Values

WEIGHTS = (0.5, 0.3, 0.2)
CHUNKS = torch.tensor([[0, 1], [3, 1], [3, 1]])  # the second and the third component decode to one chunk
CHI_SQUARE = 31.0  # 2 degrees of freedom: exceeded with probability e^(-31 / 2) = 2e-7
ROWS = 20000


class Components(Values):
    """Three components, one chunk each."""

    def __init__(self, weights: tuple[float, ...] = WEIGHTS, chunks: Tensor = CHUNKS) -> None:
        self.log_weights, self.chunks = torch.tensor(weights).log(), chunks
        self.asked = 0

    def __call__(self, num: int, rows: Tensor) -> Tensor:
        weights = self.log_weights.exp()
        return self.chunks[torch.multinomial(weights, num * len(rows), replacement=True).view(num, len(rows))]

    def weighted(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        self.asked += 1
        return self.log_weights.expand(len(rows), -1), self.chunks[:, None].expand(-1, len(rows), -1)


def chosen(rows: int = ROWS, source: Values | None = None, **settings: float) -> Choice:
    torch.manual_seed(0)
    return SharpenSampler(**settings).choose(source or Components(), torch.arange(rows))  # type: ignore[arg-type]


def chi_square(index: Tensor, law: list[float]) -> float:
    expected = len(index) * torch.tensor(law)
    return ((index.bincount(minlength=len(law)) - expected).square() / expected).sum().item()


@pytest.mark.parametrize(
    ("temperature", "law"),
    [
        # chunks of 1/2 and 3/10 + 2/10 are equally likely at any temperature; 3 to 2 within the second
        (1.0, [0.5, 0.3, 0.2]),
        (0.5, [0.5, 0.3, 0.2]),
        (0.25, [0.5, 0.3, 0.2]),
    ],
)
def test_equal_chunks_add_up_their_weights(temperature: float, law: list[float]) -> None:
    assert chi_square(chosen(temperature=temperature).index, law) < CHI_SQUARE


def test_shares_by_hand_at_one_half() -> None:
    """0.4, 0.35 + 0.25 = 0.6: squares 0.16 and 0.36 of 0.52, the latter split 7 to 5."""
    source = Components((0.4, 0.35, 0.25))
    law = [0.16 / 0.52, 0.36 / 0.52 * 7 / 12, 0.36 / 0.52 * 5 / 12]
    assert chi_square(chosen(source=source, temperature=0.5).index, law) < CHI_SQUARE
    cubes = [0.064 / 0.28, 0.216 / 0.28 * 7 / 12, 0.216 / 0.28 * 5 / 12]
    assert chi_square(chosen(source=source, temperature=1 / 3).index, cubes) < CHI_SQUARE


def test_at_temperature_one_the_law_is_that_of_the_head() -> None:
    """Both are compared with the weights, which are the law of a draw."""
    chunks = torch.tensor([[0, 1], [0, 2], [3, 1]])
    source = Components(chunks=chunks)
    sharp = chosen(source=source, temperature=1.0)
    plain = DirectSampler().choose(source, torch.arange(ROWS)).data
    as_index = (plain[:, None] == chunks).all(-1).int().argmax(-1)
    assert chi_square(sharp.index, [*WEIGHTS]) < CHI_SQUARE
    assert chi_square(as_index, [*WEIGHTS]) < CHI_SQUARE


@pytest.mark.parametrize("temperature", [0.01, 1e-20, 1e-300])
def test_towards_temperature_zero_the_heaviest_chunk_is_taken(temperature: float) -> None:
    """0.6 against 0.4, although the heaviest single component is in the other chunk."""
    choice = chosen(2000, Components((0.4, 0.35, 0.25)), temperature=temperature)
    assert (choice.data == torch.tensor([3, 1])).all()
    assert chi_square(choice.index, [1e-9, 7 / 12, 5 / 12]) < CHI_SQUARE


def test_a_component_that_is_spread_over_chunks_is_told_by_more_draws_of_it() -> None:
    """One component of weight 1 that gives x or y with 3/4 and 1/4. One draw leaves that law, whatever the
    temperature; n draws of weight 1/n give the law of n draws raised, here by enumeration at T = 1/2."""

    class Spread(Values):
        def __call__(self, num: int, rows: Tensor) -> Tensor:
            return (torch.rand(num, len(rows), 1) < 0.25).long()

        def weighted(self, rows: Tensor) -> tuple[Tensor, Tensor]:
            return torch.zeros(len(rows), 1), self(1, rows)

    one = chosen(source=Spread(), temperature=0.5).data[:, 0]
    assert chi_square(one, [0.75, 0.25]) < CHI_SQUARE
    ten = chosen(source=Spread(), temperature=0.5, draws_per_weight=10).data[:, 0]
    ways = [math.comb(10, k) * 0.25**k * 0.75 ** (10 - k) for k in range(11)]
    share = sum(way * k**2 / (k**2 + (10 - k) ** 2) for k, way in enumerate(ways))
    assert share == pytest.approx(0.1460, abs=1e-4)  # on the way from 1/4 to 1/10
    assert chi_square(ten, [1 - share, share]) < CHI_SQUARE


def test_what_a_choice_says_of_itself() -> None:
    source = Components()
    choice = chosen(7, source, temperature=0.4, draws_per_weight=3)
    assert source.asked == 3
    assert choice.draws.tolist() == [9] * 7
    assert choice.level.tolist() == pytest.approx([2.5] * 7)
    assert torch.equal(choice.data, CHUNKS[choice.index % 3])


@pytest.mark.parametrize("temperature", [1.0, 0.5, 1e-300])
def test_unmerged_weights_are_raised_as_they_are_and_one_value_is_decoded(temperature: float) -> None:
    choice = chosen(
        source=Components(chunks=torch.tensor([[0], [1], [1]])), temperature=temperature, merge=False
    )
    powers = [
        0.0 if weight < 0.5 and temperature < 1e-9 else weight ** min(1 / temperature, 9)
        for weight in WEIGHTS
    ]
    law = [powers[0] / sum(powers), sum(powers[1:]) / sum(powers)]
    assert chi_square(choice.data[:, 0], [max(share, 1e-9) for share in law]) < CHI_SQUARE
    assert choice.draws.unique().tolist() == [1]
    assert choice.index.unique().tolist() == [0]


def test_a_weight_of_zero_is_never_chosen_and_tiny_ones_stay_exact() -> None:
    log_weights = torch.tensor([[-math.inf], [-200.0], [-200.0 + math.log(3)]], dtype=torch.float32)
    labels = torch.tensor([[0], [1], [2]])
    index = torch.cat([sharpen(labels, log_weights, 1.0) for _ in range(2000)])
    assert chi_square(index, [1e-9, 0.25, 0.75]) < CHI_SQUARE
    torch.manual_seed(0)
    two = sharpen(labels.expand(-1, ROWS), log_weights.expand(-1, ROWS), 2.0)
    assert chi_square(two, [1e-9, 0.1, 0.9]) < CHI_SQUARE


def test_the_generator_decides_and_torch_s_own_is_left_alone() -> None:
    def index(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return SharpenSampler().choose(Components(), torch.arange(100), generator).index

    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert torch.equal(index(1), index(1))
    assert not torch.equal(index(1), index(2))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"temperature": 0.0}, r"temperature must be in \(0, 1\] and its inverse finite, got 0.0; 0.5 would"),
        ({"temperature": 1.1}, "got 1.1"),
        ({"temperature": math.nan}, "got nan"),
        ({"draws_per_weight": 2, "merge": False}, "draws_per_weight 2 is for merging what is equal"),
        ({"draws_per_weight": 0}, "draws_per_weight must be at least 1, got 0; 1 would do"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=f"sharpen: .*{told}"):
        SharpenSampler(**settings)  # type: ignore[arg-type]


def test_a_source_without_weights_is_refused() -> None:
    with pytest.raises(TypeError, match="sharpen: draws must come from a WeightedSource, and function"):
        SharpenSampler().choose(lambda n, rows: CHUNKS[:n], torch.arange(1))
