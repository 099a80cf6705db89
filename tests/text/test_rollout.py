"""A tiny discrete world in which every expectation is a finite sum.

Two tokens, units of K; the law of a unit depends on the whole past through a running hash. The head's draws
are scripted: row b of a batch plays the b-th of all tuples of outcomes, and the head keeps the probability of
what it was made to say. The weighted mean over rows is then the estimator's exact expectation.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calmkit.interfaces import (
    Backbone,
    Context,
    DensityHead,
    Embedder,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    LossOutput,
    NotTrainable,
    Posterior,
    SampleOptions,
    TokenAutoencoder,
)
from calmkit.model import CalmModel
from calmkit.text.metrics import rollout
from calmkit.text.metrics.rollout import brier_draws, eligible_units

HASHES = 31


class Ids(TokenAutoencoder):
    """Ids stay ids, or hide in floats, as a latent vector would."""

    def __init__(self, chunk_size: int, continuous: bool) -> None:
        super().__init__()
        self.chunk_size = chunk_size
        self.event = EventSpec((chunk_size,), None if continuous else 2)

    def encode(self, data: Tensor) -> Posterior:
        return Posterior(data if self.event.vocab_size else data + 0.25)

    def decode(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def to_data(self, z: Tensor) -> Tensor:
        return z.floor().long()

    def loss(self, data: Tensor) -> LossOutput:
        raise NotTrainable


class Code(Embedder):
    """The unit as one number below 2^K. What a branch reads must be ids with the z they came from."""

    reads = "latents"

    def forward(self, data: Tensor, z: Tensor) -> Tensor:
        assert torch.equal(z.floor().long(), data)
        return code(data).unsqueeze(-1).to(torch.float64)


def code(ids: Tensor) -> Tensor:
    return (ids * 2 ** torch.arange(ids.shape[-1])).sum(-1)


@dataclass(frozen=True)
class Past:
    """Running hash, row, unit and whether a roll-out went here, of each branch."""

    h: Tensor


class Hash(Backbone):
    """h = (hash of the units before, row, unit, 1 on a roll-out)."""

    hidden_dim = 4

    def forward(self, x: Float[Tensor, "B L H"], valid: Bool[Tensor, "B L"]) -> Context:
        return Context(self.states(x, valid).h.view(*valid.shape, 4))

    def start(self, batch: int, max_units: int) -> tuple[Context, Past]:
        raise NotImplementedError

    def step(self, x: Tensor, valid: Tensor, state: Past) -> tuple[Context, Past]:
        assert x.shape[1] == 1
        assert bool(valid.all())
        h = state.h.clone()
        h[:, 0] = self.mix(h[:, 0], x[:, 0, 0])
        h[:, 2] += 1
        h[:, 3] = 1
        return Context(h.unsqueeze(1)), Past(h)

    def select(self, state: Past, rows: Int[Tensor, " R"]) -> Past:
        return Past(state.h[rows])

    def states(self, x: Tensor, valid: Tensor) -> Past:
        batch, units = valid.shape
        h = torch.zeros(batch, units, 4)
        h[..., 1] = torch.arange(batch).unsqueeze(1)
        h[..., 2] = torch.arange(units)
        for unit in range(1, units):
            mixed = self.mix(h[:, unit - 1, 0], x[:, unit - 1, 0])
            h[:, unit, 0] = torch.where(valid[:, unit - 1], mixed, h[:, unit - 1, 0])
        return Past(h.flatten(0, 1))

    @staticmethod
    def mix(past: Tensor, unit: Tensor) -> Tensor:
        return (past * 5 + unit + 1) % HASHES


def laws(chunk_size: int) -> Tensor:
    """p(unit | hash), `[HASHES, 2^K]`."""
    generator = torch.Generator().manual_seed(7)
    return (1.5 * torch.randn(HASHES, 2**chunk_size, generator=generator)).softmax(-1)


class Scripted:
    """Says what the script of its row says: `[rows, phase, unit, draw]` -> code; phase 1 is the roll-out."""

    def __init__(self, chunk_size: int, script: Tensor | None, continuous: bool) -> None:
        self.laws, self.chunk_size, self.continuous, self.script = (
            laws(chunk_size),
            chunk_size,
            continuous,
            script,
        )
        self.weight = torch.ones(0 if script is None else len(script))
        self.asked = 0

    def sample(self, context: Context, num: int) -> Tensor:
        hash_, row, unit, phase = context.h.long().unbind(-1)
        self.asked += num * row.numel()
        p = self.laws[hash_]  # [*, 2^K]
        if self.script is None:
            said = torch.multinomial(p.flatten(0, -2), num, replacement=True).T.view(num, *row.shape)
        else:
            said = torch.stack([self.script[row, phase, unit, draw] for draw in range(num)])
            ratio = (
                p.expand(num, *p.shape).gather(-1, said.unsqueeze(-1)).prod(0).squeeze(-1)
                * p.shape[-1] ** num
            )
            self.weight.scatter_reduce_(0, row.flatten(), ratio.flatten(), "prod")
        ids = said.unsqueeze(-1) // 2 ** torch.arange(self.chunk_size) % 2
        return ids + 0.25 if self.continuous else ids


class SampledHead(GenerativeHead):
    """Known by its draws only."""

    info = HeadInfo(sampling="one_step", events=frozenset({"continuous", "tokens"}))

    def __init__(self, world: Scripted) -> None:
        super().__init__()
        self.world = world

    def loss(self, context: Context, target: Posterior) -> Tensor:
        raise NotImplementedError

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return self.world.sample(context, num)


class KnownHead(DensityHead):
    """The same, and its density."""

    info = SampledHead.info

    def __init__(self, world: Scripted) -> None:
        super().__init__()
        self.world = world

    def loss(self, context: Context, target: Posterior) -> Tensor:
        raise NotImplementedError

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return self.world.sample(context, num)

    def log_prob(self, context: Context, z: Tensor) -> Tensor:
        return self.world.laws[context.h[..., 0].long()].gather(-1, code(z).unsqueeze(-1)).squeeze(-1).log()


def make(
    chunk_size: int, script: Tensor | None = None, known: bool = False, predict_first: bool = True
) -> tuple[CalmModel, Scripted]:
    world = Scripted(chunk_size, script, continuous=not known)
    head = KnownHead(world) if known else SampledHead(world)
    autoencoder = Ids(chunk_size, continuous=not known)
    return CalmModel(autoencoder, Code(), Hash(), head, predict_first=predict_first), world


def truth_of(chunk_size: int, chunks: Tensor, unit: int) -> tuple[Tensor, Tensor]:
    """P(y_1..y_n) and sum P^2 of the four tokens from a unit of one row on, by enumeration."""
    start = torch.zeros(())
    for before in chunks[:unit]:
        start = Hash.mix(start, code(before))
    several = -(-4 // chunk_size)
    table = laws(chunk_size)
    p = torch.zeros([2] * (chunk_size * several))
    for units in itertools.product(itertools.product((0, 1), repeat=chunk_size), repeat=several):
        past, chance = start, torch.ones(())
        for ids in units:
            value = code(torch.tensor(ids))
            chance = chance * table[int(past), value]
            past = Hash.mix(past, value)
        p[tuple(itertools.chain(*units))] = chance
    accuracy, collision = [], []
    tokens = tuple(chunks[unit:].flatten()[:4].tolist())
    for n in range(1, 5):
        first = p.sum(tuple(range(n, p.ndim))) if n < p.ndim else p
        accuracy.append(first[tokens[:n]])
        collision.append(first.square().sum())
    return torch.stack(accuracy), torch.stack(collision)


def every_script(slots: list[tuple[int, int, int]], units: int, draws: int, outcomes: int) -> Tensor:
    """All tuples of outcomes of the (phase, unit, draw) slots, one per row."""
    values = torch.cartesian_prod(*[torch.arange(outcomes)] * len(slots)).view(-1, len(slots))
    script = torch.zeros(len(values), 2, units + 1, draws, dtype=torch.long)
    for at, (phase, unit, draw) in enumerate(slots):
        script[:, phase, unit, draw] = values[:, at]
    return script


@pytest.mark.parametrize(
    ("chunk_size", "known", "num_draws"),
    [(1, False, 2), (1, True, 2), (1, True, 3), (2, False, 2), (4, False, 3)],
)
def test_both_terms_are_unbiased(chunk_size: int, known: bool, num_draws: int) -> None:
    units = -(-4 // chunk_size)
    if known:  # the density answers for the truth; the draws of unit 0 are only paired
        forced = [(0, 0, draw) for draw in range(num_draws)]
    else:
        forced = [(0, unit, draw) for unit in range(units) for draw in range(num_draws)]
    rolled = [(1, unit, draw) for unit in range(1, units) for draw in range(2)]
    script = every_script(forced + rolled, units, num_draws, 2**chunk_size)
    model, world = make(chunk_size, script, known)
    row = torch.randint(2, (units, chunk_size))
    chunks = row.expand(len(script), units, chunk_size).contiguous()
    accuracy, collision, rows = brier_draws(
        model, chunks, torch.ones(chunks.shape[:2], dtype=torch.bool), num_draws
    )
    assert torch.equal(rows, torch.arange(len(script)))
    assert world.weight.mean().item() == pytest.approx(1)  # the scripts are all there is
    weight = world.weight.unsqueeze(1)
    true_accuracy, true_collision = truth_of(chunk_size, row, 0)
    assert torch.allclose((weight * accuracy).mean(0), true_accuracy)
    assert torch.allclose((weight * collision).mean(0), true_collision)


@pytest.mark.parametrize(("chunk_size", "known"), [(1, False), (1, True), (2, False), (3, False)])
def test_every_position_is_rolled_out_from_its_own_past(
    chunk_size: int, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many copies of two different rows, one filled on its left, in small blocks, with three pairs."""
    monkeypatch.setattr(rollout, "DRAWS_PER_BLOCK", 5000)
    monkeypatch.setattr(rollout, "BRANCHES_PER_BLOCK", 1000)
    copies, units = 2000, 5
    pair = torch.randint(2, (2, units, chunk_size))
    valid = torch.tensor([[True] * units, [False] + [True] * (units - 1)])
    model, _ = make(chunk_size, None, known)
    accuracy, collision, rows = brier_draws(model, pair.repeat(copies, 1, 1), valid.repeat(copies, 1), 6)
    eligible = eligible_units(valid, chunk_size)
    assert rows.tolist() == eligible.repeat(copies, 1).nonzero()[:, 0].tolist()
    positions = int(eligible.sum())
    # Copies are independent, terms lie in [0, 1]: by Hoeffding a mean of 2000 strays by t or more with chance
    # 2 exp(-4000 t^2). At most 8 positions * 8 terms * 4 cases = 256 comparisons: t = .075 makes 1e-7 in all.
    for at, (row, unit) in enumerate(eligible.nonzero().tolist()):
        truth = truth_of(chunk_size, pair[row][valid[row]], unit - int((~valid[row]).sum()))
        for terms, expected in zip((accuracy, collision), truth, strict=True):
            assert (terms.view(copies, positions, 4)[:, at].mean(0) - expected).abs().max() < 0.075


def test_a_density_leaves_no_noise_in_accuracy_and_first_collision_of_a_uniform_law() -> None:
    model, world = make(1, None, known=True)
    world.laws = torch.full((HASHES, 2), 0.5)
    chunks, valid = torch.randint(2, (3, 6, 1)), torch.ones(3, 6, dtype=torch.bool)
    accuracy, collision, _ = brier_draws(model, chunks, valid, 2)
    assert torch.allclose(accuracy, 0.5 ** torch.arange(1.0, 5).expand(9, 4))
    assert torch.allclose(collision[:, 0], torch.full((9,), 0.5))


def test_a_temperature_is_not_scored_by_the_plain_density() -> None:
    model, _ = make(1, None, known=True)
    chunks, valid = torch.randint(2, (2, 5, 1)), torch.ones(2, 5, dtype=torch.bool)
    counted, _, _ = brier_draws(model, chunks, valid, 2, SampleOptions(temperature=0.5))
    assert torch.equal(16 * counted, (16 * counted).round())  # two draws in each of up to 4 units
    exact, _, _ = brier_draws(model, chunks, valid, 2, SampleOptions())
    assert not torch.equal(16 * exact, (16 * exact).round())


@pytest.mark.parametrize("known", [False, True])
def test_pairs_that_parted_cost_nothing(known: bool) -> None:
    """Five scripts: the pair parts in unit 0, 1, 2, 3 or never."""
    for agreed in range(5):
        script = torch.zeros(1, 2, 5, 2, dtype=torch.long)
        if agreed < 4:
            script[0, min(agreed, 1), agreed, 1] = 1
        model, world = make(1, script, known)
        chunks, valid = torch.zeros(1, 4, 1, dtype=torch.long), torch.ones(1, 4, dtype=torch.bool)
        _, collision, _ = brier_draws(model, chunks, valid, 2)
        assert world.asked == 2 * (1 if known else 4) + 2 * min(agreed, 3)
        if not known:
            assert collision.tolist() == [[1.0] * agreed + [0.0] * (4 - agreed)]


def test_units_count_where_four_predicted_tokens_follow() -> None:
    predict = torch.tensor([[True] * 6, [False, True, True, True, True, False]])
    assert eligible_units(predict, 4).equal(predict)
    assert eligible_units(predict, 2).long().tolist() == [[1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0]]
    assert eligible_units(predict, 1).long().tolist() == [[1, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0]]
    assert not eligible_units(predict[:, :2], 1).any()


def test_a_unit_that_is_not_predicted_is_not_scored() -> None:
    model, _ = make(2, predict_first=False)
    _, _, rows = brier_draws(
        model, torch.zeros(2, 4, 2, dtype=torch.long), torch.ones(2, 4, dtype=torch.bool), 2
    )
    assert rows.tolist() == [0, 0, 1, 1]  # units 1 and 2; 0 is given and 3 has two tokens


def test_rows_too_short_for_four_tokens_give_no_position_and_one_draw_is_refused() -> None:
    model, _ = make(1)
    chunks, valid = torch.zeros(2, 3, 1, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool)
    accuracy, collision, rows = brier_draws(model, chunks, valid, 2)
    assert (accuracy.shape, collision.shape, rows.shape) == ((0, 4), (0, 4), (0,))
    with pytest.raises(ValueError, match="got 1"):
        brier_draws(model, chunks, valid, 1)
