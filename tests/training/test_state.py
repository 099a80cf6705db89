"""State that is taken from one trainer and put into another: bit for bit what it was."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from calmkit.recipe.schema import Optimizer
from calmkit.training.ema import WeightAverage
from calmkit.training.errors import RunFailed
from calmkit.training.snapshots import Snapshot, read_snapshot, write_snapshot
from calmkit.training.stages import StageModule
from calmkit.training.state import put_state, take_state, weights_are_finite

STEPS, K = 8, 3


@final
class Noisy(StageModule):
    """Two layers of one matrix, one that normalises, and noise of three generators in its loss."""

    def __init__(self, size: int = 4) -> None:
        settings = Optimizer(lr=0.1, warmup_steps=2, schedule="cosine", weight_decay=0.1, clip=0.5)
        super().__init__(settings, STEPS, seed=0)
        self.first, self.second = nn.Linear(size, size, bias=False), nn.Linear(size, size, bias=False)
        self.second.weight = self.first.weight
        self.norm, self.losses = nn.BatchNorm1d(size), list[float]()

    @property
    def trained(self) -> Noisy:
        return self

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        del batch_idx
        noise = torch.randn(6, self.first.in_features) + random.random() + float(np.random.rand())
        loss = (self.norm(self.second(torch.tanh(self.first(noise)))) - 3).square().mean() + 0 * batch.sum()
        self.losses.append(float(loss.detach()))
        self.checked(loss)
        return loss


@final
class At(pl.Callback):
    """Does something when a step begins, and when training does."""

    def __init__(self, step: int, do: Callable[[pl.Trainer], None], start: Any = None) -> None:
        self.step, self.do, self.start = step, do, start

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.start is not None:
            self.start(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            self.do(trainer)


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


def fit(module: Noisy, at: At, average: WeightAverage, **settings: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=STEPS, max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[average, at], **settings,
    )  # fmt: skip
    trainer.fit(module, DataLoader(torch.zeros(100, 1)))
    return trainer


def taken_at(
    step: int, module: Noisy, average: WeightAverage, **settings: Any
) -> tuple[Snapshot, pl.Trainer]:
    """A whole training from seed 7, and its state before a step."""
    found: list[Snapshot] = []
    pl.seed_everything(7, verbose=False)
    at = At(step, lambda trainer: found.append(take_state(trainer, module, "lm", 8 * step, {"mine": [1]})))
    trainer = fit(module, at, average, **settings)
    return found[0], trainer


def everything(module: Noisy, trainer: pl.Trainer, average: WeightAverage) -> dict[str, Any]:
    moments = {
        f"{number}.{key}": value
        for number, state in trainer.optimizers[0].state_dict()["state"].items()
        for key, value in state.items()
    }
    schedule = trainer.lr_scheduler_configs[0].scheduler
    assert isinstance(schedule, torch.optim.lr_scheduler.LambdaLR)
    numbers = {
        "rates": schedule.get_last_lr(),
        "epoch": schedule.last_epoch,
        "averaged": average.steps,
        "last_loss": module.last_loss,
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=True)[1:],  # type: ignore[index]
    }
    return {**module.state_dict(), **moments, **average.kept, **numbers}


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(np.array_equal(a, b))


@pytest.mark.parametrize("k", [0, 1, K, STEPS - 1])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_goes_on_bit_for_bit_from_a_file(tmp_path: Path, k: int, accumulate: int) -> None:
    """Weights, buffers, moments, rates, average and the next numbers of three generators at the end."""
    whole, average = Noisy(), WeightAverage(0.9)
    snapshot, trainer = taken_at(k, whole, average, accumulate_grad_batches=accumulate)
    expected = everything(whole, trainer, average)
    snapshot = read_snapshot(write_snapshot(tmp_path, snapshot, keep=1))
    pl.seed_everything(99, verbose=False)
    again, other = Noisy(), WeightAverage(0.9)
    start = lambda trainer: put_state(trainer, again, snapshot)  # noqa: E731
    resumed = fit(again, At(-1, print, start), other, accumulate_grad_batches=accumulate)
    assert again.losses == whole.losses[accumulate * k :]
    found = everything(again, resumed, other)
    assert found.keys() == expected.keys()
    assert [name for name in expected if not equal(found[name], expected[name])] == []
    assert again.second.weight is again.first.weight
    assert resumed.global_step == STEPS


def test_what_is_taken_has_names_and_no_tensor_twice() -> None:
    snapshot, _ = taken_at(K, Noisy(), WeightAverage(0.9))
    assert set(snapshot.tensors) == {
        *(f"weights.{name}" for name in ("first.weight", "norm.weight", "norm.bias")),
        *(f"weights.norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")),
        *(
            f"optimizer.{name}.{key}"
            for name in ("first.weight", "norm.weight", "norm.bias")
            for key in ("step", "exp_avg", "exp_avg_sq")
        ),
        *(f"average.{name}" for name in ("first.weight", "norm.weight", "norm.bias")),
        *(f"random.0.{name}" for name in ("cpu", *(["device"] if torch.accelerator.is_available() else []))),
    }
    assert (snapshot.step, snapshot.rows, snapshot.plain["mine"]) == (K, 8 * K, [1])
    assert float(snapshot.tensors["optimizer.norm.bias.step"]) == K
    assert weights_are_finite(snapshot)


def test_what_is_taken_does_not_move_with_the_training() -> None:
    whole = Noisy()
    snapshot, _ = taken_at(K, whole, WeightAverage(0.9))
    assert not torch.equal(snapshot.tensors["weights.first.weight"], whole.first.weight)


def test_a_model_of_other_parts_or_shapes_is_refused() -> None:
    snapshot, _ = taken_at(K, Noisy(), WeightAverage(0.9))
    other, module = Noisy(size=5), Noisy()
    module.more = nn.Linear(1, 1)
    for model, told in ((other, "first.weight"), (module, "more.bias, more.weight")):
        start = lambda trainer, model=model: put_state(trainer, model, snapshot)  # noqa: E731
        with pytest.raises(RunFailed, match=rf"step 3 is of another model: {told}"):
            fit(model, At(-1, print, start), WeightAverage(0.9))


def test_the_scale_of_half_precision_comes_back(tmp_path: Path) -> None:
    """Its scaler doubles every second step: 4, 4, 8, 8, 16, 16, 32, 32, and 64 is what comes next."""

    def plugin() -> MixedPrecision:
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)  # type: ignore[attr-defined]
        return MixedPrecision("16-mixed", "cpu", scaler)

    whole, first = Noisy(), plugin()
    snapshot, _ = taken_at(K, whole, WeightAverage(0.9), plugins=[first])
    snapshot = read_snapshot(write_snapshot(tmp_path, snapshot, keep=1))
    assert snapshot.plain["scaler"]["scale"] == 8.0
    again, second = Noisy(), plugin()
    start = lambda trainer: put_state(trainer, again, snapshot)  # noqa: E731
    fit(again, At(-1, print, start), WeightAverage(0.9), plugins=[second])
    assert first.scaler is not None
    assert second.scaler is not None
    assert first.scaler.get_scale() == second.scaler.get_scale() == 64.0
    assert again.losses == whole.losses[K:]
