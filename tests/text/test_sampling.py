"""A tiny discrete world of known law, in which what a sampler is worth is a finite sum.

Two tokens, units of K; the law of a unit depends on the unit before it. A sampler turns each law P into one
of its own: P for `direct`, P^n / Z for `rejection`. Accuracy and collision then follow by enumeration.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.interfaces import (
    Backbone,
    Batch,
    Context,
    Embedder,
    GenerativeHead,
    HeadInfo,
    Posterior,
    SampleOptions,
    Sampler,
)
from calmkit.model import CalmModel
from calmkit.samplers.direct import DirectSampler
from calmkit.samplers.rejection import RejectionSampler
from calmkit.samplers.vote import VoteSampler
from calmkit.text.metrics import sampling
from calmkit.text.metrics.rollout import brier_draws, eligible_units
from calmkit.text.metrics.sampling import SamplingScores, _evenly, measure_sampling

ROWS, UNITS = 100, 40
LOG_RATE = math.log(2 / 1e-8)  # of Hoeffding's bound; 8 scores per test keep the whole below 1e-7


def code(ids: Tensor) -> Tensor:
    return (ids * 2 ** torch.arange(ids.shape[-1])).sum(-1)


def table(chunk_size: int) -> Tensor:
    """p(unit | unit before), `[1 + 2^K, 2^K]`; row 0 opens a text."""
    generator = torch.Generator().manual_seed(7)
    return (2 * torch.randn(1 + 2**chunk_size, 2**chunk_size, generator=generator)).softmax(-1)


class Code(Embedder):
    """1 + the unit as one number. What is read must be ids with the value they came from."""

    reads = "latents"

    def forward(self, data: Tensor, z: Tensor) -> Tensor:
        assert torch.equal(z, data)
        return 1 + code(data).unsqueeze(-1).double()


@dataclass(frozen=True)
class Last:
    """The unit before, of each branch."""

    h: Tensor


class Markov(Backbone):
    """h = the unit before."""

    hidden_dim = 1

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        return Context(self.states(x, valid).h.view(*valid.shape, 1))

    def start(self, batch: int, max_units: int) -> tuple[Context, Last]:
        raise NotImplementedError

    def step(self, x: Tensor, valid: Tensor, state: Last) -> tuple[Context, Last]:
        assert len(x) == len(state.h)
        return Context(x), Last(x[:, 0])

    def select(self, state: Last, rows: Tensor) -> Last:
        return Last(state.h[rows])

    def states(self, x: Tensor, valid: Tensor) -> Last:
        return Last(torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1).flatten(0, 1))


class Table(GenerativeHead):
    """Draws from the table."""

    info = HeadInfo(sampling="one_step", events=frozenset({"tokens"}))

    def __init__(self, chunk_size: int) -> None:
        super().__init__()
        self.table, self.chunk_size = table(chunk_size), chunk_size

    def loss(self, context: Context, target: Posterior) -> Tensor:
        raise NotImplementedError

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        p = self.table[context.h[..., 0].long()]
        drawn = torch.multinomial(p.flatten(0, -2), num, replacement=True).T.view(num, *p.shape[:-1])
        return drawn.unsqueeze(-1) >> torch.arange(self.chunk_size) & 1


def world(chunk_size: int) -> tuple[CalmModel, list[dict[str, Tensor]]]:
    """The model and three batches. Token 1 is end-of-text: were draws filled after it, all would be wrong."""
    model = CalmModel(TokenChunks(2, chunk_size=chunk_size), Code(), Markov(), Table(chunk_size)).eval()
    generator = torch.Generator().manual_seed(1)
    chunks = torch.randint(2, (ROWS, UNITS, chunk_size), generator=generator)
    valid = torch.ones(ROWS, UNITS, dtype=torch.bool)
    valid[3, 20:] = False
    sizes = (40, 40, 20)
    return model, [Batch(c, v) for c, v in zip(chunks.split(sizes), valid.split(sizes), strict=True)]


def prefix_law(p: Tensor, chunk_size: int, length: int) -> Tensor:
    """Law of the first tokens of a unit; the first token is the lowest bit of its code."""
    return p.view(2 ** (chunk_size - length), 2**length).sum(0)


def expected(laws: Tensor, chunk_size: int, batches: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Accuracy and collision, n = 1..4, averaged over all positions that four tokens follow."""

    @cache
    def right(before: int, truth: tuple[int, ...], n: int) -> float:
        known = min(n, chunk_size)
        p = float(prefix_law(laws[before], chunk_size, known)[truth[0] % 2**known])
        return p if n <= chunk_size else p * right(1 + truth[0], truth[1:], n - chunk_size)

    @cache
    def equal(before: int, n: int) -> float:
        if n <= chunk_size:
            return float(prefix_law(laws[before], chunk_size, n).square().sum())
        return sum(float(p) ** 2 * equal(1 + unit, n - chunk_size) for unit, p in enumerate(laws[before]))

    accuracy, collision = [], []
    for batch in batches:
        codes = code(batch.data).tolist()
        for row, unit in eligible_units(batch.valid, chunk_size).nonzero().tolist():
            before = 1 + codes[row][unit - 1] if unit else 0
            ends = [unit - -n // chunk_size for n in range(1, 5)]  # behind the unit that holds token n
            accuracy.append([right(before, tuple(codes[row][unit:end]), n) for n, end in enumerate(ends, 1)])
            collision.append([equal(before, n) for n in range(1, 5)])
    return torch.tensor(accuracy).mean(0), torch.tensor(collision).mean(0)


def power(n: float) -> Callable[[Tensor], Tensor]:
    return lambda p: p**n / (p**n).sum(-1, keepdim=True)


def hoeffding(count: int) -> float:
    """A mean of that many independent values in [0, 1] is off by more with probability at most 1e-8."""
    return math.sqrt(LOG_RATE / (2 * count))


@pytest.fixture
def large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faster; the tests without it keep the small blocks."""
    monkeypatch.setattr(sampling, "UNITS_PER_BLOCK", 1000)


@pytest.mark.usefixtures("large_blocks")
@pytest.mark.parametrize(
    ("sampler", "law"),
    [
        (DirectSampler(), power(1)),
        (
            VoteSampler(temperature=0.5, candidates=2),
            power(1),
        ),  # of two draws, a pair or either one: P itself
        (RejectionSampler(temperature=0.5), power(2)),
        (RejectionSampler(temperature=0.7), power(1 / 0.7)),
    ],
    ids=["direct", "vote", "one half", "0.7"],
)
@pytest.mark.parametrize("chunk_size", [1, 2, 4])
def test_scores_are_those_of_the_sampler_s_law(
    chunk_size: int, sampler: Sampler, law: Callable[[Tensor], Tensor]
) -> None:
    model, batches = world(chunk_size)
    scores = measure_sampling(model, sampler, batches, max_units=None)
    accuracy, collision = expected(law(table(chunk_size)), chunk_size, batches)
    # Positions s apart share no choice under teacher forcing: s groups of independent ones. Roll-outs are
    # independent of each other given the choices they begin with.
    groups = -(-4 // chunk_size)
    tolerance = hoeffding(scores.units // groups)
    assert torch.tensor(scores.accuracy).sub(accuracy).abs().max() < tolerance
    assert torch.tensor(scores.collision).sub(collision).abs().max() < tolerance


def test_the_laws_differ_by_more_than_the_tolerance() -> None:
    """Or the test above would hold for any sampler."""
    _, batches = world(4)
    (_, plain), (_, sharp) = (expected(power(n)(table(4)), 4, batches) for n in (1, 2))
    assert (sharp - plain).min() > 3 * hoeffding(ROWS * UNITS)


@pytest.mark.usefixtures("large_blocks")
@pytest.mark.parametrize("chunk_size", [1, 2, 4])
def test_direct_agrees_with_the_measure_of_plain_draws(chunk_size: int) -> None:
    model, batches = world(chunk_size)
    scores = measure_sampling(model, DirectSampler(), batches, max_units=None)
    found = [brier_draws(model, batch.data, batch.valid, 8) for batch in batches]
    tolerance = 2 * hoeffding(scores.units // -(-4 // chunk_size))
    for seen, terms in ((scores.accuracy, 0), (scores.collision, 1)):
        plain = torch.cat([each[terms] for each in found]).mean(0)
        assert (torch.tensor(seen) - plain).abs().max() < tolerance


def test_summary_numbers_by_hand() -> None:
    model, batches = world(4)
    scores = measure_sampling(model, RejectionSampler(temperature=0.5), batches, max_units=500)
    a, c = scores.accuracy, scores.collision
    assert scores.accuracy_mean == pytest.approx((a[0] * a[1] * a[2] * a[3]) ** 0.25)
    assert scores.collision_mean == pytest.approx((c[0] * c[1] * c[2] * c[3]) ** 0.25)
    brier = [max(0, 2 * right - twice) for right, twice in zip(a, c, strict=True)]
    assert scores.brier_lm == pytest.approx(100 * math.prod(brier) ** 0.25)
    assert scores.brier_lm_low <= scores.brier_lm <= scores.brier_lm_high
    assert scores.units == 500


@pytest.mark.usefixtures("large_blocks")
def test_standard_error_is_what_seeds_scatter_by() -> None:
    """Over 40 seeds; the variance of 40 Gaussian numbers (chi-square, 39 degrees of freedom) is between 0.25
    and 2.56 times the true one but for a probability of 4e-7."""
    model, batches = world(4)
    model.head.table = torch.full_like(model.head.table, 1 / 16)  # no row is harder than another
    runs = [measure_sampling(model, DirectSampler(), batches, max_units=400, seed=seed) for seed in range(40)]
    scatter = torch.tensor([run.collision_mean for run in runs]).std().item()
    stated = sum(run.collision_mean_se or 0 for run in runs) / 40
    assert 0.5 < scatter / stated < 1.6


@pytest.mark.usefixtures("large_blocks")
def test_cost_levels_and_fallbacks() -> None:
    """One pair is all that may be drawn at T = 1/2, so the share that falls back is 1 - sum P^2."""
    model, batches = world(4)
    once = measure_sampling(model, RejectionSampler(temperature=0.5, max_draws=2), batches, max_units=None)
    assert (once.draws_per_unit, once.max_draws, once.network_calls_per_unit) == (2, 2, 2)
    _, collision = expected(table(4), 4, batches)
    assert abs(once.fallback_share - (1 - collision[3])) < hoeffding(2 * once.units)
    assert once.levels == pytest.approx({2.0: 1 - once.fallback_share})
    assert once.level == 2
    counted = measure_sampling(model, VoteSampler(temperature=1 / 3, candidates=3), batches, max_units=None)
    assert set(counted.levels) == {3.0, 2.0, 1.0}
    assert sum(counted.levels.values()) == pytest.approx(1)
    assert counted.fallback_share == 0
    assert counted.level == pytest.approx(sum(level * share for level, share in counted.levels.items()))


def test_the_seed_decides_and_nobody_else_s_randomness_is_touched() -> None:
    model, batches = world(2)

    def once(seed: int) -> SamplingScores:
        return measure_sampling(model, VoteSampler(candidates=3), batches, max_units=200, seed=seed)

    first, before = once(1), torch.get_rng_state()
    torch.rand(3)
    assert once(1) == first
    assert once(2) != first
    torch.set_rng_state(before)
    once(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_units_are_spread_evenly_over_the_batches() -> None:
    """Ten positions, four wanted: the middles of four stretches of 2.5 are the positions 1, 3, 6 and 8."""
    eligible = [
        torch.tensor([[True, False, True, True]]),
        torch.tensor([[True] * 4, [False, True, True, True]]),
    ]
    first, second = _evenly(eligible, 10, 4)
    assert first.tolist() == [[False, False, True, False]]
    assert second.tolist() == [[True, False, False, True], [False, False, True, False]]
    for count in range(1, 11):
        assert sum(int(where.sum()) for where in _evenly(eligible, 10, count)) == count
    for where, chosen in zip(eligible, _evenly(eligible, 10, 10), strict=True):
        assert torch.equal(where, chosen)


def test_what_each_document_gave_adds_up_to_the_whole() -> None:
    """Documents of 10 rows each; the table weighted by positions is what the scores say."""
    model, batches = world(2)
    rows = torch.arange(ROWS).div(10, rounding_mode="floor").unsqueeze(1).expand(ROWS, UNITS)
    told = [
        Batch(batch.data, batch.valid, group=numbers)
        for batch, numbers in zip(batches, rows.split((40, 40, 20)), strict=True)
    ]
    scores = measure_sampling(model, DirectSampler(), told, max_units=300)
    lines = torch.tensor(scores.documents)
    assert lines[:, 0].tolist() == [float(number) for number in range(ROWS // 10)]
    assert float(lines[:, 9].sum()) == 300
    assert (lines[:, 1:5].sum(0) / 300).tolist() == pytest.approx(list(scores.accuracy))
    assert (lines[:, 5:9].sum(0) / 300).tolist() == pytest.approx(list(scores.collision))
    assert measure_sampling(model, DirectSampler(), batches, max_units=300).documents == ()


def test_scores_can_be_written_down() -> None:
    model, batches = world(4)
    scores = measure_sampling(model, DirectSampler(), batches[:1], max_units=1)
    assert json.loads(json.dumps(dataclasses.asdict(scores), allow_nan=False))["accuracy_mean_se"] is None


def test_nothing_to_score_is_refused() -> None:
    model, batches = world(1)
    with pytest.raises(ValueError, match="max_units must be at least 1, got 0"):
        measure_sampling(model, DirectSampler(), batches, max_units=0)
    short = [Batch(batch.data[:, :3], batch.valid[:, :3]) for batch in batches]
    with pytest.raises(ValueError, match="no unit of the data is followed by 4 tokens"):
        measure_sampling(model, DirectSampler(), short)
