"""fit_stage on a module of one weight: what it counts, what it writes, and what a failure leaves behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from small_runs import autoencoder_of, rows_of, small_recipe, workshop
from torch import Tensor

from calmkit.data.cache import default_cache
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import Optimizer
from calmkit.registry import make_manager
from calmkit.text.datamodule import TextDataModule
from calmkit.text.prepare import prepare_data
from calmkit.training import clock as clock_module
from calmkit.training.clock import TrainingClock
from calmkit.training.errors import RunFailed, TrainingDiverged
from calmkit.training.fit import Session, fit_stage
from calmkit.training.run import Run
from calmkit.training.run_folder import holds_work
from calmkit.training.snapshots import newest_snapshot, stage_folder
from calmkit.training.stages import StageModule

STEPS = 6


class OneWeight(StageModule):
    """Its loss is its weight, so AdamW takes lr = 0.5 from it in every step: 10, 9.5, 9, ..."""

    def __init__(self, happens: Callable[[OneWeight], Tensor | None] = lambda module: None) -> None:
        super().__init__(Optimizer(lr=0.5, weight_decay=0.0, warmup_steps=0, clip=None), STEPS, seed=1)
        self.w = torch.nn.Parameter(torch.tensor(10.0))
        self.happens, self.validated, self.batches = happens, list[int](), 0

    @property
    def trained(self) -> OneWeight:
        return self

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The weight, unless something happens."""
        self.batches += 1
        happened = self.happens(self)
        loss = self.w if happened is None else happened
        self.checked(loss)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Take note of the step."""
        if batch_idx == 0:
            self.validated.append(self.global_step)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("fit")) as folder:
        yield folder


@pytest.fixture
def prepared(folder: Path, tmp_path: Path) -> tuple[Session, TextDataModule, list[str]]:
    torch.set_default_dtype(torch.float32)
    return session_of(folder, tmp_path)


def session_of(folder: Path, out: Path, *overrides: str) -> tuple[Session, TextDataModule, list[str]]:
    """A session in `out`, its batches, and what is said in it."""
    manager = make_manager()
    recipe = small_recipe(folder, *overrides, manager=manager)
    corpus = manager.build("corpora", recipe.data.part.name, recipe.data.part.options)
    data = prepare_data(corpus, manager.build("tokenizers", "bytes", {}), default_cache())
    said: list[str] = []
    session = Session(recipe, manager, Run(out), kind_of(recipe, manager), data, [], said.append)
    return session, rows_of(recipe, data, autoencoder_of(recipe, manager), 8, 6), said


def kept(out: Path) -> tuple[int, float] | None:
    """Step and weight of the newest snapshot."""
    found = newest_snapshot(stage_folder(out, "lm"), print)
    return found and (found.step, float(found.tensors["weights.w"]))


def test_every_step_is_taken_and_the_last_one_kept(
    prepared: tuple[Session, TextDataModule, list[str]], tmp_path: Path
) -> None:
    """Six steps of 0.5 from 10; validated after steps 3 and 6; the checkpoint is that of step 6."""
    session, data, _ = prepared
    module = OneWeight()
    trainer, seconds = fit_stage(session, module, data, "lm", 3)
    assert trainer.global_step == module.batches == STEPS
    assert float(module.w.detach()) == pytest.approx(7, abs=1e-4)
    assert module.validated == [3, 6]
    assert kept(tmp_path) == (6, float(module.w.detach()))
    assert seconds > 0


def test_batches_of_a_step_are_accumulated(folder: Path, tmp_path: Path) -> None:
    """Two batches a step: twelve of them, and the evaluation still comes after steps 3 and 6."""
    torch.set_default_dtype(torch.float32)
    session, data, _ = session_of(folder, tmp_path, "trainer.accumulate=2")
    module = OneWeight()
    trainer, _ = fit_stage(session, module, data, "lm", 3)
    assert (trainer.global_step, module.batches, module.validated) == (6, 12, [3, 6])


def test_an_evaluation_that_comes_after_the_end_comes_at_the_end(
    prepared: tuple[Session, TextDataModule, list[str]],
) -> None:
    session, data, _ = prepared
    module = OneWeight()
    fit_stage(session, module, data, "lm", 500)
    assert module.validated == [STEPS]


def at(step: int, do: Callable[[OneWeight], Tensor | None]) -> OneWeight:
    return OneWeight(lambda module: do(module) if module.global_step == step else None)


def test_a_loss_that_is_not_finite_keeps_the_last_good_weights(
    prepared: tuple[Session, TextDataModule, list[str]], tmp_path: Path
) -> None:
    """In the step after two good ones: 10 - 2 * 0.5 is on disk, and the message says where."""
    session, data, _ = prepared
    with pytest.raises(
        TrainingDiverged, match=r"(?s)loss became nan at step 2 of 6.*Step 2 of stage lm, before it, is kept"
    ):
        fit_stage(session, at(2, lambda module: module.w * math.nan), data, "lm", 500)
    assert kept(tmp_path) == (2, pytest.approx(9, abs=1e-4))


def test_weights_that_are_not_finite_are_not_kept(
    prepared: tuple[Session, TextDataModule, list[str]], tmp_path: Path
) -> None:
    """Step 3 is kept before its validation; the weight breaks behind it, and the loss tells of it."""

    def ruin(module: OneWeight) -> Tensor | None:
        module.w.data.fill_(math.inf)
        return None

    session, data, _ = prepared
    with pytest.raises(TrainingDiverged, match=r"finite and are kept are those of step 3: .*--lr-scale 0\.5"):
        fit_stage(session, at(4, ruin), data, "lm", 3)
    assert kept(tmp_path) == (3, pytest.approx(8.5, abs=1e-4))


def test_weights_that_were_never_finite_behind_a_step_leave_nothing(
    prepared: tuple[Session, TextDataModule, list[str]], tmp_path: Path
) -> None:
    session, data, _ = prepared
    broken = at(1, lambda module: module.w * math.inf)
    broken.w.data.fill_(math.nan)
    with pytest.raises(TrainingDiverged, match="no others of lm are kept"):
        fit_stage(session, broken, data, "lm", 3)
    assert kept(tmp_path) is None


def raises(error: BaseException) -> Callable[[OneWeight], Tensor | None]:
    def do(module: OneWeight) -> Tensor | None:
        raise error

    return do


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("a bug")])
def test_whatever_stops_it_the_last_checkpoint_is_kept(
    error: BaseException, prepared: tuple[Session, TextDataModule, list[str]], tmp_path: Path
) -> None:
    session, data, said = prepared
    with pytest.raises(type(error)):
        fit_stage(session, at(4, raises(error)), data, "lm", 3)
    assert kept(tmp_path) == (3, pytest.approx(8.5, abs=1e-4))
    assert said[-1] == f"step 3 of stage lm is kept; `calmkit train {tmp_path}` goes on"


def test_before_the_first_step_there_is_nothing_to_keep(
    prepared: tuple[Session, TextDataModule, list[str]], tmp_path: Path
) -> None:
    session, data, said = prepared
    with pytest.raises(KeyboardInterrupt):
        fit_stage(session, at(0, raises(KeyboardInterrupt())), data, "lm", 500)
    assert said[-1] == f"nothing of stage lm is kept yet; `calmkit train {tmp_path}` begins it"
    assert not holds_work(tmp_path)


def test_a_file_that_cannot_be_written_is_named_and_the_last_checkpoint_is_kept(
    prepared: tuple[Session, TextDataModule, list[str]], tmp_path: Path
) -> None:
    """A logger's, say."""
    session, data, _ = prepared
    refusal = OSError(28, "No space left on device", str(tmp_path / "metrics.csv"))
    with pytest.raises(
        RunFailed, match=r"(?s)is full, so metrics\.csv could not be written.*step 3 of stage lm is kept"
    ):
        fit_stage(session, at(4, raises(refusal)), data, "lm", 3)
    assert kept(tmp_path) == (3, pytest.approx(8.5, abs=1e-4))


def test_a_stage_that_ends_early_has_failed(prepared: tuple[Session, TextDataModule, list[str]]) -> None:
    def stop(module: OneWeight) -> Tensor | None:
        module.trainer.should_stop = True
        return None

    session, data, _ = prepared
    with pytest.raises(RunFailed, match="Stage lm stopped at step 2 of 6"):
        fit_stage(session, at(1, stop), data, "lm", 500)


def test_the_clock_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains 10 to 13, validates to 20, trains to 21, validates to 30, trains to 35: 3 + 1 + 5 seconds."""
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    times = iter([10.0, 13.0, 20.0, 21.0, 30.0, 35.0])
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    clock, module = TrainingClock(), OneWeight()
    for hook in ("train_start", *("validation_start", "validation_end") * 2, "train_end"):
        getattr(clock, f"on_{hook}")(trainer, module)
    assert clock.seconds == 9
