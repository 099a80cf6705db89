"""The average of the weights of stage 2, by hand, on a module of one weight."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from calmkit.recipe.schema import Optimizer
from calmkit.training.ema import WeightAverage, averaged
from calmkit.training.stages import StageModule

STEPS = 6


class Line(StageModule):
    """One weight that is pulled to 3, and one that is frozen. Remembers what a validation saw."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__(Optimizer(lr=0.1, warmup_steps=0, weight_decay=0.0), STEPS, seed=0)
        self.weight = nn.Parameter(torch.zeros(2))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.fails_at = fails_at
        self.behind_steps: list[Tensor] = []
        self.validated: list[Tensor] = []

    @property
    def trained(self) -> Line:
        return self

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        del batch_idx
        return (self.weight - 3).square().sum() + 0 * batch.sum()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.behind_steps.append(self.weight.detach().clone())

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        del batch, batch_idx
        if self.fails_at == self.global_step:
            raise RuntimeError("validation failed")
        self.validated.append(self.weight.detach().clone())


def fit(module: Line, folder: Path, callbacks: Sequence[pl.Callback], accumulate: int = 1) -> None:
    """Train."""
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        max_epochs=-1,
        accumulate_grad_batches=accumulate,
        val_check_interval=2 * accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=list(callbacks),
        default_root_dir=folder,
    )
    loader = DataLoader(torch.zeros(100, 1))
    trainer.fit(module, loader, DataLoader(torch.zeros(1, 1)))


def by_hand(trained: Sequence[Tensor], decay: float) -> list[Tensor]:
    """After n steps a share min(decay, (1 + n) / (10 + n)) of the average before stays."""
    kept = [trained[0]]
    for n, weight in enumerate(trained[1:], start=2):
        share = min(decay, (1 + n) / (10 + n))
        kept.append(share * kept[-1] + (1 - share) * weight)
    return kept


@pytest.mark.parametrize("decay", [0.99, 0.3])  # the second is reached after 3 steps: 4 / 13
def test_a_stage_ends_with_the_average_and_trains_and_validates_as_it_should(
    tmp_path: Path, decay: float
) -> None:
    plain = Line()
    fit(plain, tmp_path / "plain", [])
    module = Line()
    with averaged(decay, module) as callbacks:
        fit(module, tmp_path / "averaged", callbacks)
        assert torch.equal(module.weight, plain.weight)  # in training its own weights, all the time
    assert all(torch.equal(a, b) for a, b in zip(module.behind_steps, plain.behind_steps, strict=True))
    kept = by_hand(module.behind_steps, decay)
    torch.testing.assert_close(module.weight.detach(), kept[-1])
    assert not torch.allclose(module.weight, plain.weight)
    torch.testing.assert_close(module.validated, [kept[1], kept[3], kept[5]])
    assert torch.equal(module.frozen, torch.ones(2))


def test_without_a_decay_nothing_is_averaged(tmp_path: Path) -> None:
    module = Line()
    with averaged(None, module) as callbacks:
        assert list(callbacks) == []
        fit(module, tmp_path, callbacks)
    assert torch.equal(module.weight, module.behind_steps[-1])
    assert torch.equal(module.validated[-1], module.behind_steps[-1])


def test_batches_that_are_only_accumulated_are_no_steps_of_the_average(tmp_path: Path) -> None:
    module = Line()
    with averaged(0.99, module) as callbacks:
        fit(module, tmp_path, callbacks, accumulate=3)
    assert len(module.behind_steps) == 3 * STEPS
    torch.testing.assert_close(module.weight.detach(), by_hand(module.behind_steps[2::3], 0.99)[-1])


def test_a_stage_that_fails_in_a_validation_keeps_the_weights_that_were_trained(tmp_path: Path) -> None:
    module = Line(fails_at=4)
    with pytest.raises(RuntimeError, match="validation failed"), averaged(0.99, module) as callbacks:
        fit(module, tmp_path, callbacks)
    assert torch.equal(module.weight, module.behind_steps[3])


def test_the_average_of_weights_in_half_precision_is_not_lost_in_rounding() -> None:
    """900 steps at 1, then 100 at 1.25, which move it by 0.0025 or less: after 1, bfloat16 has 1.0078."""
    average, module = WeightAverage(0.99), Line().to(torch.bfloat16)
    expected = []
    for step in range(1, 1001):
        with torch.no_grad():
            module.weight.fill_(1.0 if step <= 900 else 1.25)
        expected.append(module.weight.detach().double().clone())
        trainer = create_autospec(pl.Trainer, instance=True, global_step=step)
        average.on_train_batch_end(trainer, module, None, None, 0)
    by_now = by_hand(expected, 0.99)[-1]
    torch.testing.assert_close(by_now, torch.full_like(by_now, 1 + 0.25 * (1 - 0.99**100)))
    torch.testing.assert_close(average.kept["weight"].double(), by_now, rtol=1e-4, atol=0)
    average.take(module)
    assert module.weight.dtype == torch.bfloat16
    assert torch.equal(module.weight, by_now.to(torch.bfloat16))
