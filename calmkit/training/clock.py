"""The clock of training proper: a stage's wall time without its validations."""

from __future__ import annotations

import time
from typing import final

import lightning.pytorch as pl


@final
class TrainingClock(pl.Callback):
    """Seconds of a stage, over all processes that trained it one after the other.

    Attributes:
        seconds: Of the spans that are over.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def so_far(self) -> float:
        """With the span that goes on."""
        return self.seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start."""
        del trainer, pl_module
        self._since = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pause."""
        del trainer, pl_module
        self._pause()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on."""
        del trainer, pl_module
        self._since = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop."""
        del trainer, pl_module
        self._pause()

    def _pause(self) -> None:
        self.seconds, self._since = self.so_far(), None
