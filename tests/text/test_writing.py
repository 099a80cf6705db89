"""What a task wishes of a continuation, and that it is so: ends, lengths, temperatures, what is left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.backbones.gru import GRUBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.heads.energy import EnergyHead
from calmkit.heads.local_ar import LocalARHead
from calmkit.heads.mixture import MixtureHead
from calmkit.interfaces import EventSpec, Tokenizer
from calmkit.model import CalmModel
from calmkit.recipe.schema import PartSpec
from calmkit.registry import make_manager
from calmkit.samplers.direct import DirectSampler
from calmkit.samplers.greedy import GreedySampler
from calmkit.samplers.rejection import RejectionSampler
from calmkit.samplers.vote import VoteSampler
from calmkit.text.generation import TextModel
from calmkit.text.text_likelihood import TextLikelihood
from calmkit.text.tokenizers.bytes import BytesTokenizer
from calmkit.text.tokenizers.ids import IdsTokenizer
from calmkit.text.wishes import SHARPEST, Wish, cut, read_wish, sampler_settings
from calmkit.text.writing import Writer


@pytest.mark.parametrize(
    ("settings", "wish", "unknown"),
    [
        ({}, Wish(), []),
        ({"until": "\n", "max_gen_toks": 7}, Wish(("\n",), 7), []),
        ({"until": ["a", "bc"], "max_new_tokens": 9, "max_gen_toks": 7}, Wish(("a", "bc"), 7), []),
        ({"until": None, "do_sample": False, "temperature": 0.7}, Wish((), 256, 0.0), []),
        ({"temperature": 0}, Wish((), 256, 0.0), []),
        ({"temperature": "0.5", "do_sample": True}, Wish((), 256, 0.5), []),
        ({"temperature": 0, "do_sample": True}, Wish(), []),
        ({"top_p": 0.9, "num_beams": 4, "do_sample": True}, Wish(), ["num_beams", "top_p"]),
    ],
)
def test_settings_of_a_task_are_a_wish_and_what_is_not_honoured(
    settings: dict[str, Any], wish: Wish, unknown: list[str]
) -> None:
    assert read_wish(settings) == (wish, unknown)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"until": ["a", ""]}, r"until must be texts that are not empty, got \['a', ''\]"),
        ({"max_gen_toks": 0}, "max_gen_toks must be at least 1, got 0"),
        ({"temperature": -1}, "temperature must be at least 0, got -1"),
        ({"temperature": float("nan")}, "temperature must be at least 0, got nan"),
    ],
)
def test_a_wish_without_sense_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_wish(settings)


def test_a_text_ends_before_the_first_stop_string() -> None:
    assert cut("one two. three", [".", " t"]) == ("one", True)
    assert cut("one two. three", ["."]) == ("one two", True)
    assert cut("one", ["x"]) == ("one", False)
    assert cut("one", []) == ("one", False)
    assert cut(".one", ["."]) == ("", True)


def test_a_temperature_goes_to_the_logits_or_to_a_sampler_of_draws() -> None:
    local, energy, mixture = LocalARHead.info, EnergyHead.info, MixtureHead.info
    assert sampler_settings(0.7, local, "direct", {}) == [("direct", {"head_temperature": 0.7})]
    assert sampler_settings(0.0, local, "vote", {"candidates": 9}) == [
        ("direct", {"head_temperature": SHARPEST})
    ]
    assert sampler_settings(0.0, energy, "direct", {}) == [("greedy", {})]
    assert sampler_settings(1.0, mixture, "direct", {"head_temperature": 0.5}) == [("direct", {})]
    assert sampler_settings(0.5, energy, "vote", {"candidates": 9}) == [
        ("vote", {"candidates": 9, "temperature": 0.5}),
        ("vote", {"temperature": 0.5}),
        ("rejection", {"temperature": 0.5}),
    ]


IDS = IdsTokenizer(size=257, eos=256)
"""Every token is a word, so none is lost between ids and text."""


def repeating(chunk_size: int = 2) -> CalmModel:
    """Random weights under a seed."""
    torch.manual_seed(3)
    autoencoder = TokenChunks(257, chunk_size=chunk_size)
    embedder = TokensEmbedder(8, autoencoder.event, chunk_size, 257)
    head = LocalARHead(8, autoencoder.event, depth=1, heads=1)
    model = CalmModel(autoencoder, embedder, GRUBackbone(hidden_dim=8, depth=1), head).eval()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.5 * torch.randn_like(p)
        head.to_logits.weight[128:] -= 9 * head.to_logits.weight[128:].sign()  # rarely anything but ASCII
    return model


def writer(
    model: CalmModel | None = None,
    sampler: str = "direct",
    row: int = 64,
    tokenizer: Tokenizer | None = None,
    said: list[str] | None = None,
    **settings: Any,
) -> Writer:
    part = make_manager([]).build("samplers", sampler, {})
    text = TextModel(model or repeating(), tokenizer or BytesTokenizer(), part)
    note = [].append if said is None else said.append
    return Writer(text, PartSpec(sampler), row, make_manager([]), note=note, **settings)


def test_what_is_written_is_what_generate_writes_up_to_the_stop_string() -> None:
    made = writer()
    whole = made.text.generate("abc", max_tokens=20, seed=0)
    assert len(whole.encode()) >= 12
    (found,) = writer(batch_size=1).write([("abc", {"max_gen_toks": 20})])
    assert found == whole
    stop = whole[6:8]
    (found,) = writer(batch_size=1).write([("abc", {"max_gen_toks": 20, "until": ["\x00\x00", stop]})])
    assert found == whole[: whole.find(stop)]


def test_a_length_is_kept_to_the_token_within_a_chunk() -> None:
    made = writer(repeating(chunk_size=4), tokenizer=IDS)
    found = made.write([("1 2", {"max_gen_toks": length, "temperature": 0}) for length in (1, 5, 8)])
    assert found[2].startswith(found[1])
    assert found[1].startswith(found[0])
    assert [len(text.split()) for text in found] == [1, 5, 8]


def test_temperature_0_over_logits_writes_the_likeliest_tokens() -> None:
    model = repeating()
    (found,) = writer(model, tokenizer=IDS).write([("1 2 3 ", {"do_sample": False, "max_gen_toks": 5})])
    likelihood = TextLikelihood(TextModel(model, IDS, DirectSampler()), 64)
    assert likelihood.behind([("1 2 3 ", found)])[0].greedy is True
    *words, last = found.split()
    other = " ".join([*words, str((int(last) + 1) % 256)])
    assert likelihood.behind([("1 2 3 ", other)])[0].greedy is False


def test_prompts_of_any_length_are_answered_in_their_order() -> None:
    prompts = ["a", "abcde", "", "xyz"]
    asked = [(prompt, {"temperature": 0, "max_gen_toks": 4 + i % 2}) for i, prompt in enumerate(prompts)]
    together = writer(batch_size=4).write(asked)
    assert together == [writer(batch_size=1).write([one])[0] for one in asked]
    assert len(set(together)) > 1


def test_the_same_seed_writes_the_same_and_equal_prompts_of_later_batches_differ() -> None:
    asked = [("abc", {"max_gen_toks": 12})] * 2
    first = writer(batch_size=1, seed=4).write(asked)
    assert first == writer(batch_size=1, seed=4).write(asked)
    assert first[0] != first[1]  # so that repeats of a task are draws of their own


def notes(**settings: Any) -> tuple[Writer, list[str]]:
    said: list[str] = []
    return writer(said=said, **settings), said


def test_each_thing_that_is_left_out_is_said_once() -> None:
    made, said = notes()
    made.write([("abc", {"top_k": 3, "max_gen_toks": 2, "temperature": 0.5})] * 3)
    assert said == [
        "left out of the task's generation_kwargs, for no sampler has them: top_k",
        "temperature 0.5 of the task: sampler direct with head_temperature=0.5",
    ]


def test_a_sampler_that_was_asked_for_stays() -> None:
    made, said = notes(keep_sampler=True, sampler="vote")
    assert made.sampler(0.0) is made.text.sampler
    assert said == [
        "temperature 0 of the task is left out: the run's sampler 'vote' writes as it is, as was asked"
    ]
    assert made.sampler(None) is made.text.sampler


@pytest.mark.parametrize(
    ("temperature", "kind"),
    [(0.0, GreedySampler), (0.5, VoteSampler), (0.4, RejectionSampler), (1.0, DirectSampler), (1.5, None)],
)
def test_draws_alone_reach_what_their_samplers_take(temperature: float, kind: type | None) -> None:
    made, said = notes()
    object.__setattr__(made.text.model, "_modules", {**made.text.model._modules, "head": _draws_alone()})
    sampler = made.sampler(temperature)
    if kind is None:
        assert sampler is made.text.sampler
        assert said == [
            "temperature 1.5 of the task is left out: no sampler reaches it, the run's sampler 'direct' "
            "writes as it is"
        ]
    else:
        assert isinstance(sampler, kind)
        assert said[0].startswith(f"temperature {temperature:g} of the task: sampler ")


def _draws_alone() -> EnergyHead:
    return EnergyHead(8, EventSpec((2,)))


def test_a_long_prompt_is_read_from_its_end() -> None:
    made, said = notes(row=16)
    long, short = "x" * 40 + "abcdefgh", "abcdefgh"
    settings = {"temperature": 0, "max_gen_toks": 8}
    one, other = made.write([(long, settings), (short, settings)])
    assert one == other
    assert said[0].startswith(
        "prompts of more than 8 tokens are read from their ends: a row of training has 16"
    )


def test_a_verb_without_the_library_says_what_to_install(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from click.testing import CliRunner

    from calmkit.cli.main import cli

    (tmp_path / "resolved.yaml").write_text("calmkit: 1\n")
    monkeypatch.delitem(sys.modules, "calmkit.text.interop.lm_eval", raising=False)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    done = CliRunner().invoke(cli, ["lm-eval", str(tmp_path), "--tasks", "any"])
    assert done.exit_code == 1
    assert "the package 'lm_eval" in done.output
    assert "pip install 'calmkit[lm-eval]' brings lm-eval" in done.output
