"""Callbacks that tell of a trainer's steps and rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import lightning.pytorch as pl

from calmkit.training.progress import Phase, Progress

LINES_PER_STAGE = 10


def held_out(trainer: pl.Trainer, shown: Sequence[str]) -> dict[str, float]:
    """The scores of the last validation, those worth a line."""
    return {
        name.rsplit("/", 1)[1]: float(value)
        for name, value in trainer.callback_metrics.items()
        if "/val/" in name and name.rsplit("/", 1)[1] in shown
    }


class _OnePhase(pl.Callback):
    """What a trainer does, as one phase, which ends with it however that ends."""

    def __init__(self, progress: Progress, label: str) -> None:
        self.progress, self.label = progress, label
        self.phase: Phase | None = None

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """It is over."""
        del trainer, pl_module, exception
        self._end()

    def _end(self) -> None:
        if self.phase is not None:
            self.phase.end()
        self.phase = None


@final
class StageProgress(_OnePhase):
    """A stage of training as one phase: its steps, its loss, its scores.

    Args:
        progress: Takes it.
        label: Of the stage.
        shown: Scores of a validation that are worth a line.
    """

    def __init__(self, progress: Progress, label: str, shown: Sequence[str] = ("loss",)) -> None:
        super().__init__(progress, label)
        self.shown = shown

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """It begins."""
        del trainer
        self.phase = self.progress.begin(
            self.label, unit="step", total=pl_module.max_steps, lines=LINES_PER_STAGE
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """It moves on."""
        del outputs, batch, batch_idx
        self._tell(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """It is alive, also through a long validation."""
        del outputs, batch, batch_idx, dataloader_idx
        self._tell(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Its scores."""
        del pl_module
        if self.phase is not None:
            self.phase.scored(held_out(trainer, self.shown))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """It is over."""
        del trainer, pl_module
        self._end()

    def _tell(self, trainer: pl.Trainer, module: Any) -> None:
        if self.phase is not None:
            self.phase.at(trainer.global_step, loss=module.last_loss)


@final
class RowsProgress(_OnePhase):
    """An evaluation as one phase: its rows, as far as this process reads them.

    Args:
        progress: Takes it.
        label: Of the evaluation.
    """

    def __init__(self, progress: Progress, label: str) -> None:
        super().__init__(progress, label)
        self.rows = 0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """It begins."""
        del pl_module
        loader: Any = trainer.val_dataloaders
        self.rows = 0
        self.phase = self.progress.begin(self.label, unit="row", total=len(loader.sampler))

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """It moves on."""
        del trainer, pl_module, outputs, batch_idx, dataloader_idx
        self.rows += len(batch)
        if self.phase is not None:
            self.phase.at(self.rows)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """It is over."""
        del trainer, pl_module
        self._end()
