"""What train does around the two stages: refusals in time, facts by hand, modes, the last validation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import final

import pytest
import torch
from small_runs import SHORT, column, small_recipe, small_run, tensors, workshop
from torch import Tensor

from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import Context, DataError, GenerativeHead, HeadInfo, Posterior, SampleOptions
from calmkit.metrics.flops import autoencoder_train_flops, count_flops
from calmkit.recipe.assemble import assemble
from calmkit.recipe.errors import RecipeError
from calmkit.registry import Manager, Part, make_manager
from calmkit.training.errors import RunFailed
from calmkit.training.run import Run
from calmkit.training.snapshots import newest_snapshot, stage_folder


@pytest.fixture(autouse=True)
def float32() -> None:
    """As users have it; `conftest.py` puts the default back."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("train")) as folder:
        yield folder


@pytest.fixture(scope="module")
def autoencoder(folder: Path) -> Run:
    """Seven steps, validated every five."""
    stage = ("stages.autoencoder.max_steps=7", "stages.autoencoder.eval_every=5")
    return small_run(folder, "autoencoder", *stage, "trainer.accumulate=2", "stages.lm=null")


SEEN: list[tuple[bool, torch.dtype]] = []


@final
class Watching(GenerativeHead):
    """Notes the mode and the precision of each training step."""

    info = HeadInfo(sampling="one_step")

    def __init__(self, hidden_dim: int, event) -> None:
        super().__init__()
        self.inner = RegressionHead(hidden_dim, event)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        if torch.is_grad_enabled():
            SEEN.append((self.training, context.h.dtype))
        return self.inner.loss(context, target)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return self.inner.sample(context, num, options)


@pytest.fixture
def manager() -> Manager:
    made = make_manager()
    made.parts["heads"]["watching"] = Part("heads", "watching", Watching, "tests")
    return made


@pytest.mark.parametrize("untrained", ["true", "false"])
def test_parts_train_in_train_mode(folder: Path, tmp_path: Path, manager: Manager, untrained: str) -> None:
    """Also where the untrained model was measured first, in eval mode."""
    SEEN.clear()
    words = (*SHORT[:2], f"evaluation.untrained={untrained}", "head=watching", "trainer.precision=bf16-mixed")
    run = small_run(folder, str(tmp_path / "run"), *words, manager=manager)
    steps = SEEN[-2:]  # before them the FLOPs are counted
    assert [mode for mode, _ in steps] == [True, True]
    assert all(value.dtype == torch.float32 for value in tensors(run).values())


def test_the_last_weights_are_the_ones_that_are_judged(autoencoder: Run) -> None:
    """7 steps, validation every 5: one more at the end."""
    judged = column(autoencoder, "autoencoder/val/token_accuracy")
    assert len(judged) == 2
    assert autoencoder.facts["reconstruction"]["token_accuracy"] == pytest.approx(judged[-1])


def test_facts_of_stage_one_by_hand(folder: Path, autoencoder: Run) -> None:
    """7 steps of 2 batches of 8 rows; a row has 8 units of 4 tokens."""
    facts = autoencoder.facts
    built = assemble(small_recipe(folder), make_manager(), {"vocab_size": 257}).autoencoder
    assert facts["autoencoder_train_flops"] == 7 * 2 * 8 * autoencoder_train_flops(built, 8)
    assert (facts["vocab_size"], facts["eos_id"], facts["chunk_size"], facts["event"]) == (257, 256, 4, [8])
    assert not (autoencoder.folder / "evaluation.json").exists()


def test_facts_of_stage_two_by_hand(folder: Path, autoencoder: Run) -> None:
    """3 steps of 8 rows of 32 tokens."""
    taken = f"stages.autoencoder.init_from={autoencoder.folder}"
    run = small_run(folder, "facts", taken, "stages.lm.max_steps=3", SHORT[2])
    facts, cost = (
        run.facts,
        count_flops(assemble(small_recipe(folder), make_manager(), {"vocab_size": 257}), 8),
    )
    assert facts["lm_train_tokens"] == 3 * 8 * 32
    assert facts["lm_train_flops"] == 3 * 8 * cost.total == sum(facts["train_flops_by_part"].values())
    assert facts["autoencoder_train_flops"] == autoencoder.facts["autoencoder_train_flops"]
    assert facts["autoencoder_from"] == str(autoencoder.folder)
    assert facts["parameters"]["backbone"] == 2 * 3 * 16 * 16 + 2 * 3 * 16 + 16  # one GRU layer and the start


def test_checkpoints_hold_the_last_step(autoencoder: Run) -> None:
    """Every 5 of 7 steps of 2 batches of 8 rows, and the last."""
    folder = stage_folder(autoencoder.folder, "autoencoder")
    assert sorted(path.stem for path in folder.glob("*.json")) == ["step-00000005", "step-00000007"]
    held = newest_snapshot(folder, print)
    assert held is not None
    assert (held.step, held.rows) == (7, 7 * 16)


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        (("stages.lm.batch_size=5000",), DataError, "fewer than one step of 5000"),
        (
            ("data.sequence_length=4",),
            RecipeError,
            "CK149.*a row of 4 tokens is 1 unit, with nothing to",
        ),
        (("trainer.accelerator=cuda",), RecipeError, "accelerator=cuda"),
        (("trainer.strategy=deepest",), RecipeError, "strategy=deepest"),
    ],
)
def test_what_stage_two_cannot_do_is_refused_before_stage_one(
    folder: Path, tmp_path: Path, words: tuple[str, ...], error: type[Exception], told: str
) -> None:
    if torch.cuda.is_available() and "cuda" in words[0]:
        pytest.skip("this machine has what the test asks for in vain")
    with pytest.raises(error, match=told):
        small_run(folder, str(tmp_path / "run"), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [SystemExit(137), RunFailed("refused"), KeyboardInterrupt(), OSError("x")])
def test_a_start_that_came_to_nothing_does_not_refuse_the_next(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """It ends between its folder and its first step: killed, refused, interrupted, or by a bug."""

    def ends(*given: object) -> None:
        raise error

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("calmkit.training.train._first_stage", ends)
        with pytest.raises(type(error)):
            small_run(folder, str(out), "seed=3", *SHORT)
    assert sorted(path.name for path in out.iterdir()) == [
        "lock.yaml",
        "recipe.yaml",
        "resolved.yaml",
        "run.sha256",
    ]
    if isinstance(error, RunFailed):
        run = small_run(folder, str(out), "seed=5", *SHORT)
        assert (run.lock["seed"], run.recipe().seed) == (5, 5)
        assert run.evaluation
    with monkeypatch.context() as patch:
        patch.setattr("calmkit.training.beginning.make_loggers", ends)
        with pytest.raises(type(error)):
            small_run(folder, str(tmp_path / "other"), *SHORT)
    assert not list((tmp_path / "other").iterdir())


def test_a_folder_that_is_being_filled_is_nobody_else_s(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is trained yet, so only the lock can tell."""

    def again(session: object) -> None:
        small_run(folder, str(tmp_path / "run"), *SHORT)

    monkeypatch.setattr("calmkit.training.train._first_stage", again)
    with pytest.raises(RunFailed, match=r"run is being filled by another process; .*--out"):
        small_run(folder, str(tmp_path / "run"), *SHORT)


def test_stage_two_can_continue_another_run(folder: Path, autoencoder: Run) -> None:
    taken = f"stages.autoencoder.init_from={autoencoder.folder}"
    first = small_run(folder, "first", taken, *SHORT[1:])
    said: list[str] = []
    tiny = "stages.lm.optimizer.lr=1e-9"  # so small that the weights stay what they were
    goes_on = f"stages.lm.init_from={first.folder}"
    second = small_run(folder, "second", taken, goes_on, tiny, "seed=5", *SHORT[1:], say=said.append)
    before, after = tensors(first), tensors(second)
    assert all(torch.allclose(after[name], value, atol=1e-6) for name, value in before.items())
    assert any("continues the weights of" in line for line in said)
    with pytest.raises(RunFailed, match=re.escape(f"stages.autoencoder.init_from={first.folder}")):
        small_run(folder, "third", goes_on, *SHORT)


def test_the_rows_on_the_way_are_those_of_the_evaluation(folder: Path) -> None:
    """As many as it has, where more are asked for: then the last score on the way is that of the table."""
    run = small_run(
        folder, "rows", *SHORT, "stages.lm.eval_rows=99", "evaluation.draws=2", "stages.lm.eval_every=2"
    )
    for name in ("loss", "brier_2"):
        assert column(run, f"lm/val/{name}")[-1] == pytest.approx(run.evaluation[name], rel=1e-5)
