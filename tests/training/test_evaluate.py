"""Measuring a run again gives what it measured itself, and changes nothing."""

from __future__ import annotations

import csv
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_runs import SHORT, autoencoder_of, corpus, rows_of, small_run, workshop

from calmkit.data.cache import default_cache
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.parts import kind_of
from calmkit.registry import make_manager
from calmkit.text.prepare import prepare_data
from calmkit.training.errors import RunFailed
from calmkit.training.evaluate import evaluate, measure
from calmkit.training.groups import groups_file
from calmkit.training.progress import quiet_libraries
from calmkit.training.run import Run
from calmkit.training.trainer import interrupts, make_trainer

TIMED = ("tokens_per_second", "plain_tokens_per_second")


@pytest.fixture(autouse=True)
def float32() -> None:
    """As users have it; `conftest.py` puts the default back."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("evaluate")) as folder:
        yield folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return small_run(folder, "run", *SHORT[:2])


def test_a_second_measurement_is_the_first(run: Run) -> None:
    first = run.evaluation
    second = evaluate(run.folder)
    assert {name: value for name, value in second.items() if name not in TIMED} == {
        name: value for name, value in first.items() if name not in TIMED
    }
    assert json.loads((run.folder / "evaluation.json").read_text()) == second
    assert "untrained_brier_lm" in second


def test_another_way_of_measuring_leaves_out_what_it_did_not_measure(run: Run) -> None:
    more = evaluate(run.folder, ["evaluation.max_rows=9", "sampler=vote", "sampler.candidates=3"])
    assert (more["rows"], more["units"]) == (9, 9 * 8)
    assert more["draws_per_unit"] == 3
    assert not any(name.startswith("untrained_") for name in more)
    assert more["reconstruction_token_accuracy"] != run.evaluation["reconstruction_token_accuracy"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("evaluation.max_rows=2", "max_rows 2, not 6"),
        ("evaluation.draws=3", "draws 3, not 2"),
        ("data.sequence_length=16", "sequence_length 16, not 32"),
        ("sampler=vote", r"sampler vote\(.*\), not direct\(.*\)"),
        ("trainer.precision=bf16-mixed", "precision bf16-mixed, not 32-true"),
    ],
)
def test_every_protocol_has_a_file_of_its_own(run: Run, words: str, told: str) -> None:
    """One name, one protocol: all that the run measured of itself stays, whatever it is measured by later."""
    own = {path.name: path.read_bytes() for path in run.folder.iterdir() if path.is_file()}
    del own["run.sha256"]  # gains two lines
    notes: list[str] = []
    scores = evaluate(run.folder, [words], note=notes.append)
    now = {path.name: path.read_bytes() for path in run.folder.iterdir() if path.is_file()}
    assert {name: now[name] for name in own} == own  # evaluation.json, its documents, latents.json, ...
    name = scores["protocol"]["name"]
    assert json.loads(now[f"evaluation-{name}.json"]) == scores
    assert f"evaluation-{name}-documents.csv" in now
    path = run.folder / f"evaluation-{name}.json"
    assert re.fullmatch(f"written to {path}: protocol {name}, not the run's own \\({told}\\)", notes[0])


def test_what_changes_no_number_s_meaning_is_the_same_protocol(run: Run) -> None:
    before = run.evaluation["protocol"]
    notes: list[str] = []
    evaluate(run.folder, ["evaluation.batch_size=2", "evaluation.sample_tokens=9"], note=notes.append)
    assert run.evaluation["protocol"] == before
    path = run.folder / "evaluation.json"
    assert notes == [f"written to {path}: protocol {before['name']}, the run's own"]
    evaluate(run.folder)


def test_a_text_that_has_changed_since_is_another_protocol(folder: Path) -> None:
    """The recipe names the same file, and the lock knows that it held something else."""
    (folder / "changing.jsonl").write_text((folder / "corpus.jsonl").read_text())
    run = small_run(folder, "changed", *SHORT, f"data.train={folder / 'changing.jsonl'}")
    kept = (run.folder / "evaluation.json").read_bytes()
    (folder / "changing.jsonl").write_text(corpus(90))
    notes: list[str] = []
    evaluate(run.folder, note=notes.append)
    assert (run.folder / "evaluation.json").read_bytes() == kept
    assert notes[0].endswith("not the run's own (other data)")


def test_what_an_autoencoder_gives_back_is_measured_on_the_rows_of_the_evaluation(
    run: Run, folder: Path
) -> None:
    """Not taken over from the run that it came from, which measured it on other rows."""
    taken = small_run(
        folder, "taken", *SHORT, f"stages.autoencoder.init_from={run.folder}", "evaluation.max_rows=2"
    )
    theirs, found = run.facts["reconstruction"], taken.evaluation
    assert found["reconstruction_token_accuracy"] != theirs["token_accuracy"]
    alone = evaluate(run.folder, ["evaluation.max_rows=2"])
    assert found["reconstruction_token_accuracy"] == alone["reconstruction_token_accuracy"]


def test_other_data_gets_a_file_of_its_own(run: Run, folder: Path) -> None:
    """Nothing that the run measured is lost, and nothing of it is told as if of the other text."""
    kept = (run.folder / "evaluation.json").read_bytes()
    lines = [json.dumps({"text": f"zyx wvu tsr {number} " * 20}) + "\n" for number in range(40)]
    (folder / "other.jsonl").write_text("".join(lines))
    other = ["data=text", f"data.train={folder / 'other.jsonl'}", "data.valid_fraction=0.5"]
    before = set(run.folder.glob("evaluation-*.json"))
    notes: list[str] = []
    scores = evaluate(run.folder, other, note=notes.append)
    assert (run.folder / "evaluation.json").read_bytes() == kept
    (path,) = set(run.folder.glob("evaluation-*.json")) - before
    name = scores["protocol"]["name"]
    assert notes == [f"written to {path}: protocol {name}, not the run's own (other data)"]
    assert json.loads(path.read_text()) == scores
    assert not any(name.startswith("untrained_") for name in scores)
    assert scores["loss"] != run.evaluation["loss"]
    own = run.evaluation["reconstruction_token_accuracy"]
    assert own == run.facts["reconstruction"]["token_accuracy"] != scores["reconstruction_token_accuracy"]
    evaluate(run.folder, [*other, "data.sequence_length=16"])
    assert len(set(run.folder.glob("evaluation-*.json")) - before) == 2


def test_the_table_by_document_adds_up_to_the_scores(run: Run) -> None:
    """Sums of all documents over all positions are the means of the evaluation; no document stands twice."""
    scores = evaluate(run.folder)
    with groups_file(run.folder / "evaluation.json", "document").open(newline="") as file:
        lines = list(csv.DictReader(file))
    numbers = [line["document"] for line in lines]
    assert len(set(numbers)) == len(numbers) == scores["documents"] > 1
    positions = sum(float(line["positions"]) for line in lines)
    assert positions == scores["units"]
    for name in ("accuracy_1", "accuracy_4", "collision_1"):
        total = sum(float(line[name]) for line in lines)
        assert total / positions == pytest.approx(scores[name], abs=1e-8)


def test_how_much_text_stood_before_a_position_by_hand(run: Run) -> None:
    """Rows of 32 tokens in chunks of 4, all 8 units scored: 0, 4, ..., 28 before them, 14 on average."""
    scores = evaluate(run.folder)
    assert (scores["block_tokens"], scores["context_tokens"]) == (32, 14)


def test_a_run_with_latents_says_what_they_are_like(run: Run) -> None:
    before = run.latents
    assert before["token_accuracy"] == pytest.approx(run.facts["reconstruction"]["token_accuracy"], abs=0.2)
    (run.folder / "latents.json").unlink()
    evaluate(run.folder)
    assert run.latents == before


def test_measuring_touches_neither_randomness_nor_weights(run: Run) -> None:
    quiet_libraries()
    recipe, text_model = run.recipe(), run.load()
    data = _data(run)
    weights = [p.clone() for p in text_model.model.parameters()]
    before = torch.get_rng_state()
    manager, prepared = make_manager(), _prepared(run)
    asked = (recipe, kind_of(recipe, manager), manager, prepared, text_model.model, data)
    first = measure(*asked, "x").scores
    assert torch.equal(torch.get_rng_state(), before)
    assert measure(*asked, "y").scores == first
    assert all(torch.equal(a, b) for a, b in zip(weights, text_model.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("words", "told"),
    [("trainer.accelerator=abacus", "accelerator=abacus"), ("trainer.strategy=x", "strategy=x")],
)
def test_a_trainer_that_cannot_be_is_refused(run: Run, words: str, told: str) -> None:
    with pytest.raises(RunFailed, match=f"Lightning refuses the section trainer .*{told}"):
        make_trainer(run.recipe(None, [words]))


def test_devices_are_looked_for_before_a_document_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*given: object) -> None:
        raise AssertionError("a document was read")

    monkeypatch.setattr("calmkit.text.prepare.prepare_data", read)
    with pytest.raises(RecipeError, match=r"CK150.*trainer\.devices=99999 would start"):
        evaluate(run.folder, ["trainer.devices=99999"])


def test_an_interrupt_stays_one() -> None:
    before = signal.getsignal(signal.SIGINT)

    @interrupts()
    def as_lightning_does() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise SystemExit(1)

    with pytest.raises(KeyboardInterrupt):
        as_lightning_does()
    assert signal.getsignal(signal.SIGINT) is before


def _prepared(run: Run):
    recipe, manager = run.recipe(), make_manager()
    corpus = manager.build("corpora", recipe.data.part.name, recipe.data.part.options)
    return prepare_data(corpus, manager.build("tokenizers", "bytes", {}), default_cache())


def _data(run: Run):
    return rows_of(run.recipe(), _prepared(run), autoencoder_of(run.recipe()), 1, 6)
