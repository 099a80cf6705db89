"""Bad input through the command line: one clear error with its exit code, and what was trained kept."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import final

import pytest
import torch
from click.testing import CliRunner, Result
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import load_file
from small_runs import SHORT, corpus, workshop
from torch import Tensor

from calmkit.cli.main import cli
from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import Context, GenerativeHead, HeadInfo, Posterior, SampleOptions
from calmkit.registry import Manager, Part, make_manager
from calmkit.training.checkpoints import MovedCheckpoints


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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("data.train=nowhere.jsonl", ["nowhere.jsonl"]),
        ("head=enrgy", ["error[CK120]", "enrgy", "did you mean 'energy'?"]),
        ("head.num_drawz=3", ["error[CK130]", "num_drawz", "did you mean 'num_draws'?"]),
        ("head.num_draws=many", ["error[CK132]", "head.num_draws", "many"]),
        ("data.sequence_length=33", ["error[CK140]", "33", "chunk size 4", "32 or 36"]),
        ("stages.lm.init_from=nowhere", ["error[CK146]", "nowhere"]),
        ("loggers=[wandbb]", ["error[CK13", "wandbb"]),
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


def kept_weights(folder: Path) -> dict[str, Tensor]:
    tensors = load_file(folder / "run" / "checkpoints" / "lm-unfinished.safetensors")
    assert all(bool(value.isfinite().all()) for value in tensors.values())
    return tensors


@pytest.mark.parametrize(("how", "what"), [("nan", "loss became nan"), ("gradient", "gradient became")])
@pytest.mark.usefixtures("failing_head")
def test_a_loss_that_turns_nan(folder: Path, how: str, what: str) -> None:
    said = refused(1, *LONG, f"head.how={how}")
    assert what in said
    assert f"at step {STEP_OF_FAILURE - 1} of 9" in said
    assert "lower learning rate" in said
    assert "lm-unfinished.safetensors" in said
    tensors = kept_weights(folder)
    # The weights before the step that was refused: those of a run that ends there.
    assert calm("--out", "short", *LONG, f"stages.lm.max_steps={STEP_OF_FAILURE - 1}").exit_code == 0
    whole = load_file(folder / "short" / "model" / "model.safetensors")
    assert all(torch.equal(value, tensors[f"model.{name}"]) for name, value in whole.items())
    last = MovedCheckpoints().load_checkpoint(folder / "run" / "checkpoints" / "lm" / "last.ckpt")
    assert last["global_step"] == 3


def test_a_learning_rate_that_breaks_the_model(folder: Path) -> None:
    said = refused(
        1, "stages.lm.max_steps=9", "stages.lm.optimizer.lr=1e30", "stages.lm.optimizer.warmup_steps=0"
    )
    assert "now 1e+30" in said
    assert (folder / "run" / "model" / "model.safetensors").is_file()  # the autoencoder of stage 1


@pytest.mark.usefixtures("failing_head")
def test_an_interrupt_keeps_the_weights(folder: Path) -> None:
    result = calm(*LONG, "head.how=interrupt")
    assert result.exit_code == 130
    assert result.stderr.strip().endswith("interrupted")
    assert "weights of step 4: run/checkpoints/lm-unfinished.safetensors" in result.stdout
    kept_weights(folder)


@pytest.mark.usefixtures("failing_head")
def test_an_error_in_a_part_keeps_the_weights(folder: Path) -> None:
    result = calm(*LONG, "head.how=error")
    assert result.exit_code == 1
    assert "ZeroDivisionError: in the head" in result.stderr
    kept_weights(folder)


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_at_a_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save

    def save_until_full(content: dict[str, object], file: object) -> None:
        save(content, file) if content["global_step"] < 4 else full()

    monkeypatch.setattr(torch, "save", save_until_full)
    said = refused(1, "stages.lm.max_steps=6", "stages.lm.eval_every=2")
    assert "The disk of" in said
    assert "is full" in said
    assert "Free some space" in said
    last = MovedCheckpoints().load_checkpoint(folder / "run" / "checkpoints" / "lm" / "last.ckpt")
    assert last["global_step"] == 2
    assert not list((folder / "run").rglob("*.tmp"))


def test_a_disk_that_fills_up_at_a_logger(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, calls = CSVLogger.save, []

    def save_until_full(self: CSVLogger) -> None:
        calls.append(self)
        save(self) if len(calls) < 4 else full()

    monkeypatch.setattr(CSVLogger, "save", save_until_full)
    said = refused(1, "trainer.log_every=1", "stages.autoencoder.max_steps=8")
    assert "is full, so metrics.csv could not be written" in said
    assert "autoencoder-unfinished.safetensors" in said
    tensors = load_file(folder / "run" / "checkpoints" / "autoencoder-unfinished.safetensors")
    assert all(bool(value.isfinite().all()) for value in tensors.values())


def test_a_disk_that_is_full_from_the_start_leaves_no_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(CSVLogger, "save", full)
        assert "no step of stage autoencoder was taken" in refused(1)
    assert not (folder / "run" / "checkpoints" / "autoencoder-unfinished.safetensors").exists()
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
    assert "Cannot read the weights run/model/model.safetensors" in result.stderr


def test_the_corpus_of_these_tests_is_fine(folder: Path) -> None:
    """Else every refusal above might have another cause."""
    assert len([json.loads(line) for line in corpus().splitlines()]) == 100
    result = calm()
    assert result.exit_code == 0, result.output
    assert "done: run" in result.stdout
