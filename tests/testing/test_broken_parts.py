"""The conformance kit sees what is wrong: parts that keep every law but one, and the law it must name."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.autoencoders.vae import VAE
from calmkit.backbones.gru import GRUBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.heads.local_ar import LocalARHead
from calmkit.heads.mixture import MixtureHead
from calmkit.interfaces import (
    Autoencoder,
    Backbone,
    Choice,
    Context,
    DensityHead,
    Draw,
    Embedder,
    EventSpec,
    GenerativeHead,
    Guidance,
    Guided,
    GuidedHead,
    LossOutput,
    PlacewiseHead,
    Posterior,
    RowSampler,
    SampleOptions,
    Sampler,
    TokenAutoencoder,
)
from calmkit.testing import check_autoencoder, check_backbone, check_embedder, check_head, check_sampler


class Head(DensityHead):
    """A small mixture, wrapped: each subclass breaks one law."""

    info = replace(MixtureHead.info, guidance="none")

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__()
        self.inner: Any = MixtureHead(hidden_dim, event, num_components=2, depth=1)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return self.inner.loss(context, target)

    def log_prob(self, context: Context, z: Tensor) -> Tensor:
        return self.inner.log_prob(context, z)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        self.info.accept(options)
        return self.inner.sample(context, num, options)


class Reduced(Head):
    """Its loss is a mean."""

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return super().loss(context, target).mean()


class Mixed(Head):
    """Each loss leans on the mean over units."""

    def loss(self, context: Context, target: Posterior) -> Tensor:
        loss = super().loss(context, target)
        return loss + (loss.mean() if loss.numel() else 0.0)


class Unconditional(Head):
    """Looks at no condition."""

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return super().loss(Context(torch.ones_like(context.h)), target)


class TwoFaced(Head):
    """Its loss doubles in eval mode."""

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return super().loss(context, target) * (1 if self.training else 2)


class Unused(Head):
    """Has a parameter that the loss never reads."""

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__(hidden_dim, event)
        self.idle = nn.Parameter(torch.zeros(3))


class Dead(Head):
    """Has a parameter whose gradient is always zero."""

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__(hidden_dim, event)
        self.dead = nn.Parameter(torch.zeros(3))

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return super().loss(context, target) + 0.0 * self.dead.sum()


class OwnDtype(Head):
    """Draws in torch's default dtype."""

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return super().sample(context, num, options).to(torch.get_default_dtype())


class Ignores(Head):
    """Takes any option and honours two."""

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        options = replace(options or SampleOptions(), num_steps=None, solver=None)
        return super().sample(context, num, options)


class Lukewarm(Head):
    """Takes a temperature and does nothing with it."""

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        self.info.accept(options)
        return super().sample(context, num)


class OwnNoise(Head):
    """Draws from a generator that nobody seeds."""

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__(hidden_dim, event)
        self.generator = torch.Generator().manual_seed(0)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        options = options or SampleOptions()
        return super().sample(context, num, replace(options, generator=options.generator or self.generator))


class OneDraw(Head):
    """Repeats one draw."""

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        draw = super().sample(context, 1, options)
        return draw.expand(num, *draw.shape[1:])


class NoState(Head):
    """Keeps a number that matters out of its state."""

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__(hidden_dim, event)
        self.shift = torch.rand(()).item()

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return super().loss(context, target) + self.shift


class Unnormalised(Head):
    """Its density sums to e."""

    def log_prob(self, context: Context, z: Tensor) -> Tensor:
        return super().log_prob(context, z) + 1


class OtherDraws(Head):
    """Its draws are wider than its density."""

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        draws = super().sample(context, num, options)
        mean = draws.mean(0, keepdim=True)
        return mean + 1.5 * (draws - mean) if num > 1000 else draws


class Tokens(DensityHead):
    """local_ar, whose draws in large numbers are sorted within a unit: wrong at K = 2 only."""

    info = LocalARHead.info

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__()
        self.inner = LocalARHead(hidden_dim, event, width=16, depth=1, heads=2)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return self.inner.loss(context, target)

    def log_prob(self, context: Context, z: Tensor) -> Tensor:
        return self.inner.log_prob(context, z)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        draws = self.inner.sample(context, num, options)
        return draws.sort(-1).values if num > 1000 else draws


class LooksAhead(PlacewiseHead):
    """local_ar, whose places know the id that they stand for."""

    info = LocalARHead.info

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__()
        self.inner = LocalARHead(hidden_dim, event, width=16, depth=1, heads=2)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return self.inner.loss(context, target)

    def log_prob(self, context: Context, z: Tensor) -> Tensor:
        return self.inner.log_prob(context, z)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return self.inner.sample(context, num, options)

    def place_log_probs(self, context: Context, z: Tensor) -> Tensor:
        places = self.inner.place_log_probs(context, z)
        own = torch.nn.functional.one_hot(z, places.shape[-1]).bool()
        return places.where(own, places - 1)


class OtherPlaces(LooksAhead):
    """The places sum to another density."""

    def place_log_probs(self, context: Context, z: Tensor) -> Tensor:
        return self.inner.place_log_probs(context, z) / 2


HEADS: list[tuple[type[GenerativeHead], str]] = [
    (Reduced, "one loss per unit, not reduced"),
    (Mixed, "the loss of a unit depends on no other unit's target"),
    (Unconditional, "the loss of a unit depends on its condition"),
    (TwoFaced, "a loss means the same in train and eval mode"),
    (Unused, r"gradient reaches every parameter': no gradient for \['idle'\]"),
    (Dead, r"gradient reaches every parameter': all zero for \['dead'\]"),
    (OwnDtype, "dtype follows the input"),
    (Ignores, "a sample option is honoured or a ValueError"),
    (Lukewarm, "a temperature below 1 narrows the draws"),
    (OwnNoise, "same seed, same draw"),
    (OneDraw, "a head whose draws are all equal is deterministic"),
    (NoState, "state_dict round trip"),
    (Unnormalised, "a density sums to 1"),
    (OtherDraws, "draws follow the density"),
    (Tokens, "draws follow the density"),
    (LooksAhead, "the last id moves what is said of the ids up to it"),
    (OtherPlaces, "its places sum to another log_prob"),
]


@pytest.mark.parametrize(("cls", "law"), HEADS)
def test_a_broken_head_is_seen(cls: type[GenerativeHead], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_head(cls)


def test_the_wrapped_head_itself_keeps_every_law() -> None:
    check_head(Head)


class Positional(Head):
    """Takes a setting before the star."""

    def __init__(self, hidden_dim: int, event: EventSpec, width: int = 3) -> None:
        super().__init__(hidden_dim, event)


class Bare(Head):
    """Has a setting without an annotation."""

    def __init__(self, hidden_dim: int, event: EventSpec, *, width=3) -> None:  # type: ignore[no-untyped-def]
        super().__init__(hidden_dim, event)


class Silent(Head):
    """Has a setting that every recipe would have to set."""

    def __init__(self, hidden_dim: int, event: EventSpec, *, secret: int) -> None:
        super().__init__(hidden_dim, event)


class Mute(Head):
    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__(hidden_dim, event)


@pytest.mark.parametrize(
    ("cls", "seen"),
    [
        (Positional, "before the star"),
        (Bare, "'width' has no annotation"),
        (Silent, "'secret' has no default"),
        (Mute, "no docstring"),
    ],
)
def test_a_constructor_that_is_no_schema_is_seen(cls: type[GenerativeHead], seen: str) -> None:
    with pytest.raises(AssertionError, match=seen):
        check_head(cls)


class Line(Backbone):
    """A small GRU, wrapped: each subclass breaks one law."""

    def __init__(self, *, hidden_dim: int = 8) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.inner = GRUBackbone(hidden_dim=hidden_dim)

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        return self.inner(x, valid)

    def start(self, batch: int, max_units: int) -> Any:
        return self.inner.start(batch, max_units)

    def step(self, x: Tensor, valid: Tensor, state: Any) -> Any:
        return self.inner.step(x, valid, state)

    def select(self, state: Any, rows: Tensor) -> Any:
        return self.inner.select(state, rows)

    def states(self, x: Tensor, valid: Tensor) -> Any:
        return self.inner.states(x, valid)


class Leaks(Line):
    """h[:, i] sees unit i."""

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        return Context(super().forward(x, valid).h + 1e-6 * x)


class Deaf(Line):
    """Sees nothing."""

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        h = super().forward(x, valid).h
        return Context(h[:, :1].expand_as(h))


class ReadsFilling(Line):
    """Reads invalid units."""

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        return super().forward(x, torch.ones_like(valid))


class CountsFilling(Line):
    """Filling moves what follows."""

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        filled = (~valid).long().cumsum(1).unsqueeze(-1)
        return Context(super().forward(x, valid).h + 0.01 * filled)


class Batchwise(Line):
    """Conditions that have seen a unit lean on the number of rows."""

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        seen = (valid.long().cumsum(1) - valid.long()).clamp(max=1).unsqueeze(-1)
        return Context(super().forward(x, valid).h + 0.01 * len(x) * seen)


class OneOff(Line):
    """Forgets the second unit of a block."""

    def step(self, x: Tensor, valid: Tensor, state: Any) -> Any:
        return super().step(x, valid & (torch.arange(x.shape[1]) != 1), state)


class Unsorted(Line):
    """Select gives the rows in their own order."""

    def select(self, state: Any, rows: Tensor) -> Any:
        return super().select(state, rows.sort().values)


class Shared(Line):
    """Writes into the state it was given."""

    def step(self, x: Tensor, valid: Tensor, state: Any) -> Any:
        context, after = super().step(x, valid, state)
        for old, new in zip(vars(state).values(), vars(after).values(), strict=True):
            old.copy_(new)
        return context, state

    def start(self, batch: int, max_units: int) -> Any:
        context, state = super().start(batch, max_units)
        return context, type(state)(*(t.detach().clone() for t in vars(state).values()))


class Behind(Line):
    """Branches have read one unit too few."""

    def states(self, x: Tensor, valid: Tensor) -> Any:
        return super().states(x, valid & (torch.arange(x.shape[1]) != 1))


class Wide(Line):
    """Answers in double precision."""

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        return Context(super().forward(x, valid).h.double())


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (Leaks, "no leak from the future"),
        (Deaf, "the next condition sees a valid unit|gradient"),
        (ReadsFilling, "an invalid unit is never read"),
        (CountsFilling, "filling on the left changes nothing|start vector"),
        (Batchwise, "a row alone gives what it gives in a batch"),
        (OneOff, "step equals forward"),
        (Unsorted, "select commutes with step"),
        (Shared, "stepping an older state again"),
        (Behind, "the branches of states equal forward"),
        (Wide, "dtype follows the input"),
    ],
)
def test_a_broken_backbone_is_seen(cls: type[Backbone], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_backbone(cls)


def test_the_wrapped_backbone_itself_keeps_every_law() -> None:
    check_backbone(Line)


class Coder(TokenAutoencoder):
    """A small VAE, wrapped: each subclass breaks one law."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.inner = VAE(vocab_size, chunk_size=2, latent_dim=4, hidden_dim=16)
        self.event, self.chunk_size = self.inner.event, 2

    def encode(self, data: Tensor) -> Posterior:
        return self.inner.encode(data)

    def decode(self, z: Tensor) -> Tensor:
        return self.inner.decode(z)

    def to_data(self, z: Tensor) -> Tensor:
        return self.inner.to_data(z)

    def loss(self, data: Tensor) -> LossOutput:
        return self.inner.loss(data)


class Noisy(Coder):
    """Its encoder draws."""

    def encode(self, data: Tensor) -> Posterior:
        return Posterior(super().encode(data).sample(1)[0])


class Dropping(Coder):
    """Its encoder drops in train mode."""

    def encode(self, data: Tensor) -> Posterior:
        return Posterior(nn.functional.dropout(super().encode(data).mean, 0.5, self.training))


class LeastLikely(Coder):
    """Gives the least likely ids."""

    def to_data(self, z: Tensor) -> Tensor:
        return self.decode(z).argmin(-1)


class Cut(Coder):
    """Its decoder passes no gradient."""

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z.detach())


class Awake(Coder):
    """Cannot be put to sleep."""

    def train(self, mode: bool = True) -> Coder:
        return super().train(True)


class Hopeful(TokenChunks):  # type: ignore[misc]
    """Nothing to learn, yet a loss."""

    def loss(self, data: Tensor) -> LossOutput:  # type: ignore[override]
        return LossOutput(torch.zeros(data.shape[:2]))


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (Noisy, "encode is deterministic"),
        (Dropping, "encode is equal in train and eval mode"),
        (LeastLikely, "to_data gives the most likely ids"),
        (Cut, "decode is differentiable"),
        (Awake, "frozen inside a model|encode is equal"),
        (Hopeful, "NotTrainable exactly where there are no parameters"),
    ],
)
def test_a_broken_autoencoder_is_seen(cls: type[Autoencoder], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_autoencoder(cls)


def test_the_wrapped_autoencoder_itself_keeps_every_law() -> None:
    check_autoencoder(Coder)


class Reader(Embedder):
    """The embedder of ids, wrapped: each subclass breaks one law."""

    reads = "data"

    def __init__(self, hidden_dim: int, event: EventSpec, chunk_size: int, vocab_size: int) -> None:
        super().__init__()
        self.inner = TokensEmbedder(hidden_dim, event, chunk_size, vocab_size)

    def forward(self, data: Tensor, z: Tensor) -> Tensor:
        return self.inner(data, z)


class Neighbourly(Reader):
    """Leans on the mean over units."""

    def forward(self, data: Tensor, z: Tensor) -> Tensor:
        out = super().forward(data, z)
        return out + (out.reshape(-1, out.shape[-1]).mean(0) if out.numel() else 0.0)


class Peeks(Reader):
    """Says that it reads ids, and reads the latent too."""

    def forward(self, data: Tensor, z: Tensor) -> Tensor:
        return super().forward(data, z) + z.to(self.inner.embedding.weight.dtype).mean(-1, keepdim=True)


@pytest.mark.parametrize(
    ("cls", "law"),
    [(Neighbourly, "each vector depends on its own unit only"), (Peeks, "reads says what is read")],
)
def test_a_broken_embedder_is_seen(cls: type[Embedder], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_embedder(cls)


class Second(Sampler):
    """Takes the second of two draws: each subclass breaks one law."""

    def __init__(self) -> None:
        self.options = SampleOptions()

    def choose(self, draw: Draw, rows: Tensor, generator: torch.Generator | None = None) -> Choice:
        ids = draw(2, rows)
        one = torch.ones_like(rows)
        return Choice(ids[1], index=one, draws=2 * one, level=one.to(torch.float64))


class Miscounts(Second):
    """States one draw and asks for two."""

    def choose(self, draw: Draw, rows: Tensor, generator: torch.Generator | None = None) -> Choice:
        return replace(super().choose(draw, rows), draws=torch.ones_like(rows))


class Mislabels(Second):
    """States the index of another draw."""

    def choose(self, draw: Draw, rows: Tensor, generator: torch.Generator | None = None) -> Choice:
        return replace(super().choose(draw, rows), index=torch.zeros_like(rows))


class Strays(Second):
    """Asks for a row it was not given."""

    def choose(self, draw: Draw, rows: Tensor, generator: torch.Generator | None = None) -> Choice:
        draw(1, rows.amax(0, keepdim=True) + 1)
        return super().choose(draw, rows)


class Swaps(Second):
    """Gives each row the chunk of its neighbour."""

    def choose(self, draw: Draw, rows: Tensor, generator: torch.Generator | None = None) -> Choice:
        choice = super().choose(draw, rows)
        return replace(choice, data=choice.data.roll(1, 0))


class Favours(Second):
    """Gives the first half of the rows a better choice."""

    def choose(self, draw: Draw, rows: Tensor, generator: torch.Generator | None = None) -> Choice:
        both, place = draw(2, rows), torch.arange(len(rows))
        smaller = (both[0, :, 0] > both[1, :, 0]).long()
        index = torch.where(place < len(rows) / 2, smaller, torch.ones_like(smaller))
        return Choice(both[index, place], index=index, draws=2 * torch.ones_like(rows), level=rows.double())


class Deaf(Second):
    """Has a generator and asks torch's default one."""

    def choose(self, draw: Draw, rows: Tensor, generator: torch.Generator | None = None) -> Choice:
        both, index = draw(2, rows), torch.randint(2, rows.shape)
        ids = both[index, torch.arange(len(rows))]
        return Choice(ids, index=index, draws=2 * torch.ones_like(rows), level=torch.ones(len(rows)))


class Without(Second):
    """Was written without a generator."""

    def choose(self, draw: Draw, rows: Tensor) -> Choice:  # type: ignore[override]
        return super().choose(draw, rows)


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (Miscounts, "draws counts what was asked"),
        (Mislabels, "the ids are the draw at index"),
        (Strays, "only the rows given are asked for"),
        (Swaps, "the ids are the draw at index|a row gets one of its own draws"),
        (Favours, "no row is favoured by its place"),
        (Deaf, "the choice's randomness is the generator's where one is given"),
        (Without, "takes no `generator` that is None by default"),
    ],
)
def test_a_broken_sampler_is_seen(cls: type[Sampler], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_sampler(cls)


def test_the_plain_sampler_keeps_every_law() -> None:
    check_sampler(Second)


def test_a_sentence_names_part_law_and_what_was_seen() -> None:
    with pytest.raises(AssertionError) as caught:
        check_sampler(Miscounts)
    assert str(caught.value) == (
        "samplers: 'Miscounts' breaks the law 'draws counts what was asked': "
        "1 stated, 2 asked for row 0; rows [0], K = 1."
    )


def test_a_check_leaves_torch_as_it_was() -> None:
    before = (torch.get_default_dtype(), copy.deepcopy(torch.get_rng_state()))
    check_sampler(Second)
    check_embedder(Reader)
    assert torch.get_default_dtype() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


class GuidedBase(Head, GuidedHead):
    """The small mixture with its guidance, wrapped: each subclass breaks one law of it."""

    info = MixtureHead.info

    def sample_guided(self, guided: Guided, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return self.inner.sample_guided(guided, num, options)


class Unheard(GuidedBase):
    """Never hears of the null condition."""

    def sample_guided(self, guided: Guided, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return self.inner.sample(guided[0][0], num, options)


class Louder(GuidedBase):
    """Multiplies by the first weight whatever the conditions are."""

    def sample_guided(self, guided: Guided, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return guided[0][1] * super().sample_guided(guided, num, options)


class Swapped(GuidedBase):
    """Guides the units in another order than they came in."""

    def sample_guided(self, guided: Guided, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        turned = tuple((Context(context.h.flip(0)), weight) for context, weight in guided)
        return super().sample_guided(turned, num, options)


class Flat(GuidedBase):
    """Loses the shape of the units."""

    def sample_guided(self, guided: Guided, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return super().sample_guided(guided, num, options).flatten(1, 2)


class Eager(GuidedBase):
    """Takes any option in guided draws."""

    def sample_guided(self, guided: Guided, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        options = replace(options or SampleOptions(), num_steps=None, solver=None)
        return super().sample_guided(guided, num, options)


class Tepid(GuidedBase):
    """Forgets the temperature in guided draws."""

    def sample_guided(self, guided: Guided, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        self.info.accept(options)
        return super().sample_guided(guided, num, replace(options or SampleOptions(), temperature=None))


class OwnWay(GuidedBase):
    """Spends its randomness otherwise than a plain draw does: allowed, the law is the same."""

    def sample_guided(self, guided: Guided, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return super().sample_guided(guided, num + 1, options)[1:]


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (Unheard, "guidance by another condition moves the draws"),
        (Louder, "terms of one condition are no guidance': weights 3, -2"),
        (Swapped, "terms of one condition are no guidance"),
        (Flat, r"guided draws are \[num, \*units, \*event\]"),
        (Eager, "a guided draw takes the sample options that a draw takes': 'num_steps'"),
        (Tepid, "a guided draw takes the sample options that a draw takes': a temperature"),
    ],
)
def test_a_head_that_is_guided_wrongly_is_seen(cls: type[GenerativeHead], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_head(cls)


@pytest.mark.parametrize("cls", [GuidedBase, OwnWay])
def test_a_guided_head_that_keeps_every_law_passes(cls: type[GenerativeHead]) -> None:
    check_head(cls)


class Wishes(RowSampler):
    """Row samplers that want what doesn't go together, one by one."""

    def __init__(self, *, wrong: str = "") -> None:
        self.options = SampleOptions(generator=torch.Generator() if wrong == "generator" else None)
        self.guidance = Guidance(float("inf") if wrong == "weight" else 2.0 if wrong == "both" else 1.0)
        self.beams = {"both": 2, "beams": 0}.get(wrong, 1)
        if wrong == "facts":
            del self.options
        if wrong == "schedule":
            self.guidance = Guidance(2.0, "up")  # type: ignore[arg-type]
        if wrong == "moods":
            self.guidance = Guidance(torch.rand(()).item() + id(self))


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        ("weight", "a guidance weight is a finite number"),
        ("both", "beams are not guided"),
        ("beams", "the constructor states the facts of its kind"),
        ("facts", "the constructor states the facts of its kind"),
        ("generator", "randomness is the caller's"),
        ("moods", "equal settings, equal wishes"),
    ],
)
def test_a_broken_row_sampler_is_seen(wrong: str, law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_sampler(Wishes, wrong=wrong)


def test_a_row_sampler_whose_wishes_go_together_passes() -> None:
    check_sampler(Wishes)
