"""BrierLM and the samplers where the truth is known: models that draw from the Markov source itself, or from
another one, so that every expectation is a finite sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from calmkit.interfaces import (
    Backbone,
    Context,
    DensityHead,
    Embedder,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    KnownSource,
    LossOutput,
    NotTrainable,
    Posterior,
    SampleOptions,
    Sampler,
    Split,
    TokenAutoencoder,
)
from calmkit.model import CalmModel
from calmkit.samplers.rejection import RejectionSampler
from calmkit.samplers.vote import VoteSampler
from calmkit.text.ceiling import ceiling
from calmkit.text.markov_source import MarkovSource
from calmkit.text.metrics.brier import BrierLM
from calmkit.text.metrics.ngram import NGramModel, _collisions
from calmkit.text.metrics.rollout import brier_draws, eligible_units

LETTERS, END, ROWS, LENGTH = 3, 3, 3000, 12
TRUTH = MarkovSource.random(2, LETTERS, 0.4, 11)
OTHER = MarkovSource.random(2, LETTERS, 0.4, 12)
UNSEEN = LETTERS  # stands in a window where the row had not begun


class Letters(TokenAutoencoder):
    """Ids as ids, or hidden in floats as a latent vector would hide them."""

    def __init__(self, chunk_size: int, continuous: bool) -> None:
        super().__init__()
        self.chunk_size = chunk_size
        self.event = EventSpec((chunk_size,), None if continuous else LETTERS)

    def encode(self, data: Tensor) -> Posterior:
        return Posterior(data if self.event.vocab_size else data + 0.25)

    def decode(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def to_data(self, z: Tensor) -> Tensor:
        return z.floor().long()

    def loss(self, data: Tensor) -> LossOutput:
        raise NotTrainable


class AsTheyAre(Embedder):
    """The letters of the unit."""

    reads = "data"

    def forward(self, data: Tensor, z: Tensor) -> Tensor:
        return data.to(torch.float64)


@dataclass(frozen=True)
class Window:
    """The last two letters of each branch."""

    h: Tensor


class LastTwo(Backbone):
    """h = the last two letters before the unit."""

    hidden_dim = 2

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        return Context(self.states(x, valid).h.view(*valid.shape, 2))

    def start(self, batch: int, max_units: int) -> tuple[Context, Window]:
        raise NotImplementedError

    def step(self, x: Tensor, valid: Tensor, state: Window) -> tuple[Context, Window]:
        assert x.shape[1] == 1
        h = torch.cat([state.h, x[:, 0]], 1)[:, -2:]
        return Context(h.unsqueeze(1)), Window(h)

    def select(self, state: Window, rows: Tensor) -> Window:
        return Window(state.h[rows])

    def states(self, x: Tensor, valid: Tensor) -> Window:
        batch, units, chunk_size = x.shape
        begun = torch.cat([torch.full((batch, 2), float(UNSEEN)), x.flatten(1)], 1)
        return Window(begun.unfold(1, 2, chunk_size)[:, :units].reshape(-1, 2))


def padded(source: MarkovSource) -> Tensor:
    """p(x | window) `[A + 1, A + 1, A]`, where the last index of a window axis is a letter not seen."""
    table = torch.zeros(LETTERS + 1, LETTERS + 1, LETTERS)
    table[:-1, :-1] = torch.from_numpy(source.tables[2])
    table[UNSEEN, :-1] = torch.from_numpy(source.tables[1])
    table[UNSEEN, UNSEEN] = torch.from_numpy(source.tables[0])
    return table


def draw_letters(source: MarkovSource, window: Tensor, num: int, chunk_size: int) -> Tensor:
    """`num` continuations of each window `[*, 2]` -> `[num, *, K]`, letter by letter."""
    below = padded(source).cumsum(-1)[..., :-1]  # P(letter <= x)
    (one, two), letters = window.expand(num, *window.shape).unbind(-1), []
    for _ in range(chunk_size):
        letter = (below[one, two] <= torch.rand(one.shape).unsqueeze(-1)).sum(-1)
        letters.append(letter)
        one, two = two, letter
    return torch.stack(letters, -1)


class DrawnHead(GenerativeHead):
    """The law of a source, known by its draws only."""

    info = HeadInfo(sampling="one_step", events=frozenset({"continuous", "tokens"}))

    def __init__(self, source: MarkovSource, chunk_size: int, continuous: bool) -> None:
        super().__init__()
        self.source, self.chunk_size, self.continuous = source, chunk_size, continuous

    def loss(self, context: Context, target: Posterior) -> Tensor:
        raise NotImplementedError

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        ids = draw_letters(self.source, context.h.long(), num, self.chunk_size)
        return ids + 0.25 if self.continuous else ids


class DensityOfSource(DensityHead):
    """The same over single letters, with its density."""

    info = DrawnHead.info

    def __init__(self, source: MarkovSource) -> None:
        super().__init__()
        self.source = source

    def loss(self, context: Context, target: Posterior) -> Tensor:
        raise NotImplementedError

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return draw_letters(self.source, context.h.long(), num, 1)

    def log_prob(self, context: Context, z: Tensor) -> Tensor:
        one, two = context.h.long().unbind(-1)
        return padded(self.source)[one, two].gather(-1, z).squeeze(-1).log()


def model_of(source: MarkovSource, chunk_size: int, kind: str) -> CalmModel:
    """A model whose law is that of a source: over latents, over ids, or over ids with a density."""
    continuous = kind == "latents"
    head = DensityOfSource(source) if kind == "density" else DrawnHead(source, chunk_size, continuous)
    return CalmModel(Letters(chunk_size, continuous), AsTheyAre(), LastTwo(), head).eval()


def held_out(chunk_size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Independent rows of the true source, in chunks, all of them real."""
    letters = TRUTH.draw(np.random.default_rng([seed, chunk_size]), ROWS, LENGTH)
    chunks = torch.from_numpy(letters.astype(np.int64)).view(ROWS, -1, chunk_size)
    return chunks, torch.ones(chunks.shape[:2], dtype=torch.bool)


def expected_brier(forecast: MarkovSource, chunk_size: int) -> Tensor:
    """E[2 Q(y) - sum Q^2] of forecasts Q on true text, n = 1..4, mean over the eligible units of a row.

    Of a context c of `seen` letters it is 2 sum_x P(x | c) Q(x | c) - sum_x Q(x | c)^2, and c follows the
    true source.
    """
    after = [np.ones(law.shape) for law in TRUTH.laws]
    units = (LENGTH - 4) // chunk_size + 1
    seen_letters = [min(unit * chunk_size, 2) for unit in range(units)]
    terms = []
    for length in range(1, 5):
        after = [
            np.asarray((TRUTH.tables[seen] * forecast.tables[seen] * after[min(seen + 1, 2)]).sum(-1))
            for seen in range(3)
        ]
        collisions = forecast.collisions(length)
        by_seen = [(TRUTH.laws[j] * (2 * after[j] - collisions[j])).sum() for j in range(3)]
        terms.append(np.mean([by_seen[seen] for seen in seen_letters]))
    return torch.tensor(np.array(terms))


KINDS = [(1, "latents"), (1, "ids"), (1, "density"), (2, "latents"), (2, "ids"), (4, "latents"), (4, "ids")]


@pytest.mark.parametrize("forecast", [TRUTH, OTHER], ids=["true", "wrong"])
@pytest.mark.parametrize(("chunk_size", "kind"), KINDS)
def test_the_estimate_is_unbiased(chunk_size: int, kind: str, forecast: MarkovSource) -> None:
    """K >= 4, K < 4 and discrete models, right and wrong: means are 2 sum P Q - sum Q^2."""
    model = model_of(forecast, chunk_size, kind)
    chunks, valid = held_out(chunk_size)
    metric = BrierLM()
    metric.update(*brier_draws(model, chunks, valid, 2))
    result = metric.compute()
    expected = expected_brier(forecast, chunk_size)
    # The mean of 3000 independent rows is Gaussian for all purposes, and its standard error is known to 1 or
    # 2 percent. 5.8 of them are exceeded with chance 7e-9; 14 cases of 4 comparisons make 4e-7.
    for n in range(1, 5):
        error = float(result[f"brier_{n}"]) - float(expected[n - 1])
        assert abs(error) < 5.8 * float(result[f"brier_{n}_se"])
        assert float(result[f"brier_{n}_se"]) < 0.012


def test_the_worlds_differ_enough_to_be_told_apart() -> None:
    """By many times the standard error that the test above allows itself."""
    gap = expected_brier(TRUTH, 1) - expected_brier(OTHER, 1)
    assert (gap > 0.15).all()


@pytest.mark.parametrize("chunk_size", [1, 2, 4])
def test_the_expectation_of_the_truth_is_its_ceiling(chunk_size: int) -> None:
    chunks, valid = held_out(chunk_size)
    best = ceiling(KnownLetters(), [(chunks, valid)], END)
    expected = expected_brier(TRUTH, chunk_size)
    assert [best[f"ceiling_brier_{n}"] for n in (1, 2, 3, 4)] == pytest.approx(expected.tolist())


class KnownLetters(KnownSource):
    """The true source as a corpus."""

    def documents(self, split: Split) -> Iterator[str]:
        raise NotImplementedError

    def identity(self) -> str:
        raise NotImplementedError

    def best_brier(self, seen: int, length: int) -> float:
        return TRUTH.best_brier(seen, length)

    def entropy(self, seen: int) -> float:
        return TRUTH.entropy(seen)


@pytest.mark.parametrize(("chunk_size", "kind"), KINDS)
def test_brier_lm_of_the_true_source_is_the_ceiling(chunk_size: int, kind: str) -> None:
    """Plugged in as a model, scored in batches as an evaluation does it."""
    chunks, valid = held_out(chunk_size, seed=1)
    model, metric = model_of(TRUTH, chunk_size, kind), BrierLM()
    for start in range(0, ROWS, 500):
        part = slice(start, start + 500)
        metric.update(*brier_draws(model, chunks[part], valid[part], 4))
    result = metric.compute()
    best = ceiling(KnownLetters(), [(chunks, valid)], END)["ceiling_brier_lm"]
    # The interval holds it 95 times in 100. As wide as three of them, 5.88 standard errors, it misses with
    # chance 4e-9; 7 cases make 3e-8. The root's bias is of second order, a few percent of one standard error.
    assert abs(float(result["brier_lm"]) - best) < 3 * 1.96 * float(result["brier_lm_se"])
    half = (float(result["brier_lm_high"]) - float(result["brier_lm_low"])) / 2
    assert half == pytest.approx(1.96 * float(result["brier_lm_se"]), rel=0.2)
    assert half < 0.06 * best


def test_the_wrong_source_lies_below_the_ceiling() -> None:
    chunks, valid = held_out(4)
    metric = BrierLM()
    metric.update(*brier_draws(model_of(OTHER, 4, "latents"), chunks, valid, 4))
    best = ceiling(KnownLetters(), [(chunks, valid)], END)["ceiling_brier_lm"]
    result = metric.compute()
    assert float(result["brier_lm"]) + 20 * float(result["brier_lm_se"]) < best


def test_an_exact_model_of_the_truth_needs_no_draws() -> None:
    """The true tables as a counted model: only contexts spread its collision."""
    tables = tuple(torch.from_numpy(table) for table in TRUTH.tables)
    chunks, valid = held_out(1)
    metric = BrierLM()
    metric.update(*NGramModel(tables, _collisions(list(tables))).brier_terms(
        chunks, valid, eligible_units(valid, 1)
    ))  # fmt: skip
    result, expected = metric.compute(), expected_brier(TRUTH, 1)
    for n in range(1, 5):  # as in the first test
        assert abs(float(result[f"brier_{n}"]) - float(expected[n - 1])) < 5.8 * float(
            result[f"brier_{n}_se"]
        )


def chunk_law(window: tuple[int, int], temperature: float) -> Tensor:
    """P^(1/T) / Z over the pairs of letters that may follow a window, `[A * A]`."""
    table = torch.from_numpy(TRUTH.tables[2])
    pair = (table[window].unsqueeze(-1) * table[window[1]]).flatten()
    return pair ** (1 / temperature) / (pair ** (1 / temperature)).sum()


def shares(sampler: Sampler, windows: Tensor, copies: int) -> Tensor:
    """How often a sampler, fed with the true source, chooses each pair of letters after each window."""
    rows = torch.arange(len(windows)).repeat_interleave(copies)

    def draw(num: int, rows: Tensor) -> Tensor:
        return draw_letters(TRUTH, windows[rows], num, 2)

    ids = torch.cat([sampler.choose(draw, part).data for part in rows.split(5000)])
    pairs = (ids[:, 0] * LETTERS + ids[:, 1]).view(len(windows), copies)
    return torch.nn.functional.one_hot(pairs, LETTERS**2).to(torch.get_default_dtype()).mean(1)


WINDOWS = torch.tensor([[0, 1], [2, 0]])


@pytest.mark.parametrize("temperature", [1.0, 0.8, 0.5, 0.4, 1 / 3])
def test_rejection_gives_the_tempered_law(temperature: float) -> None:
    copies = 20_000
    found = shares(RejectionSampler(temperature=temperature), WINDOWS, copies)
    # Hoeffding: a share of 20 000 strays by t or more with chance 2 exp(-40000 t^2): t = .0235 makes 5e-10,
    # 5 temperatures * 2 windows * 9 pairs make 5e-8.
    for row, window in zip(found, WINDOWS.tolist(), strict=True):
        assert (row - chunk_law((window[0], window[1]), temperature)).abs().max() < 0.0235
        if temperature < 0.7:  # and the untempered law would be told apart
            assert (row - chunk_law((window[0], window[1]), 1.0)).abs().max() > 0.05


@pytest.mark.parametrize("temperature", [0.5, 1 / 3])
def test_vote_approaches_the_tempered_law(temperature: float) -> None:
    """More candidates, nearer: by 300 the bias of order 1/N is below .01."""
    copies = 8000
    law = torch.stack([chunk_law((a, b), temperature) for a, b in WINDOWS.tolist()])
    few = (shares(VoteSampler(temperature=temperature, candidates=5), WINDOWS, copies) - law).abs().max()
    many = (shares(VoteSampler(temperature=temperature, candidates=300), WINDOWS, copies) - law).abs().max()
    # Hoeffding with 8000: t = .035 makes 6e-9 a share, 72 shares 4e-7. The bias with 5 is .08 and more.
    assert many < 0.035 + 0.01
    assert few > many
