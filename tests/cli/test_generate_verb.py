"""`calmkit generate` on a run of text: who is asked for what, and what stands where."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from small_runs import SHORT, small_run, workshop

from calmkit.cli.main import cli
from calmkit.text.generation import TextModel
from calmkit.training.run import load_run

QUICK = ("--device", "cpu", "--max-tokens", "8")
PROMPTS = ["the cat", "", "a caf\u00e9 \u20ac", "the hen sat on a red mat and saw the cat run to it"]
"""Of a length that is no multiple of four, none, of several bytes a character, longer than a row."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("generate")) as folder:
        small_run(folder, "run", *SHORT, "sampler={name: vote, temperature: 0.5, candidates: 4}")
        yield folder


@pytest.fixture(scope="module")
def front(shop: Path) -> TextModel:
    return load_run(shop / "run", device="cpu")


def run(*words: str, stdin: str | bytes | None = None, quick: tuple[str, ...] = QUICK) -> Result:
    return CliRunner().invoke(cli, ["generate", "run", *words, *quick], input=stdin)


def records(*words: str, **settings: Any) -> list[dict[str, Any]]:
    done = run(*words, "--json", **settings)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(done: Result, said: str) -> None:
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_json_is_an_object_a_line_and_notes_stand_elsewhere(shop: Path) -> None:
    done = run("the cat", "a", "-n", "2", "--json", "--seed", "3")
    assert done.exit_code == 0
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["prompt"], one["index"], one["seed"]) for one in found] == [
        ("the cat", 0, 3),
        ("the cat", 1, 4),
        ("a", 0, 3),
        ("a", 1, 4),
    ]
    assert done.stderr.startswith("sampler: ")
    first = found[0]
    assert set(first) == {
        *("prompt", "text", "index", "seed", "tokens", "units", "seconds", "stopped", "settings"),
    }
    assert first["settings"].pop("sampler").items() >= {"name": "vote", "candidates": 4}.items()
    assert first["settings"] == {
        "run": "run",
        "device": "cpu",
        "precision": "auto",
        "length": 8,
        "batch_size": 16,
    }
    assert first["stopped"] == "eos" or (first["units"], first["tokens"]) == (2, 8)


def test_a_text_is_that_of_its_prompt_and_seed_whatever_it_is_drawn_with(front: TextModel) -> None:
    alone = [[front.generate(prompt, max_tokens=8, seed=5 + i) for i in range(2)] for prompt in PROMPTS]
    for size in ("1", "3"):
        found = records(*PROMPTS, "-n", "2", "--seed", "5", "--batch-size", size)
        assert [one["text"] for one in found] == [text for texts in alone for text in texts]
        again = run("-p", found[3]["prompt"], "--seed", str(found[3]["seed"]))
        assert again.stdout == alone[1][1] + "\n"


def test_chunks_are_what_each_step_made(shop: Path) -> None:
    (record,) = records("the cat", "--show-chunks")
    assert "".join(record["chunks"]) == record["text"]
    assert len(record["chunks"]) == record["units"] == 2
    for words in (["--show-chunks"], ["--show-units"], ["--show-chunks", "--no-stream"]):
        assert run("the cat", *words).stdout == "|".join(record["chunks"]) + "\n"
    told = run("the cat", "-n", "2", "--show-chunks").stdout.splitlines()
    assert told[:2] == ['--- "the cat" (1 of 2)', "|".join(record["chunks"])]


def test_prompts_come_by_standard_input_where_none_is_given_and_nobody_types(shop: Path) -> None:
    lines = "".join(f"{prompt}\n" for prompt in PROMPTS)
    assert [one["prompt"] for one in records(stdin=lines)] == PROMPTS
    assert [one["prompt"] for one in records("a", "-", "b", stdin="x\ny")] == ["a", "x", "y", "b"]
    assert [one["prompt"] for one in records("a", stdin="never read")] == ["a"]
    assert [one["prompt"] for one in records(stdin="")] == [""]  # nothing stands before
    refused(run("-", stdin=""), "standard input holds no prompt; write one a line, or leave out -")
    refused(run(stdin=b"a\nb\xff\n"), "standard input:2 is not UTF-8: byte 0xff at its place 2")


def test_prompts_come_by_file(shop: Path) -> None:
    (shop / "prompts.jsonl").write_text('{"prompt": "the"}\n{"text": "a\\nb"}\n')
    found = records("-p", "x=1", "--prompts", "prompts.jsonl", "-p", "-n 3")
    assert [one["prompt"] for one in found] == ["x=1", "-n 3", "the", "a\nb"]
    refused(run("--prompts", "nowhere.txt"), "error: --prompts: nowhere.txt cannot be read (No such file")
    (shop / "bad.jsonl").write_text('{"prompt": "the"}\nthe\n{"prompt": "\\ud800"}\n')
    refused(run("--prompts", "bad.jsonl"), "bad.jsonl:2 is not JSON")
    (shop / "half.jsonl").write_text('{"prompt": "the"}\n{"prompt": "\\ud800"}\n')
    refused(run("--prompts", "half.jsonl"), "prompt 2 of 2: character 0 of the text is U+D800")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x=1"], "overrides of sampler, order only, got 'x=1'; -p takes any text as a prompt"),
        (["a", "--out", "a.txt"], "--out means nothing for text; --prompt, more than one prompt, --length,"),
        (["--condition", "label=3"], "--condition means nothing for text"),
        (["-i", "a"], "--interactive asks for prompts itself; leave out a prompt"),
        (["-i", "--json", "--prompts", "x"], "leave out a prompt, --json"),
        (["-i"], "--interactive needs a terminal; without it prompts are read from standard input"),
        (["a", "-n", "0"], "0 is not in the range x>=1"),
        (["a", "--seed", str(2**63)], "is not in the range"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_a_weight_is_read(
    shop: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.delattr("calmkit.training.run.load_run")
    refused(run(*words), said)


def test_a_talk_changes_the_sampler_and_goes_on_after_a_mistake(
    shop: Path, front: TextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, other = (
        ["/temperature 0.7", "/set head=flow"],
        ["/set sampler=direct", "/set sampler.candidates=3"],
    )
    lines = iter(["the cat", *wrong, *other, "the cat", "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    monkeypatch.setattr("calmkit.cli.prompts.piped", lambda: False)
    done = run("-i", "--seed", "2")
    assert done.exit_code == 0, done.output
    voted = front.generate("the cat", max_tokens=8, seed=2)
    alone = load_run(shop / "run", overrides=["sampler=direct"], device="cpu")
    direct = alone.generate("the cat", max_tokens=8, seed=2)
    assert done.stdout == f"{voted}\n{direct}\n"
    assert "1 / temperature must be a whole number, got temperature=0.7" in done.stderr
    assert "a trained run takes overrides of sampler only, got 'head=flow'" in done.stderr
    assert "unknown key 'candidates' of sampler 'direct'" in done.stderr
    assert done.stderr.count("4.0 draws each") == 1  # of the first answer


def test_who_stops_reading_hears_nothing_more(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*said: object, **how: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("click.echo", closed)
    done = run("the cat", "a", "--json")
    assert (done.exit_code, done.output) == (1, "")
