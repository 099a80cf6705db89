"""Several texts for several prompts: each of its own random numbers, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from test_generation import random_model

from calmkit.generation import Unit
from calmkit.interfaces import DataError, GenerationAsked, Sampler, Tokenizer
from calmkit.samplers.direct import DirectSampler
from calmkit.samplers.vote import VoteSampler
from calmkit.text.continuations import Continuation, continuations
from calmkit.text.generation import TextModel
from calmkit.text.kind import Text
from calmkit.text.spoken import Spoken
from calmkit.text.tokenizers.bytes import BytesTokenizer
from calmkit.text.tokenizers.ids import IdsTokenizer
from calmkit.text.told import as_people_read, as_records

E = 256  # end-of-text of the bytes tokenizer


@dataclass
class Written:
    """A writer that has written: row i of a batch says the ids of its prompt's first letter."""

    scripts: dict[str, list[list[int]]]
    asked: list[tuple[list[list[int]], list[int], int]] = field(default_factory=list)

    def units(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        seeds: Sequence[int],
        sampler: Sampler | None = None,
    ) -> Iterator[Unit]:
        del sampler
        self.asked.append(([list(ids) for ids in prompts], list(seeds), max_tokens))
        rows = [self.scripts[bytes(ids[:1]).decode()] for ids in prompts]
        for step in range(max(len(row) for row in rows)):
            data = torch.tensor([row[step] if step < len(row) else [E, E] for row in rows])
            ended = torch.tensor([any(E in ids for ids in row[: step + 1]) for row in rows])
            yield Unit(data, ended, torch.ones(len(rows), dtype=torch.long), torch.ones(len(rows)))


def two(text: bytes) -> list[list[int]]:
    return [list(text[place : place + 2]) for place in range(0, len(text), 2)]


WRITTEN = {
    "a": [*two(b"bc"), [ord("d"), E]],
    "x": two("y\u20acz!".encode()),
    "u": two(b"v\xe2\x82w\xe2\x82"),
}


def writer_of(written: Written | None = None, tokenizer: Tokenizer | None = None) -> TextModel:
    """A model whose units are written already."""
    writer = TextModel(random_model(), tokenizer or BytesTokenizer(), DirectSampler())
    writer.units = (written or Written(WRITTEN)).units  # type: ignore[method-assign]
    return writer


def drawn(prompts: Sequence[str], **settings: int) -> list[Continuation]:
    return [*continuations(writer_of(), prompts, **settings)]


def test_what_is_told_of_a_continuation_by_hand() -> None:
    ended, cut, broken = drawn(["a", "x", "u"], seed=4)
    assert (ended.chunks, ended.text) == (("bc", "d"), "bcd")
    assert (ended.tokens, ended.stopped, ended.index, ended.seed) == (3, "eos", 0, 4)
    assert cut.chunks == ("y", "\u20ac", "z!")  # the euro is E2 82 AC: it begins in the first unit
    assert (cut.tokens, cut.stopped) == (6, "length")
    assert broken.chunks == ("v", "\ufffdw", "\ufffd")  # E2 82 never becomes a character
    assert 0 < ended.seconds < 60


def test_rows_come_in_order_in_batches_each_with_its_seed() -> None:
    written = Written(WRITTEN)
    found = [
        *continuations(writer_of(written), ["a", "x"], num=3, seed=7, batch_size=4, max_tokens=9),
    ]
    told = [(one.prompt, one.index, one.seed) for one in found]
    assert told == [("a", 0, 7), ("a", 1, 8), ("a", 2, 9), ("x", 0, 7), ("x", 1, 8), ("x", 2, 9)]
    a, x = [97], [120]
    assert written.asked == [([a, a, a, x], [7, 8, 9, 7], 9), ([x, x], [8, 9], 9)]


@pytest.mark.parametrize("sampler", [DirectSampler(), VoteSampler(temperature=0.5, candidates=4)])
@pytest.mark.parametrize("backbone", ["gru", "transformer"])
def test_system_a_continuation_is_that_of_its_prompt_and_seed_alone(backbone: str, sampler: Sampler) -> None:
    """Whatever stands beside it, and however many rows are drawn together."""
    torch.manual_seed(7)
    model = random_model(chunk_size=2, backbone=backbone)
    for parameter in model.parameters():  # as after training: a prompt matters
        torch.nn.init.normal_(parameter, std=0.5)
    writer = TextModel(model, BytesTokenizer(), sampler)
    prompts = ["", "the cat", "a \u20ac"]
    alone = [writer.generate(prompt, max_tokens=10, seed=seed) for prompt in prompts for seed in (5, 6, 7)]
    assert len(set(alone)) > 6
    for batch_size in (1, 2, 4, 9):
        found = continuations(writer, prompts, num=3, max_tokens=10, seed=5, batch_size=batch_size)
        assert [one.text for one in found] == alone
    torch.manual_seed(1)  # somebody else's
    found = [one.text for one in continuations(writer, prompts[::-1], num=2, max_tokens=10, seed=6)]
    assert found == [alone[7], alone[8], alone[4], alone[5], alone[1], alone[2]]


def test_a_prompt_that_the_tokenizer_refuses_is_named_before_anything_is_drawn() -> None:
    written = Written(WRITTEN)
    writer = writer_of(written, IdsTokenizer(size=9, eos=0))
    with pytest.raises(DataError, match=r"^prompt 2 of 2: the tokenizer 'ids' reads numbers below 9"):
        next(continuations(writer, ["1 2", "word"]))
    with pytest.raises(DataError, match=r"^the tokenizer 'ids'"):
        next(continuations(writer, ["word"]))
    assert written.asked == []


@pytest.mark.parametrize("settings", [{"num": 0}, {"batch_size": 0}])
def test_no_row_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one row can be drawn"):
        drawn(["a"], **settings)


@pytest.mark.parametrize("text", ["a\u20ac\U0001f600b", "\ufffda", "", "\ufffd"])
def test_pieces_of_bytes_joined_are_the_text_and_no_piece_is_half_a_character(text: str) -> None:
    for size in (1, 2, 3):
        spoken, content = Spoken(BytesTokenizer(), list(b"x\xe2\x82\xac")), text.encode()
        pieces = [spoken.more(list(content[at : at + size])) for at in range(0, len(content), size)]
        assert "".join(pieces) + spoken.rest() == text
        if "\ufffd" not in text:
            assert "\ufffd" not in "".join(pieces)


def test_records_hold_what_was_asked_and_nothing_that_was_not() -> None:
    notes: list[str] = []
    asked = GenerationAsked(("x", "a"), length=6, seed=2, num=1, json=True)
    first, second = as_records(writer_of(), asked, notes.append)
    seconds = first.pop("seconds")
    assert 0 < seconds < 60
    assert first == {
        "prompt": "x",
        "text": "y\u20acz!",
        "index": 0,
        "seed": 2,
        "tokens": 6,
        "units": 3,
        "stopped": "length",
        "settings": {"length": 6, "batch_size": 16},
    }
    assert (second["text"], second["units"], second["stopped"]) == ("bcd", 2, "eos")
    shown = GenerationAsked(("x",), show_units=True, json=True)
    (record,) = as_records(writer_of(), shown, notes.append)
    assert record["chunks"] == ["y", "\u20ac", "z!"]
    assert notes == []


def test_several_continuations_stand_under_lines_of_their_own() -> None:
    asked = GenerationAsked(("a", "x" * 61), num=2, show_units=True)
    told = "".join(as_people_read(writer_of(), asked, print))
    assert told == "\n".join(
        [
            '--- "a" (1 of 2)',
            "bc|d",
            '--- "a" (2 of 2)',
            "bc|d",
            f'--- "{"x" * 60}..." (1 of 2)',
            "y|\u20ac|z!",
            f'--- "{"x" * 60}..." (2 of 2)',
            "y|\u20ac|z!",
        ]
    )


def test_one_continuation_is_said_unit_by_unit_with_borders_where_they_are_asked_for() -> None:
    writer = writer_of()
    said = [*Text().generate(writer, GenerationAsked(("x",), show_units=True), print)]
    assert said == ["y", "|\u20ac", "|z!"]
    assert [*Text().generate(writer, GenerationAsked(("x",)), print)] == ["y", "\u20ac", "z!"]
    assert [*Text().generate(writer, GenerationAsked(("x",), stream=False), print)] == ["y\u20acz!"]
    assert [*Text().generate(writer, GenerationAsked(("u",), show_units=True), print)] == [
        "v",
        "|\ufffdw",
        "|",
        "\ufffd",
    ]
