from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import FEW
from torch import Tensor

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.autoencoders.vae import VAE
from calmkit.backbones.gru import GRUBackbone
from calmkit.backbones.transformer import TransformerBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.generation import Precision
from calmkit.heads.local_ar import LocalARHead
from calmkit.interfaces import (
    Autoencoder,
    Backbone,
    Choice,
    Context,
    Draw,
    Embedder,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    LossOutput,
    NotTrainable,
    Posterior,
    SampleOptions,
    Sampler,
    TokenAutoencoder,
)
from calmkit.model import CalmModel
from calmkit.registry import make_manager
from calmkit.samplers.direct import DirectSampler
from calmkit.samplers.vote import VoteSampler
from calmkit.text.generation import TextModel, generate, prompt_chunks
from calmkit.text.tokenizers.bytes import BytesTokenizer

E = 256  # end-of-text of the bytes tokenizer
V = 257


def backbone_of(name: str) -> Backbone:
    if name == "gru":
        return GRUBackbone(hidden_dim=8)
    return TransformerBackbone(hidden_dim=8, depth=2, heads=2)


def model_of(head: str, backbone: str) -> CalmModel:
    """In float32, random everywhere, also where a fresh head has zeros."""
    autoencoder: Autoencoder = VAE(V, chunk_size=2, latent_dim=4, hidden_dim=8)
    if head == "local_ar":
        autoencoder = TokenChunks(V, chunk_size=2)
    embedder = TokensEmbedder(8, autoencoder.event, 2, V)
    part = make_manager(guests=[]).build(
        "heads", head, {"depth": 1} | ({"heads": 1} if head == "local_ar" else {}),
        hidden_dim=8, event=autoencoder.event,
    )  # fmt: skip
    model = CalmModel(autoencoder, embedder, backbone_of(backbone), part).float()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def random_model(chunk_size: int = 2, backbone: str = "gru") -> CalmModel:
    autoencoder = TokenChunks(V, chunk_size=chunk_size)
    embedder = TokensEmbedder(8, autoencoder.event, chunk_size, V)
    head = LocalARHead(8, autoencoder.event, depth=1, heads=1)
    return CalmModel(autoencoder, embedder, backbone_of(backbone), head).eval()


class Floats(TokenAutoencoder):
    """Ids as the whole part of a value; the rest tells draws of the same ids apart."""

    def __init__(self, chunk_size: int) -> None:
        super().__init__()
        self.chunk_size, self.event = chunk_size, EventSpec((chunk_size,))

    def encode(self, data: Tensor) -> Posterior:
        return Posterior(data + 0.5)

    def decode(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def to_data(self, z: Tensor) -> Tensor:
        return z.floor().long()

    def loss(self, data: Tensor) -> LossOutput:
        raise NotTrainable


class Listening(Embedder):
    """Remembers what it was given."""

    reads = "latents"

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[Tensor, Tensor]] = []
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, data: Tensor, z: Tensor) -> Tensor:
        self.heard.append((data, z))
        return z.new_zeros(*data.shape[:-1], 2)


@dataclass(frozen=True)
class Place:
    """Row and number of units read since the prompt."""

    h: Tensor


class Counting(Backbone):
    """h = (row, units made so far)."""

    hidden_dim = 2

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        raise NotImplementedError

    def start(self, batch: int, max_units: int) -> tuple[Context, Place]:
        h = torch.stack([torch.arange(batch), torch.full((batch,), -1)], 1).to(torch.float64)
        return Context(h.unsqueeze(1)), Place(h)

    def step(self, x: Tensor, valid: Tensor, state: Place) -> tuple[Context, Place]:
        h = state.h + torch.tensor([0.0, 1.0])
        return Context(h.unsqueeze(1).expand(-1, x.shape[1], -1)), Place(h)

    def select(self, state: Place, rows: Tensor) -> Place:
        return Place(state.h[rows])

    def states(self, x: Tensor, valid: Tensor) -> Place:
        raise NotImplementedError


class Scripted(GenerativeHead):
    """Says `script(row, unit, draw)`; each draw's value carries a random rest."""

    info = HeadInfo(sampling="one_step")

    def __init__(self, script: Callable[[int, int, int], Sequence[int]]) -> None:
        super().__init__()
        self.script = script
        self.asked: list[list[int]] = []
        self.said: list[Tensor] = []

    def loss(self, context: Context, target: Posterior) -> Tensor:
        raise NotImplementedError

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        places = [(int(row), int(unit)) for row, unit in context.h.tolist()]
        self.asked.append([row for row, _ in places])
        ids = torch.tensor([[self.script(row, unit, draw) for row, unit in places] for draw in range(num)])
        self.said.append(ids + torch.rand(ids.shape))
        return self.said[-1]


def scripted_model(
    script: Callable[[int, int, int], Sequence[int]], chunk_size: int
) -> tuple[CalmModel, Listening, Scripted]:
    embedder, head = Listening(), Scripted(script)
    return CalmModel(Floats(chunk_size), embedder, Counting(), head).eval(), embedder, head


def ids_of(model: CalmModel, prompts: list[list[int]], seed: int, sampler: Sampler | None = None) -> Tensor:
    units = generate(model, prompts, sampler or DirectSampler(), eos_id=E, max_units=6, seed=seed)
    return torch.stack([unit.data for unit in units])


def test_prompts_are_filled_on_the_left_to_whole_chunks_and_to_one_length() -> None:
    chunks, valid = prompt_chunks([[], [1, 2, 3], [1, 2, 3, 4, 5]], 2, 9)
    assert chunks.tolist() == [
        [[9, 9], [9, 9], [9, 9]],
        [[9, 9], [9, 1], [2, 3]],
        [[9, 1], [2, 3], [4, 5]],
    ]
    assert valid.long().tolist() == [[0, 0, 1], [0, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("sampler", [DirectSampler(), VoteSampler(temperature=0.5, candidates=5)])
def test_system_same_seed_same_units_whatever_happens_in_between(sampler: Sampler) -> None:
    model = random_model()
    once = ids_of(model, [[1], []], 3, sampler)
    again = []
    for unit in generate(model, [[1], []], sampler, eos_id=E, max_units=6, seed=3):
        again.append(unit.data)
        torch.manual_seed(len(again))  # somebody else's randomness
        torch.rand(5)
    assert torch.equal(once, torch.stack(again))
    assert not torch.equal(once, ids_of(model, [[1], []], 4, sampler))


@pytest.mark.parametrize("backbone", ["gru", "transformer"])
@FEW
@given(
    prompts=st.lists(st.lists(st.integers(0, 255), max_size=5), min_size=1, max_size=3),
    seed=st.integers(0, 2**31),
    elsewhere=st.integers(0, 2**31),
)
def test_system_same_seed_and_batch_same_units(
    backbone: str, prompts: list[list[int]], seed: int, elsewhere: int
) -> None:
    """Whatever torch's own state; and from the same model built twice."""
    made = []
    for state in (0, elsewhere):
        torch.manual_seed(7)
        model = random_model(backbone=backbone)
        torch.manual_seed(state)
        made.append(ids_of(model, prompts, seed, VoteSampler(temperature=0.5, candidates=4)))
    assert torch.equal(*made)


@FEW
@given(text=st.text(max_size=6), seed=st.integers(0, 2**31))
def test_system_same_seed_same_text(text: str, seed: int) -> None:
    torch.manual_seed(7)
    model = TextModel(random_model(chunk_size=3), BytesTokenizer(), DirectSampler())
    once = model.generate(text, max_tokens=9, seed=seed)
    torch.manual_seed(seed % 1000)  # somebody else's
    assert model.generate(text, max_tokens=9, seed=seed) == once
    assert "".join(model.stream(text, max_tokens=9, seed=seed)) == once


def test_a_seed_of_each_row_gives_it_the_random_numbers_that_it_has_alone() -> None:
    def rests(rows: int, **settings: object) -> list[list[float]]:
        """Of each row, what each of its draws has beyond the ids."""
        model, _, head = scripted_model(lambda row, unit, draw: [1], 1)
        prompts = [[row] for row in range(rows)]
        list(generate(model, prompts, DirectSampler(), eos_id=E, max_units=3, **settings))
        found: list[list[float]] = [[] for _ in range(rows)]
        for asked, said in zip(head.asked, head.said, strict=True):
            for place, row in enumerate(asked):
                found[row].append(float(said[0, place, 0]) - 1)
        return found

    (first,), (second,) = rests(1, seed=8), rests(1, seed=9)
    assert rests(3, seeds=[8, 9, 8]) == [first, second, first]
    assert len({*first, *second}) == 6
    assert rests(2, seed=8)[1] not in (first, second)  # one stream for both
    with pytest.raises(ValueError, match="there are 1 seeds for 2 rows"):
        rests(2, seeds=[8])


def test_nobody_else_s_randomness_is_touched() -> None:
    model = random_model()
    torch.manual_seed(11)
    expected = torch.stack([torch.rand(()) for _ in range(8)])
    torch.manual_seed(11)
    seen = [torch.rand(())]
    for _ in generate(model, [[1, 2, 3], [4]], DirectSampler(), eos_id=E, max_units=6, seed=3):
        seen.append(torch.rand(()))
    seen.append(torch.rand(()))
    assert len(seen) > 3
    assert torch.equal(torch.stack(seen), expected[: len(seen)])


def test_randomness_goes_on_from_unit_to_unit() -> None:
    model, _, head = scripted_model(lambda row, unit, draw: [1], 1)
    list(generate(model, [[1], [2]], DirectSampler(), eos_id=E, max_units=5))
    rests = torch.cat([said.flatten() for said in head.said]) - 1
    assert len(rests.unique()) == 10


class Hearing(GenerativeHead):
    """Remembers its conditions; says 7s."""

    info = HeadInfo(sampling="one_step", events=frozenset({"tokens"}))

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Tensor] = []

    def loss(self, context: Context, target: Posterior) -> Tensor:
        raise NotImplementedError

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        self.heard.append(context.h)
        return torch.full((num, *context.h.shape[:-1], 2), 7)


@pytest.mark.parametrize("backbone", ["gru", "transformer"])
def test_system_a_row_is_conditioned_as_if_it_stood_alone_and_as_in_training(backbone: str) -> None:
    model = random_model(backbone=backbone)
    model.head = Hearing()
    prompts = [[], [1, 2, 3], [4], [5, 6, 7, 8, 9, 10]]

    def conditions(prompts: list[list[int]]) -> Tensor:
        model.head.heard.clear()
        list(generate(model, prompts, DirectSampler(), eos_id=E, max_units=4))
        return torch.stack(model.head.heard, 1)  # [B, units, H]

    together = conditions(prompts)
    for row, prompt in enumerate(prompts):
        alone = conditions([prompt])
        assert torch.allclose(together[row], alone[0])
        chunks, valid = prompt_chunks([prompt], 2, E)
        text = torch.cat([chunks, torch.full((1, 4, 2), 7)], 1)
        in_training = model.context(text, torch.ones(1, text.shape[1], dtype=torch.bool), text).h
        assert valid.all()
        assert torch.allclose(alone[0], in_training[0, -4:])


def test_a_text_ends_at_its_end_of_text_and_nothing_after_it_survives() -> None:
    texts = [[[1, 2, 3], [4, E, 5], [6, 6, 6]], [[7, 7, 7], [8, 8, 8], [E, 1, 2]]]
    model, _, head = scripted_model(lambda row, unit, draw: texts[row][unit], 3)
    units = list(generate(model, [[1, 1, 1], [2, 2, 2]], DirectSampler(), eos_id=E, max_units=9))
    assert [unit.data.tolist() for unit in units] == [
        [[1, 2, 3], [7, 7, 7]],
        [[4, E, E], [8, 8, 8]],
        [[E, E, E], [E, E, E]],
    ]
    assert [unit.ended.tolist() for unit in units] == [[False, False], [True, False], [True, True]]
    assert [unit.draws.tolist() for unit in units] == [[1, 1], [1, 1], [0, 1]]
    assert units[2].level.isnan().tolist() == [True, False]
    assert head.asked == [[0, 1], [0, 1], [1]]  # the ended row is not drawn again


def test_the_fill_of_a_new_document_does_not_end_it() -> None:
    script = [[E, E, 3], [E, 1, 2]]
    model, _, _ = scripted_model(lambda row, unit, draw: script[unit], 3)
    new = list(generate(model, [[]], DirectSampler(), eos_id=E, max_units=9))
    assert [unit.data.tolist() for unit in new] == [[[E, E, 3]], [[E, E, E]]]
    going_on = list(generate(model, [[5, 5]], DirectSampler(), eos_id=E, max_units=9))
    assert [unit.data.tolist() for unit in going_on] == [[[E, E, E]]]


class Third(Sampler):
    """Asks row 0 twice for two draws and takes its third, takes the first of all others."""

    options = SampleOptions()

    def choose(self, draw: Draw, rows: Tensor, generator: torch.Generator | None = None) -> Choice:
        first = draw(2, rows)
        ids, index = first[0].clone(), torch.zeros_like(rows)
        cost = torch.full_like(rows, 2)
        is_zero = rows == 0
        if bool(is_zero.any()):
            ids[is_zero] = draw(2, rows[is_zero])[0]
            index[is_zero], cost[is_zero] = 2, 4
        return Choice(ids, index, cost, torch.ones(len(rows)))


def test_the_value_behind_the_chosen_ids_is_fed_back() -> None:
    model, embedder, head = scripted_model(lambda row, unit, draw: [10 * row + unit, draw], 2)
    units = list(generate(model, [[1, 1], [2, 2], [3, 3]], Third(), eos_id=E, max_units=3))
    prompt = torch.tensor([[[1, 1]], [[2, 2]], [[3, 3]]])
    assert torch.equal(embedder.heard[0][1], prompt + 0.5)  # of a prompt, the posterior's mean
    for unit, (data, z), first, second in zip(
        units, embedder.heard[1:], head.said[0::2], head.said[1::2], strict=False
    ):
        assert torch.equal(data[:, 0], unit.data)
        assert torch.equal(z[0, 0], second[0, 0])  # draw 2 of row 0 is the first of its second call
        assert torch.equal(z[1:, 0], first[0, 1:])
        assert torch.equal(z.floor().long(), data)
        assert unit.draws.tolist() == [4, 2, 2]


def text_model(text: bytes, chunk_size: int = 1) -> TextModel:
    ids = [*text, *[E] * (chunk_size + 1)]
    model, _, _ = scripted_model(lambda row, unit, draw: ids[unit * chunk_size :][:chunk_size], chunk_size)
    return TextModel(model, BytesTokenizer(), DirectSampler())


def test_characters_are_said_when_they_are_complete() -> None:
    pieces = list(text_model("aé€😀b".encode()).stream("x"))
    assert pieces == ["a", "é", "€", "😀", "b"]
    assert list(text_model("aé".encode(), 2).stream("x")) == ["a", "é"]  # a + C3, then A9 and the end


def test_bytes_that_never_become_a_character_are_said_as_the_replacement_character() -> None:
    assert "".join(text_model(b"a\xe2\x82").stream("x")) == "a\ufffd"
    assert "".join(text_model(b"a\xe2\x82b").stream("x")) == "a\ufffdb"


@pytest.mark.parametrize("seed", range(5))
def test_a_stream_joined_is_the_text(seed: int) -> None:
    model = TextModel(random_model(chunk_size=3), BytesTokenizer(), DirectSampler())
    whole = model.generate("ab", max_tokens=20, seed=seed)
    assert "".join(model.stream("ab", max_tokens=20, seed=seed)) == whole
    units = generate(model.model, [list(b"ab")], DirectSampler(), eos_id=E, max_units=7, seed=seed)
    assert whole == BytesTokenizer().decode([token for unit in units for token in unit.data[0].tolist()])


def test_max_tokens_is_rounded_up_to_whole_units_and_must_be_positive() -> None:
    assert text_model(b"abcdefgh", 4).generate("x", max_tokens=5) == "abcdefgh"
    assert text_model(b"abcdefgh", 4).generate("x", max_tokens=4) == "abcd"
    with pytest.raises(ValueError, match="got 0"):
        text_model(b"a").generate("x", max_tokens=0)


@pytest.mark.parametrize("backbone", ["gru", "transformer"])
@pytest.mark.parametrize(
    "head", ["energy", "strata", "flow", "diffusion", "mixture", "regression", "local_ar"]
)
def test_every_head_writes_in_bf16_the_same_for_the_same_seed(head: str, backbone: str) -> None:
    model = model_of(head, backbone)
    sampler = VoteSampler(candidates=8)

    def written(precision: Precision) -> list[list[list[int]]]:
        units = generate(model, [[1, 2, 3], []], sampler, eos_id=E, max_units=4, seed=3, precision=precision)
        return [unit.data.tolist() for unit in units]

    torch.set_default_dtype(torch.float32)
    assert written("bf16") == written("bf16")
    assert written("auto") == written("32")
    plain = written("32")
    with torch.autocast("cpu", torch.bfloat16):
        assert written("32") == plain


def test_the_precision_of_a_text_is_that_of_its_steps_and_leaves_nothing_behind() -> None:
    seen: list[torch.dtype] = []

    class Watching(Sampler):
        options = SampleOptions()

        def choose(self, draw: Draw, rows: Tensor, generator: torch.Generator | None = None) -> Choice:
            seen.append((torch.ones(1, 1) @ torch.ones(1, 1)).dtype)
            return DirectSampler().choose(draw, rows)

    torch.set_default_dtype(torch.float32)
    model = TextModel(random_model().float(), BytesTokenizer(), Watching(), precision="bf16")
    for _ in model.stream("a", max_tokens=6):
        assert not torch.is_autocast_enabled("cpu")
    assert set(seen) == {torch.bfloat16}
    seen.clear()
    with torch.autocast("cpu", torch.bfloat16):
        TextModel(model.model, BytesTokenizer(), Watching(), precision="32").generate("a", max_tokens=2)
        assert set(seen) == {torch.float32}
