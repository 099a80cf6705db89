"""One law of text in two models, so that whoever decodes must hand over the right past.

In `told` the head draws the ids themselves and knows the sum of the two chunks before, for the backbone says
it; in `read` the head draws a step and the decoder goes that step from the sum, of the past that it is given.
From one seed both make the same ids, as long as the past is the two chunks that really stand before: the
held-out ones under teacher forcing, and what was drawn itself in a roll-out or in generation. From an even
sum different steps lead to the same ids, so even whether two draws agree needs the right past.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from calmkit.autoencoders.past_vae import PastVAE
from calmkit.backbones.transformer import TransformerBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.generation import UnitDraws
from calmkit.heads.energy import EnergyHead
from calmkit.interfaces import (
    Autoencoder,
    Backbone,
    Batch,
    Context,
    DensityHead,
    Embedder,
    EventSpec,
    Guidance,
    HeadInfo,
    LossOutput,
    NotTrainable,
    Past,
    PastReadingAutoencoder,
    Posterior,
    RowSampler,
    SampleOptions,
    Sampler,
    TokenAutoencoder,
)
from calmkit.metrics.held_out import held_out
from calmkit.model import CalmModel
from calmkit.recipe.fit_rows import drawing_fits
from calmkit.recipe.load import load_recipe
from calmkit.registry import make_manager
from calmkit.rows import draw_rows
from calmkit.samplers.direct import DirectSampler
from calmkit.samplers.rejection import RejectionSampler
from calmkit.samplers.vote import VoteSampler
from calmkit.text import chunk_likelihood
from calmkit.text.generation import generate
from calmkit.text.metrics.latent_units import code_units, spread_past, spread_units
from calmkit.text.metrics.latents import latent_diagnostics
from calmkit.text.metrics.likelihood import unit_nats
from calmkit.text.metrics.reconstruction import reconstruct
from calmkit.text.metrics.rollout import brier_draws
from calmkit.text.metrics.sampling import measure_sampling

V, E = 7, 6  # ids, and the last of them as end-of-text
NEVER = 98  # an end-of-text that is never drawn


def stepped(total: Tensor, step: Tensor) -> Tensor:
    """Ids a step on from a sum; from an even one all steps below 4 are one."""
    return (total + torch.where(total % 2 == 0, step // 4, step)) % V


class Told(TokenAutoencoder):
    """A value is the ids."""

    def __init__(self, chunk_size: int) -> None:
        super().__init__()
        self.chunk_size, self.event = chunk_size, EventSpec((chunk_size,))

    def encode(self, data: Tensor) -> Posterior:
        return Posterior(data.to(torch.get_default_dtype()))

    def decode(self, z: Tensor) -> Tensor:
        return 40 * torch.nn.functional.one_hot(self.to_data(z), V).to(z.dtype)

    def to_data(self, z: Tensor) -> Tensor:
        return z.round().long() % V

    def loss(self, data: Tensor) -> LossOutput:
        raise NotTrainable


class Read(TokenAutoencoder, PastReadingAutoencoder):
    """A value is the step from the sum of the two chunks before."""

    past = 2

    def __init__(self, chunk_size: int, layout: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.chunk_size, self.event, self.layout = chunk_size, EventSpec((chunk_size,)), layout

    def encode(self, data: Tensor) -> Posterior:
        zero = torch.zeros(data.shape, dtype=torch.get_default_dtype())
        return Posterior(zero, zero - 3)

    def decode(self, z: Tensor, past: Past | None = None) -> Tensor:
        return 40 * torch.nn.functional.one_hot(self.to_data(z, past), V).to(z.dtype)

    def to_data(self, z: Tensor, past: Past | None = None) -> Tensor:
        step = z.round().long()
        total = torch.zeros_like(step) if past is None else (past.data * past.known.unsqueeze(-1)).sum(-2)
        return stepped(total, step)

    def loss(self, data: Tensor) -> LossOutput:
        raise NotTrainable


class Ids(Embedder):
    reads = "data"

    def forward(self, data: Tensor, z: Tensor) -> Tensor:
        return data.to(torch.get_default_dtype())


@dataclass(frozen=True)
class LastTwo:
    x: Tensor  # [rows, 2, K]


class Sums(Backbone):
    """h is the sum of the two units before."""

    def __init__(self, chunk_size: int) -> None:
        super().__init__()
        self.hidden_dim = chunk_size

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        return Context(self.states(x, valid).x.sum(1).view(x.shape))

    def start(self, batch: int, max_units: int) -> tuple[Context, LastTwo]:
        return Context(torch.zeros(batch, 1, self.hidden_dim)), LastTwo(
            torch.zeros(batch, 2, self.hidden_dim)
        )

    def step(self, x: Tensor, valid: Tensor, state: LastTwo) -> tuple[Context, LastTwo]:
        every = torch.cat([state.x, x * valid.unsqueeze(-1)], 1)
        return Context(every[:, 1:-1] + every[:, 2:]), LastTwo(every[:, -2:])

    def select(self, state: LastTwo, rows: Tensor) -> LastTwo:
        return LastTwo(state.x[rows])

    def states(self, x: Tensor, valid: Tensor) -> LastTwo:
        every = torch.cat([torch.zeros(len(x), 2, x.shape[-1]), x * valid.unsqueeze(-1)], 1)
        return LastTwo(torch.stack([every[:, :-2], every[:, 1:-1]], 2).flatten(0, 1))


class Steps(DensityHead):
    """Draws few steps, so that draws often agree; has a density of its own, the posterior of `Read`."""

    info = HeadInfo(sampling="one_step")

    def __init__(self, told: bool) -> None:
        super().__init__()
        self.told = told
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def loss(self, context: Context, target: Posterior) -> Tensor:
        raise NotImplementedError

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        u = torch.rand(num, *context.h.shape)
        step = (5 * u * u * u).floor()  # 0 to 4, mostly 0
        return stepped(context.h, step) if self.told else step

    def log_prob(self, context: Context, z: Tensor) -> Tensor:
        return torch.distributions.Normal(0.0, torch.tensor(-3.0).exp()).log_prob(z).sum(-1)


def model_of(told: bool, chunk_size: int) -> CalmModel:
    autoencoder: Autoencoder = Told(chunk_size) if told else Read(chunk_size)
    return CalmModel(autoencoder, Ids(), Sums(chunk_size), Steps(told)).eval()


def held(chunk_size: int) -> tuple[Tensor, Tensor]:
    """Rows of chunks, each the sum of the two before but for one in five; the last units are not real."""
    generator = torch.Generator().manual_seed(5)
    data = torch.randint(V, (6, 9, chunk_size), generator=generator)
    off = (torch.rand(6, 9, 1, generator=generator) < 0.2).long()
    for unit in range(2, 9):
        data[:, unit] = (data[:, unit - 1] + data[:, unit - 2] + off[:, unit]) % V
    valid = torch.ones(6, 9, dtype=torch.bool)
    valid[-1, 6:] = False
    return data, valid


@pytest.mark.parametrize("chunk_size", [1, 2, 4])
def test_brier_terms_and_roll_outs_decode_behind_the_right_past(chunk_size: int) -> None:
    found = []
    for told in (True, False):
        torch.manual_seed(1)
        found.append(brier_draws(model_of(told, chunk_size), *held(chunk_size), num_draws=6))
    for one, other in zip(*found, strict=True):
        assert one.equal(other)
    accuracy, collision, _ = found[0]
    assert accuracy[:, -1].mean().item() > 0.1  # pairs live to the last token
    assert collision[:, -1].mean().item() > 0.1


@pytest.mark.parametrize("sampler", [DirectSampler(), VoteSampler(temperature=0.5, candidates=4)])
@pytest.mark.parametrize("chunk_size", [1, 4])
def test_samplers_are_measured_behind_the_right_past(sampler: Sampler, chunk_size: int) -> None:
    batch = Batch(*held(chunk_size))
    found = [measure_sampling(model_of(told, chunk_size), sampler, [batch], seed=2) for told in (True, False)]
    assert found[0] == found[1]


SAMPLERS = [DirectSampler(), VoteSampler(candidates=5), RejectionSampler(temperature=0.5)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["direct", "vote", "rejection"])
@pytest.mark.parametrize("seeds", [None, [3, 4]])
def test_generation_reads_its_own_output_as_the_past(sampler: Sampler, seeds: list[int] | None) -> None:
    """Prompts of different lengths, so that one is filled up on its left with units that nobody may read."""
    prompts: Any = [[1, 2, 3, 4, 5, 0], [2, 5]]
    found = [
        [
            unit.data
            for unit in generate(
                model_of(told, 2), prompts, sampler, eos_id=NEVER, max_units=8, seed=3, seeds=seeds
            )
        ]
        for told in (True, False)
    ]
    assert torch.stack(found[0]).equal(torch.stack(found[1]))
    assert len(found[0]) == 8


def test_what_is_written_goes_on_from_what_was_written_and_not_from_the_truth() -> None:
    """With no step at all each chunk is the sum of the two before: 1, 2 goes on 3, 5, 1, ... modulo 7."""

    class Still(Steps):
        def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
            return torch.zeros(num, *context.h.shape)

    model = CalmModel(Read(1), Ids(), Sums(1), Still(False)).eval()
    units = generate(model, [[1, 2]], DirectSampler(), eos_id=E, max_units=9)
    assert [int(unit.data) for unit in units] == [3, 5, 1, 6]


def test_measures_see_draws_behind_the_held_out_past() -> None:
    batch = Batch(*held(2))
    drawn = []
    for told in (True, False):
        seen = held_out(model_of(told, 2), batch, num_draws=3, seed=1)
        assert seen is not None
        drawn.append(seen.drawn_data())
    assert drawn[0].equal(drawn[1])


def exact_rows() -> tuple[Tensor, Tensor]:
    """Every chunk is the sum of the two before; what would stand before the first is 0."""
    data = torch.randint(1, V, (3, 6, 2))
    data[:, 0] = 0
    data[:, 1] = 0
    for unit in range(2, 6):
        data[:, unit] = (data[:, unit - 1] + data[:, unit - 2]) % V
    data[0, 3] = (data[0, 3] + 1) % V  # but for this one, and those that follow from the old sums
    return data, torch.ones(3, 6, dtype=torch.bool)


def test_reconstruction_is_measured_behind_the_true_past() -> None:
    data, valid = exact_rows()
    _, from_mean = reconstruct(Read(2), data, valid)
    wrong = (from_mean != data).any(-1)
    assert wrong.nonzero().tolist() == [[0, 3], [0, 4], [0, 5]]  # itself, and the two whose sums it is in


def test_latents_are_looked_at_behind_the_past_of_their_own_unit() -> None:
    """15 of 18 chunks come back; of every other one 7 of 9, for units 3 and 5 of row 0 are among them."""
    data, valid = exact_rows()
    batches = [Batch(data[:1], valid[:1]), Batch(data[1:], valid[1:])]
    found = latent_diagnostics(Read(2), batches)
    assert found["chunk_accuracy_mean"] == found["robustness"][0]["chunk_accuracy"] == 15 / 18
    some = latent_diagnostics(Read(2), batches, max_units=9)  # units 1, 3, 5, ... of all
    assert some["chunk_accuracy_mean"] == some["robustness"][0]["chunk_accuracy"] == 7 / 9
    assert "interpolation" not in found
    units = code_units(Read(2), spread_units(batches, 18), spread_past(Read(2), batches, 18))
    picked = units.at(torch.tensor([3, 9, 5]))
    assert (picked.read(picked.posterior.mean) == picked.chunks).all(-1).tolist() == [False, True, False]


def test_likelihoods_read_chunks_behind_the_true_past() -> None:
    """The head's law is the posterior, so nothing is left of the bound but what the decoder says: about 0
    where a chunk is the sum of those before it, and 40 nats and more where not.
    """
    data, valid = exact_rows()
    model = model_of(False, 2)
    nats, rows = unit_nats(model, data, valid, "bound", 2)
    unlikely = (nats[:, 1] > 39).view(3, 6)
    assert unlikely.nonzero().tolist() == [[0, 3], [0, 4], [0, 5]]
    assert nats[:, 1][~unlikely.flatten()].abs().max().item() < 1e-6
    context, places = model.context(data, valid), torch.full((18,), 2)
    chunks = data.flatten(0, 1)
    flat = context[torch.ones(3, 6, dtype=torch.bool)]
    found = chunk_likelihood.bound(model, flat, chunks, places)
    assert ((found < -30).view(3, 6)).nonzero().tolist() == [[0, 3], [0, 4], [0, 5]]
    assert len(rows) == 18


def test_written_unit_by_unit_it_is_what_the_whole_row_would_give() -> None:
    """Of real parts: steps with a state and a past that rolls, against the whole row read anew."""
    autoencoder = PastVAE(V, past=2, chunk_size=2, latent_dim=4, hidden_dim=8)
    embedder = TokensEmbedder(8, autoencoder.event, 2, V)
    head = EnergyHead(8, autoencoder.event, depth=1)
    backbone = TransformerBackbone(hidden_dim=8, depth=1, heads=2)
    model = CalmModel(autoencoder, embedder, backbone, head).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    sampler = VoteSampler(candidates=4)
    prompt = [1, 2, 3, 4, 5, 0]
    cached = [unit.data for unit in generate(model, [prompt], sampler, eos_id=E, max_units=6, seed=7)]
    data = torch.tensor(prompt).view(1, 3, 2)
    torch.manual_seed(7)
    with torch.no_grad():
        for unit in cached:
            longer = torch.cat([data, torch.zeros_like(data[:, :1])], 1)
            context = model.context(longer)[:, -1]
            chosen = sampler.choose(UnitDraws(model, context, sampler.options), torch.tensor([0]))
            if bool((chosen.data == E).any()):  # what follows an end is filled up
                break
            assert chosen.data.equal(unit)
            data = torch.cat([data, chosen.data.unsqueeze(1)], 1)
    assert data.shape[1] >= 6


def test_a_draw_without_its_past_is_refused_by_name() -> None:
    model = model_of(False, 2)
    with pytest.raises(ValueError, match="Read decodes a unit behind the 2 before it, and these conditions"):
        model.draw(Context(torch.zeros(3, 2)), 2)


class Rows(RowSampler):
    options, guidance, beams, fan = SampleOptions(), Guidance(), 1, 1


def test_rows_that_are_decoded_in_one_go_are_refused_before_training_and_when_drawn() -> None:
    model = CalmModel(Read(2, (2, 2)), Ids(), Sums(2), Steps(False)).eval()
    with pytest.raises(ValueError, match="Read decodes a unit behind those before it; generate"):
        draw_rows(model, Rows(), 2)
    manager = make_manager(guests=[])
    (problem,) = drawing_fits(load_recipe("tiny/givt_causal", (), manager), manager, model)
    assert problem.code == "CK143"
    assert "decodes a unit behind those before it" in problem.message
