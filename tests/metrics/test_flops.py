"""What parts say they cost is what torch counts; what they don't say is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.decoding import data_of, decoded, past_of
from calmkit.interfaces import (
    AnyOrderBackbone,
    Backbone,
    Context,
    Embedder,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    ImageAutoencoder,
    LossOutput,
    Posterior,
    SampleOptions,
    StatesCodingFlops,
    StatesDrawFlops,
    StatesFlops,
    StatesTrainingFlops,
    TokenAutoencoder,
    WeightedHead,
)
from calmkit.metrics.flops import autoencoder_train_flops, count_flops, states_flops
from calmkit.metrics.measured_flops import comparable
from calmkit.model import CalmModel
from calmkit.nn.linear_flops import linear_flops
from calmkit.recipe.shapes_only import shapes_only
from calmkit.registry import make_manager
from calmkit.samplers.direct import DirectSampler
from calmkit.samplers.greedy import GreedySampler
from calmkit.samplers.vote import VoteSampler

K, D, H, L = 2, 3, 5, 7


class LinearAutoencoder(TokenAutoencoder):
    """Nobody's formula: a guest."""

    chunk_size = K
    event = EventSpec((D,))

    def __init__(self) -> None:
        super().__init__()
        self.into, self.back = nn.Linear(K, D, bias=False), nn.Linear(D, K, bias=False)

    def encode(self, data: Tensor) -> Posterior:
        mean = self.into(data.to(self.into.weight.dtype))
        return Posterior(mean, torch.zeros_like(mean))

    def decode(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def to_data(self, z: Tensor) -> Tensor:
        return self.back(z).long()

    def loss(self, data: Tensor) -> LossOutput:
        return LossOutput(self.back(self.encode(data).sample(1)[0]).square().sum(-1))


class LinearEmbedder(Embedder):
    reads = "data"

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(K, H)

    def forward(self, data: Tensor, z: Tensor) -> Tensor:
        return self.read(data.to(self.read.weight.dtype))


class AttentionBackbone(Backbone):
    """One projection and one attention over all units, without a mask: only its cost is of interest here."""

    hidden_dim = H

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(H, H)

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        x = self.mix(x).unsqueeze(1)
        return Context(F.scaled_dot_product_attention(x, x, x).squeeze(1))

    def start(self, batch: int, max_units: int) -> tuple[Context, Tensor]:
        return Context(torch.zeros(batch, 1, H)), torch.zeros(batch, 0, H)

    def step(self, x: Tensor, valid: Tensor, state: Tensor) -> tuple[Context, Tensor]:
        x = self.mix(x)
        state = torch.cat([state, x], 1)
        past = state.unsqueeze(1)
        return Context(F.scaled_dot_product_attention(x.unsqueeze(1), past, past).squeeze(1)), state

    def select(self, state: Tensor, rows: Tensor) -> Tensor:
        raise NotImplementedError

    def states(self, x: Tensor, valid: Tensor) -> Tensor:
        raise NotImplementedError


class LinearHead(GenerativeHead):
    info = HeadInfo(sampling="one_step")

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(H, D)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return (self.out(context.h) - target.sample(1)[0]).square().sum(-1)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        z = self.out(context.h)
        return z + torch.randn(num, *z.shape)


class StatedHead(LinearHead, StatesDrawFlops):
    def forward_flops(self, units: int) -> int:
        return 1000 * units

    def draw_flops(self, num: int = 1, options: SampleOptions | None = None) -> int | None:
        return 7 * num if options is None or options.solver is None else None


def model_with(head: GenerativeHead) -> CalmModel:
    return CalmModel(LinearAutoencoder(), LinearEmbedder(), AttentionBackbone(), head)


def test_linear_layers_by_hand() -> None:
    count = count_flops(model_with(LinearHead()), L)
    assert dict(count.training) == {
        "autoencoder": 2 * L * K * D,  # frozen: forward only
        "embedder": 2 * (2 * L * K * H),  # ids take no gradient, so the backward pass is the weight's only
        "backbone": 3 * (2 * L * H * H + 2 * (2 * L * L * H)),  # scores and mixture over all pairs
        "head": 3 * (2 * L * H * D),
    }
    assert count.total == sum(count.training.values())
    assert dict(count.inference) == {
        "embedder": 2 * K * H,
        "backbone": 2 * H * H + 2 * (2 * L * H),  # one unit that attends to L
        "head": 2 * H * D,
        "autoencoder": 2 * D * K,
    }
    assert count.inference_per_unit == sum(count.inference.values())


def test_a_stated_formula_takes_the_place_of_counting() -> None:
    count = count_flops(model_with(StatedHead()), L, draws=2)
    assert count.training["head"] == 3 * 1000 * L
    assert count.inference["head"] == 2 * 7
    assert count.inference["autoencoder"] == 2 * (2 * D * K)
    undecided = count_flops(model_with(StatedHead()), L, options=SampleOptions(solver="adaptive"))
    assert undecided.inference["head"] is None
    assert undecided.inference_per_unit is None


def test_counting_leaves_nothing_behind() -> None:
    model = model_with(LinearHead())
    wants = [parameter.requires_grad for parameter in model.parameters()]
    state = torch.get_rng_state()
    count_flops(model, L)
    autoencoder_train_flops(model.autoencoder, L)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [parameter.requires_grad for parameter in model.parameters()] == wants


def test_stage_one_by_hand_frozen_or_not() -> None:
    autoencoder = LinearAutoencoder()
    by_hand = 2 * (2 * L * K * D) + 3 * (2 * L * D * K)  # the ids that come in take no gradient
    assert autoencoder_train_flops(autoencoder, L) == by_hand
    assert autoencoder_train_flops(autoencoder.requires_grad_(False), L) == by_hand
    assert autoencoder_train_flops(TokenChunks(9, chunk_size=K), L) == 0


def test_rows_of_one_unit_are_refused() -> None:
    with pytest.raises(ValueError, match="got 1"):
        count_flops(model_with(LinearHead()), 1)


def test_a_part_on_the_meta_device_must_state_its_cost() -> None:
    with shapes_only():
        model = model_with(StatedHead())
    with pytest.raises(ValueError, match="LinearAutoencoder does not state its FLOPs"):
        count_flops(model, L)


V, R = 11, 3  # vocabulary; repeats of iterative heads
CODERS = [
    (name, options)
    for name in ("vae", "deterministic", "sigma_vae", "sphere_vae")
    for options in (
        {"chunk_size": 4, "latent_dim": 6, "hidden_dim": 8},
        {"chunk_size": 1, "latent_dim": 3, "hidden_dim": 10, "encoder_layers": 3, "decoder_layers": 1},
    )
] + [
    ("vae", {"chunk_size": 2, "latent_dim": 6, "hidden_dim": 8, "encoder_layers": 3, "odd_layer": "unused"}),
    ("token_chunks", {"chunk_size": 3}),
    ("past_vae", {"chunk_size": 2, "latent_dim": 6, "hidden_dim": 8, "past": 3, "encoder_layers": 3}),
]
EMBEDDERS: list[tuple[str, dict[str, Any]]] = [
    ("tokens", {}),
    ("tokens", {"token_dim": 3}),
    ("tokens", {"chunk_size": 1}),
    ("tokens", {"chunk_size": 1, "always_compress": True}),
    ("latents", {}),
    ("both", {}),
]
BACKBONES: list[tuple[str, dict[str, Any]]] = [
    ("transformer", {"hidden_dim": 16, "depth": 2, "heads": 4, "kv_heads": 2, "ffn_dim": 20}),
    ("transformer", {"hidden_dim": 24, "depth": 1, "heads": 2}),
    ("gru", {"hidden_dim": 8, "depth": 2}),
    ("gru", {"hidden_dim": 5, "depth": 1}),
]
# Sizes that are near each other, as in real use: then the inputs that take no gradient are a small part.
HEADS: list[tuple[str, dict[str, Any]]] = [
    ("energy", {"num_draws": 4, "num_targets": 10, "noise_dim": 5, "depth": 2}),
    ("energy", {"num_draws": 2, "num_targets": 3, "noise_dim": 3, "depth": 1, "width": 24}),
    ("energy", {"num_draws": 3, "noise_dim": 3, "depth": 2, "noise": "modulation", "num_codes": 4}),
    ("energy", {"num_draws": 3, "noise_dim": 3, "depth": 1, "marginal": 0.3, "likelihood_until": 0.2}),
    ("energy", {"num_draws": 3, "noise_dim": 3, "depth": 1, "marginal": 1.0, "noise": "modulation"}),
    ("strata", {"num_codes": 3, "num_targets": 10, "noise_dim": 5}),
    ("strata", {"num_codes": 2, "num_targets": 3, "noise_dim": 3, "weights": "uniform", "width": 24}),
    ("flow", {"repeats": R, "depth": 4, "width": 256}),
    ("flow", {"repeats": 1, "depth": 3, "width": 300, "solver": "euler", "num_steps": 3}),
    ("diffusion", {"repeats": R, "depth": 4, "width": 256, "num_steps": 4}),
    ("diffusion", {"repeats": 1, "depth": 3, "width": 300, "scheduler": "ddpm", "num_steps": 5}),
    ("diffusion", {"repeats": 2, "depth": 4, "width": 256, "variance": "learned", "scheduler": "ddpm"}),
    ("mean_flow", {"repeats": 3, "jumps": 2, "depth": 4, "width": 256}),
    ("mean_flow", {"repeats": 2, "jumps": 2, "depth": 3, "width": 300, "direction": "network"}),
    ("consistency", {"repeats": R, "depth": 4, "width": 256}),
    ("mixture", {"num_components": 3, "depth": 2, "repeats": R}),
    ("mixture", {"num_components": 2, "depth": 1, "width": 24}),
    ("tied_mixture", {"num_components": 300, "depth": 1, "width": 24, "repeats": R}),
    ("tied_mixture", {"num_components": 300, "depth": 1, "repeats": 8, "offset": False}),  # places are most
    ("regression", {"depth": 2}),
    ("regression", {"depth": 1, "width": 24}),
    ("local_ar", {"depth": 2, "heads": 2}),
    ("local_ar", {"width": 24, "depth": 1, "heads": 3}),
    ("local_ar", {"chunk_size": 1}),
]
BACKWARD_TOLERANCE = 0.06
"""Of `PASSES` forward passes: noise, times and ids take no gradient, and a GRU's first state takes none."""


def counted(call: Callable[[], object]) -> int:
    with comparable(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def stated_training(part: Any, units: int) -> int:
    return (
        part.training_flops(units) if isinstance(part, StatesTrainingFlops) else 3 * part.forward_flops(units)
    )


def build(kind: str, name: str, options: dict[str, Any], **sizes: Any) -> Any:
    return make_manager(guests=[]).build(kind, name, options, **sizes)


def on_meta(kind: str, name: str, options: dict[str, Any], **sizes: Any) -> Any:
    with shapes_only():
        return build(kind, name, options, **sizes)


@pytest.mark.parametrize(("name", "options"), CODERS)
def test_autoencoders_cost_what_they_say(name: str, options: dict[str, Any]) -> None:
    coder = build("autoencoders", name, options, vocab_size=V)
    chunks = torch.randint(V, (1, L, coder.chunk_size))
    z = coder.encode(chunks).mean.detach()
    assert counted(lambda: coder.encode(chunks)) == L * coder.encode_flops()
    past = past_of(coder, chunks, torch.ones(1, L, dtype=torch.bool))
    past = None if past is None else past[:, :-1]
    assert counted(lambda: decoded(coder, z, past)) == L * coder.decode_flops()
    assert counted(lambda: data_of(coder, z, past)) == L * coder.decode_flops()
    shapes = on_meta("autoencoders", name, options, vocab_size=V)
    assert (shapes.encode_flops(), shapes.decode_flops()) == (coder.encode_flops(), coder.decode_flops())
    if name != "token_chunks":
        stage_one = counted(lambda: coder.loss(chunks).per_unit.sum().backward())
        assert stage_one == autoencoder_train_flops(coder, L)


@pytest.mark.parametrize(("name", "options"), EMBEDDERS)
def test_embedders_cost_what_they_say(name: str, options: dict[str, Any]) -> None:
    options = dict(options)
    chunk_size = options.pop("chunk_size", K)
    sizes = {"hidden_dim": H, "event": EventSpec((D,)), "chunk_size": chunk_size, "vocab_size": V}
    embedder = build("embedders", name, options, **sizes)
    data, z = torch.randint(V, (1, L, chunk_size)), torch.randn(1, L, D)
    assert counted(lambda: embedder(data, z)) == embedder.forward_flops(L)
    assert counted(lambda: embedder(data, z).sum().backward()) == stated_training(embedder, L)
    assert counted(lambda: embedder(data[:, :1], z[:, :1])) == embedder.step_flops(L)
    assert on_meta("embedders", name, options, **sizes).forward_flops(L) == embedder.forward_flops(L)


@pytest.mark.parametrize(("name", "options"), BACKBONES)
def test_backbones_cost_what_they_say(name: str, options: dict[str, Any]) -> None:
    backbone = build("backbones", name, options)
    x, valid = torch.randn(1, L, backbone.hidden_dim), torch.ones(1, L, dtype=torch.bool)
    x = x.requires_grad_().clone()  # the counter's hooks refuse leaves
    assert counted(lambda: backbone(x, valid)) == backbone.forward_flops(L)
    measured = counted(lambda: backbone(x, valid).h.sum().backward())
    assert measured == pytest.approx(stated_training(backbone, L), rel=BACKWARD_TOLERANCE)
    with torch.no_grad():
        _, state = backbone.start(1, L)
        x = x.detach()
        _, state = backbone.step(x[:, :-1], valid[:, :-1], state)
        assert counted(lambda: backbone.step(x[:, -1:], valid[:, -1:], state)) == backbone.step_flops(L - 1)
    shapes = on_meta("backbones", name, options)
    assert (shapes.forward_flops(L), shapes.step_flops(L)) == (
        backbone.forward_flops(L),
        backbone.step_flops(L),
    )


@pytest.mark.parametrize(("name", "options"), HEADS)
def test_heads_cost_what_they_say(name: str, options: dict[str, Any]) -> None:
    options, hidden = dict(options), 16
    chunk_size = options.pop("chunk_size", 4)
    event = EventSpec((chunk_size,), V) if name == "local_ar" else EventSpec((6,))
    sizes = {"hidden_dim": hidden, "event": event}
    head = build("heads", name, options, **sizes)
    target = Posterior(torch.randn(L, 6), torch.randn(L, 6))
    if name == "local_ar":
        target = Posterior(torch.randint(V, (L, chunk_size)))
    h = torch.randn(L, hidden).requires_grad_().clone()  # the counter's hooks refuse leaves
    assert counted(lambda: head.loss(Context(h), target)) == head.forward_flops(L)
    measured = counted(lambda: head.loss(Context(h), target).sum().backward())
    assert measured == pytest.approx(stated_training(head, L), rel=BACKWARD_TOLERANCE)
    for num in (1, 3):
        with torch.no_grad():
            context = Context(h[:1].detach())
            assert counted(lambda: head.sample(context, num)) == head.draw_flops(num)  # noqa: B023
    if isinstance(head, WeightedHead):
        with torch.no_grad():
            assert counted(lambda: head.weighted_draws(context)) == head.weighted_flops()
    shapes = on_meta("heads", name, options, **sizes)
    assert (shapes.forward_flops(L), shapes.draw_flops(3)) == (head.forward_flops(L), head.draw_flops(3))


OTHERS = (ImageAutoencoder, AnyOrderBackbone)  # counted in their own tests


def test_every_built_in_part_states_its_cost() -> None:
    tested = {
        "autoencoders": {name for name, _ in CODERS},
        "embedders": {name for name, _ in EMBEDDERS},
        "backbones": {name for name, _ in BACKBONES},
        "heads": {name for name, _ in HEADS},
    }
    for kind, names in tested.items():
        parts = make_manager(guests=[]).parts[kind]
        of_text = {name for name, part in parts.items() if not issubclass(part.cls, OTHERS)}
        assert names == of_text, kind
        others = [part.cls for name, part in parts.items() if name not in names]
        assert all(issubclass(cls, (StatesCodingFlops, StatesFlops)) for cls in others), kind
    assert not states_flops(LinearHead())


def test_the_energy_head_by_hand() -> None:
    """calm.md's HEAD = 64 d + d^2 + 6 d^2 nb + d^2 + d l, of which d^2 + nb d^2 are the condition's."""
    d, latent, blocks, draws = 12, 5, 3, 4
    head = build("heads", "energy", {"depth": blocks}, hidden_dim=d, event=EventSpec((latent,)))
    shared = d * d + blocks * d * d
    every = 64 * d + d * d + 6 * d * d * blocks + d * d + d * latent
    assert head.draw_flops(draws) == 2 * (shared + draws * (every - shared))


def test_the_modulated_energy_head_by_hand() -> None:
    """The condition's d^2 once; of each draw 64 d, 7 d^2 a block, 2 d^2 behind the last norm, d^2 and d l."""
    d, latent, blocks, draws = 12, 5, 3, 4
    options = {"depth": blocks, "noise": "modulation", "num_codes": 7}
    head = build("heads", "energy", options, hidden_dim=d, event=EventSpec((latent,)))
    every = 64 * d + 7 * d * d * blocks + 2 * d * d + d * d + d * latent
    assert head.draw_flops(draws) == 2 * (d * d + draws * every)


def test_an_adaptive_solver_has_no_fixed_count_and_options_are_heeded() -> None:
    sizes = {"hidden_dim": 4, "event": EventSpec((3,))}
    head = build("heads", "flow", {"solver": "dopri5"}, **sizes)
    assert head.draw_flops() is None
    one, two = (head.draw_flops(1, SampleOptions(solver="euler", num_steps=n)) for n in (1, 2))
    assert two - one == one - 2 * 4 * 4  # the condition, H to W, is read once


def test_how_many_draws_a_sampler_takes() -> None:
    assert DirectSampler().draws_per_unit() == 1
    assert VoteSampler(temperature=0.5, candidates=50).draws_per_unit() == 50
    assert VoteSampler(temperature=1.0).draws_per_unit() == 1
    assert GreedySampler(candidates=9).draws_per_unit() == 9


def test_linear_layers_count_twice_their_weights() -> None:
    assert linear_flops(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5))) == 2 * (12 + 20)
