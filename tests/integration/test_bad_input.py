"""Bad input through the command line: one clear error with its exit code, and what was trained kept."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from small_runs import SHORT, corpus, workshop
from torch import Tensor

from calmkit.cli.main import cli
from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import Context, GenerativeHead, HeadInfo, Posterior, SampleOptions
from calmkit.registry import Manager, Part, make_manager
from calmkit.training.metrics_file import MetricsFile
from calmkit.training.run import Run
from calmkit.training.snapshots import Snapshot, newest_snapshot, stage_folder
from calmkit.training.state import weights_are_finite


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    with workshop(tmp_path):
        yield tmp_path


def calm(*words: str) -> Result:
    result = CliRunner().invoke(cli, ["train", "small.yaml", "--out", "run", *SHORT, *words])
    assert "Traceback" not in result.output
    return result


def refused(code: int, *words: str) -> str:
    """What `calmkit train` says on standard error; it must be one error, and end with this code."""
    result = calm(*words)
    assert result.exit_code == code, result.output
    assert sum(line.startswith("error") for line in result.stderr.splitlines()) == 1, result.stderr
    assert "internal" not in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", ["the train split", "is empty", "data"]),
        (b'{"text": "  "}\n{"text": ""}\n', ["empty", "data"]),
        (
            b'{"text": "one"}\n{"text": "two"}\n',
            ["fewer than one sequence of 32", "give more text"],
        ),
        (
            b'{"text": "%b"}\n{"text": "two"}\n' % (b"a" * 40),
            ["fewer than one step of 8", "batch_size"],
        ),
        (b'{"text": "caf\xe9"}\n', ["corpus.jsonl", "UTF-8"]),
        (b'{"words": "a"}\n', ["corpus.jsonl", "text"]),
    ],
)
def test_a_corpus_that_cannot_be_used(folder: Path, content: bytes, told: list[str]) -> None:
    (folder / "corpus.jsonl").write_bytes(content)
    said = refused(2)
    assert all(word in said for word in told), said
    assert not (folder / "run").exists()


def run_warnings(result: Result) -> list[str]:
    """The lines of warning of a run that went on; its lock must keep the same."""
    assert result.exit_code == 0, result.output
    found = [line.removeprefix("warning: ") for line in result.stdout.splitlines() if "warning: " in line]
    assert Run(Path("run")).lock["warnings"] == found
    return found


BAD = b'{"text": "half \\ud83d"}\n{"words": "a"}\n{"text": null}\nno json\n"caf\xe9"\n'


def test_bad_lines_are_skipped_told_and_kept(folder: Path) -> None:
    lines = corpus().splitlines(keepends=True)
    (folder / "corpus.jsonl").write_bytes("".join(lines[:60]).encode() + BAD + "".join(lines[60:]).encode())
    assert "corpus.jsonl:61" in refused(2)  # the default
    assert not (folder / "run").exists()
    for _ in ("at first", "from the cache"):
        shutil.rmtree(folder / "run", ignore_errors=True)
        [told] = run_warnings(calm("data.on_bad=skip"))
        assert told.startswith("skipped 5 bad lines of 105 in data.train=")
        places = ["61 (half a surrogate pair)", "62 (no key 'text')", "63 (null)", "64 (not JSON)"]
        assert all(f"corpus.jsonl:{place}" in told for place in [*places, "65 (not UTF-8)"])
    said = CliRunner().invoke(cli, ["eval", "run"]).stderr
    assert f"warning: {told}" in said


@pytest.mark.parametrize("words", [("data.max_bad=0.04",), ("data.text_key=words",)])
def test_too_many_bad_lines(folder: Path, words: tuple[str, ...]) -> None:
    with (folder / "corpus.jsonl").open("ab") as file:
        file.write(BAD)
    said = refused(2, "data.on_bad=skip", *words)
    assert "of 105 lines are bad" in said
    assert "more than data.max_bad allows" in said
    assert "raise data.max_bad" in said
    assert not (folder / "run").exists()


@pytest.mark.parametrize("words", ["data.max_bad=2", "data.on_bad=ignore"])
def test_settings_for_bad_lines_that_are_none(folder: Path, words: str) -> None:
    assert words.split("=")[0] in refused(2, words)


def test_held_out_text_that_is_trained_on(folder: Path) -> None:
    lines = corpus(120).splitlines(keepends=True)
    (folder / "valid.jsonl").write_text("".join(lines[80:]))  # 20 of them new
    [told] = run_warnings(calm("data.valid=valid.jsonl"))
    assert told.startswith("of the held-out documents, 50 % (20 of 40) also stand in the training text")
    assert "held out: data.valid=valid.jsonl" in told
    assert Run(folder / "run").evaluation["leaked_documents"] == 0.5
    result = CliRunner().invoke(cli, ["eval", "run", "--json"])
    assert f"warning: {told}" in result.stderr
    assert json.loads(result.stdout)["leaked_documents"] == 0.5


def test_held_out_text_of_its_own(folder: Path) -> None:
    assert run_warnings(calm()) == []
    assert Run(folder / "run").evaluation["leaked_documents"] == 0
    result = CliRunner().invoke(cli, ["eval", "run", "--json"])
    assert "warning" not in result.stderr


def test_other_data_that_a_run_was_trained_on(folder: Path) -> None:
    """Measured beside a training text that is clean: what counts is the one that the model has seen."""
    assert run_warnings(calm()) == []
    (folder / "clean.jsonl").write_text(corpus().replace('"text": "', '"text": "clean '))
    words = ["eval", "run", "data.train=clean.jsonl", "data.valid=corpus.jsonl", "--json"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    share = json.loads(result.stdout)["leaked_documents"]
    assert 0.5 < share < 1  # about four fifths of the file were trained on, the rest was held out
    assert f"({share * 100:.0f} of 100) also stand in the text that the run was trained on" in result.stderr
    (folder / "corpus.jsonl").write_text(corpus(90))  # the run's own text is no longer known
    result = CliRunner().invoke(cli, words)
    assert "warning" not in result.stderr
    assert json.loads(result.stdout)["leaked_documents"] == 0


def test_a_table_is_read_beside_other_files(folder: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra `parquet`)")
    import pyarrow.parquet

    texts = [json.loads(line)["text"] for line in corpus().splitlines()]
    (folder / "texts").mkdir()
    (folder / "corpus.jsonl").rename(folder / "texts" / "a.jsonl")
    pyarrow.parquet.write_table(pyarrow.table({"text": [*texts[:9], None]}), folder / "texts" / "b.parquet")
    assert "b.parquet:10: 'text' is null" in refused(2, "data.train=texts")
    [told] = run_warnings(calm("data.train=texts", "data.on_bad=skip"))
    assert "skipped 1 bad record of 110 in data.train=texts (0.9 %): texts/b.parquet:10 (null)" in told


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ("texts", ["texts/b.parquet needs the package `pyarrow`", "pip install 'calmkit[parquet]'"]),
        ("'*.parquet'", ["*.parquet matches no file"]),
        ("empty", ["the folder empty holds no text", ".jsonl.zst", ".parquet"]),
        ("[corpus.jsonl,notes.md]", ["notes.md has an unknown suffix", ".jsonl.zst", ".parquet"]),
    ],
)
@pytest.mark.parametrize("verb", ["validate", "train"])
def test_sources_that_cannot_be_read_are_told_before_anything_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, verb: str, train: str, told: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    for name in ("texts/a.txt", "texts/b.parquet", "empty/.hidden.txt", "notes.md"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no table")
    result = CliRunner().invoke(cli, [verb, "small.yaml", f"data.train={train}"])
    assert result.exit_code == 2, result.output
    assert "error[CK146]: corpus 'text': data.train" in result.stderr
    assert all(word in result.stderr for word in told), result.stderr
    assert not (folder / "cache").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("data.train=nowhere.jsonl", ["nowhere.jsonl"]),
        ("head=enrgy", ["error[CK120]", "enrgy", "did you mean 'energy'?"]),
        ("head.num_drawz=3", ["error[CK130]", "num_drawz", "did you mean 'num_draws'?"]),
        ("head.num_draws=many", ["error[CK132]", "head.num_draws", "many"]),
        ("data.sequence_length=33", ["error[CK140]", "33", "chunk size 4", "32 or 36"]),
        ("stages.lm.init_from=nowhere", ["error[CK146]", "nowhere"]),
        ("loggers=[wandbb]", ["error[CK120]", "wandbb", "did you mean 'wandb'?"]),
    ],
)
def test_a_recipe_that_cannot_be_used(folder: Path, words: str, told: list[str]) -> None:
    said = refused(2, words)
    assert all(word in said for word in told), said
    assert not (folder / "run").exists()
    assert not (folder / "cache").exists()  # no data was touched


def test_a_token_file_of_another_tokenizer(folder: Path) -> None:
    """The files of two tokenizers, exchanged in the cache."""
    assert calm().exit_code == 0
    bytes_file = next((folder / "cache" / "tokens").glob("train-*"))
    assert calm("tokenizer=bpe", "tokenizer.vocab_size=270", "--out", "bpe").exit_code == 0
    bpe_file = next(p for p in (folder / "cache" / "tokens").glob("train-*") if p != bytes_file)
    os.replace(bpe_file, bytes_file)
    said = refused(2, "--out", "again")
    assert str(bytes_file) in said
    assert "tokenizer" in said
    assert "use the tokenizer it was made with, or tokenise the text anew" in said


def test_a_damaged_token_file(folder: Path) -> None:
    assert calm().exit_code == 0
    path = next((folder / "cache" / "tokens").glob("train-*"))
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    said = refused(2, "--out", "again")
    assert f"delete {path}" in said


def test_a_folder_that_already_holds_a_run(folder: Path) -> None:
    assert calm().exit_code == 0
    weights = (folder / "run" / "model" / "model.safetensors").read_bytes()
    assert "already holds a run; name another folder with --out" in refused(1)
    assert (folder / "run" / "model" / "model.safetensors").read_bytes() == weights


STEP_OF_FAILURE = 5


@final
class Failing(GenerativeHead):
    """Goes wrong at the fifth training step; `how` is a NaN or an exception."""

    info = HeadInfo(sampling="one_step")

    def __init__(self, hidden_dim: int, event, *, how: str = "nan") -> None:
        super().__init__()
        self.inner, self.how, self.calls = RegressionHead(hidden_dim, event), how, 0

    def loss(self, context: Context, target: Posterior) -> Tensor:
        per_unit = self.inner.loss(context, target)
        if len(per_unit) == 64:  # a batch of 8 rows, and neither counting nor validation
            self.calls += 1
            if self.calls == STEP_OF_FAILURE:
                return self._fail(per_unit)
        return per_unit

    def _fail(self, per_unit: Tensor) -> Tensor:
        if self.how == "interrupt":
            raise KeyboardInterrupt
        if self.how == "error":
            raise ZeroDivisionError("in the head")
        if self.how == "gradient":
            return per_unit + (per_unit * 0 + 1e-30).sqrt() * 0 + (per_unit - per_unit).sqrt()
        return per_unit * float("nan")

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return self.inner.sample(context, num, options)


@pytest.fixture
def failing_head(monkeypatch: pytest.MonkeyPatch) -> None:
    def manager() -> Manager:
        made = make_manager()
        made.parts["heads"]["failing"] = Part("heads", "failing", Failing, "tests")
        return made

    monkeypatch.setattr("calmkit.registry.make_manager", manager)


LONG = ("head=failing", "stages.lm.max_steps=9", "stages.lm.eval_every=3")


def kept(folder: Path, stage: str = "lm") -> Snapshot:
    """What a run that failed goes on from."""
    found = newest_snapshot(stage_folder(folder / "run", stage), print)
    assert found is not None
    assert weights_are_finite(found)
    return found


@pytest.mark.parametrize(("how", "what"), [("nan", "loss became nan"), ("gradient", "gradient became")])
@pytest.mark.usefixtures("failing_head")
def test_a_loss_that_turns_nan(folder: Path, how: str, what: str) -> None:
    said = refused(1, *LONG, f"head.how={how}")
    assert what in said
    assert f"at step {STEP_OF_FAILURE - 1} of 9" in said
    assert "lower learning rate" in said
    assert "Its batch begins at row 32 of the training stream. Step 4 of stage lm, before it, is kept" in said
    assert "calmkit train run --skip-batch` leaves the batch out" in said
    # The weights before the step that was refused: those of a run that ends there.
    assert calm("--out", "short", *LONG, f"stages.lm.max_steps={STEP_OF_FAILURE - 1}").exit_code == 0
    whole, held = load_file(folder / "short" / "model" / "model.safetensors"), kept(folder)
    assert held.step == STEP_OF_FAILURE - 1
    assert all(torch.equal(value, held.tensors[f"weights.{name}"]) for name, value in whole.items())


def test_a_learning_rate_that_breaks_the_model(folder: Path) -> None:
    said = refused(
        1, "stages.lm.max_steps=9", "stages.lm.optimizer.lr=1e30", "stages.lm.optimizer.warmup_steps=0"
    )
    assert "now 1e+30" in said
    assert "Step 1 of stage lm, before it, is kept" in said  # of 1e30 and the like, but finite
    result = CliRunner().invoke(cli, ["train", "run", "--lr-scale", "1e-30"])
    assert result.exit_code == 1
    assert (
        "It was gone on with from step 1 itself, so its weights may be broken already: no step before"
        in result.output
    )
    assert (folder / "run" / "model" / "model.safetensors").is_file()  # the autoencoder of stage 1


@pytest.mark.usefixtures("failing_head")
def test_an_interrupt_in_the_middle_of_a_step_keeps_the_last_checkpoint(folder: Path) -> None:
    result = calm(*LONG, "head.how=interrupt")
    assert result.exit_code == 130
    assert result.stderr.strip().endswith("interrupted")
    assert "step 3 of stage lm is kept; `calmkit train run` goes on" in result.stdout
    assert kept(folder).step == 3


@pytest.mark.usefixtures("failing_head")
def test_an_error_in_a_part_keeps_the_last_checkpoint(folder: Path) -> None:
    result = calm(*LONG, "head.how=error")
    assert result.exit_code == 1
    assert "ZeroDivisionError: in the head" in result.stderr
    assert kept(folder).step == 3


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_at_a_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = safetensors.torch.save_file

    def save_until_full(tensors: dict[str, Tensor], file: str, **given: Any) -> None:
        save(tensors, file, **given) if "step-00000004" not in file else full()

    monkeypatch.setattr(safetensors.torch, "save_file", save_until_full)
    said = refused(1, "stages.lm.max_steps=6", "stages.lm.eval_every=2")
    assert "The disk of" in said
    assert "is full" in said
    assert "Free some space" in said
    assert "step 2 of stage lm is kept; `calmkit train run` goes on" in said
    assert kept(folder).step == 2
    assert not list((folder / "run").rglob("*.tmp"))


EIGHT = ("trainer.log_every=1", "stages.autoencoder.max_steps=8", "stages.autoencoder.eval_every=2")


def test_a_disk_that_fills_up_at_a_logger(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two losses, a validation and two losses are written behind step 4, and the disk takes no more."""
    save = MetricsFile.save

    def save_until_full(self: MetricsFile) -> None:
        full() if self.lines >= 5 and self._new else save(self)

    monkeypatch.setattr(MetricsFile, "save", save_until_full)
    said = refused(1, *EIGHT)
    assert "is full, so metrics.csv could not be written" in said
    assert "step 4 of stage autoencoder is kept" in said
    assert kept(folder, "autoencoder").step == 4


def test_a_disk_that_is_full_from_the_start_leaves_no_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MetricsFile, "save", full)
        assert "nothing of stage autoencoder is kept yet" in refused(1)
    assert not list((folder / "run" / "checkpoints").rglob("*.safetensors"))
    assert calm().exit_code == 0


def test_a_disk_without_room_is_refused_before_the_first_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert calm("--out", "warm").exit_code == 0  # the token files are there
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    said = refused(1)
    assert "0 MiB free" in said
    assert not (folder / "run" / "metrics.csv").exists()


def test_a_run_that_is_none(folder: Path) -> None:
    for verb in ("eval", "generate"):
        result = CliRunner().invoke(cli, [verb, "nowhere"])
        assert result.exit_code == 2
        assert "'nowhere' is no run folder" in result.stderr


def test_weights_that_are_damaged(folder: Path) -> None:
    assert calm().exit_code == 0
    path = folder / "run" / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    result = CliRunner().invoke(cli, ["generate", "run"])
    assert result.exit_code == 1
    assert "run/model/model.safetensors was cut or altered" in result.stderr
    (folder / "run" / "run.sha256").unlink()  # a run of before
    result = CliRunner().invoke(cli, ["generate", "run"])
    assert "Cannot read the weights run/model/model.safetensors" in result.stderr


def test_the_corpus_of_these_tests_is_fine(folder: Path) -> None:
    """Else every refusal above might have another cause."""
    assert len([json.loads(line) for line in corpus().splitlines()]) == 100
    result = calm()
    assert result.exit_code == 0, result.output
    assert "done: run" in result.stdout
