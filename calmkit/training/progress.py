"""What a person sees while a stage trains: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from typing import Any, final

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_only

Say = Any
"""A function of one line of text: `print`, or a console's."""

LINES_PER_STAGE = 10
SHOWN = ("loss", "token_accuracy", "brier_lm")


def quiet_libraries() -> None:
    """Silence what Lightning says about itself: advice on loaders, sizes of tables, advertisements."""
    for name in (
        "lightning.pytorch",
        "lightning.fabric",
        "lightning",
        "pytorch_lightning",
        "lightning.pytorch.utilities",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",
        ".*Experiment logs directory.*",
        ".*exists and is not empty.*",
        ".*The number of training batches.*",
        ".*`isinstance.treespec, LeafSpec.` is deprecated.*",
        ".*lr_scheduler.step.* before .*optimizer.step.*",
        ".*You have overridden `.*configure_gradient_clipping`.*",
        ".*sync_dist=True.*",
        ".*module.s. in eval mode at the start of training.*",  # the frozen autoencoder
        ".*Trying to infer the `batch_size`.*",
    ):
        warnings.filterwarnings("ignore", message=message)


def said_once(say: Say) -> Say:
    """`say` in rank 0; silence in the other processes."""
    return rank_zero_only(say)


def progress_callback(say: Say, label: str) -> pl.Callback:
    """The callback that suits the place standard error goes to."""
    return BarProgress(label) if sys.stderr.isatty() else PlainProgress(say, label)


def held_out(trainer: pl.Trainer) -> str:
    """The scores of the last validation, those worth a line."""
    scores = {
        name.rsplit("/", 1)[1]: float(value)
        for name, value in trainer.callback_metrics.items()
        if "/val/" in name and name.rsplit("/", 1)[1] in SHOWN
    }
    return "  ".join(f"{name} {value:.4g}" for name, value in scores.items())


@final
class BarProgress(pl.Callback):
    """One bar for a whole stage, with its loss and the last scores; on standard error."""

    def __init__(self, label: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.label, self.scores = label, ""
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[told]}"),
            console=Console(stderr=True),
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Show it."""
        if trainer.is_global_zero:
            self.bar.add_task(self.label, total=pl_module.max_steps, told="")
            self.bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move it on."""
        del outputs, batch, batch_idx
        self._show(trainer, f"loss {pl_module.last_loss:.4f}  {self.scores}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Show the scores."""
        self.scores = f"held out: {held_out(trainer)}"
        self._show(trainer, f"loss {pl_module.last_loss:.4f}  {self.scores}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave it as it is."""
        del trainer, pl_module
        self.bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        del trainer, pl_module, exception
        self.bar.stop()

    def _show(self, trainer: pl.Trainer, told: str) -> None:
        for task in self.bar.task_ids:  # none in the other processes
            self.bar.update(task, completed=trainer.global_step, told=told)


@final
class PlainProgress(pl.Callback):
    """A line every tenth of a stage, and one after each validation."""

    def __init__(self, say: Say, label: str) -> None:
        self.say, self.label, self.began, self.said = say, label, time.perf_counter(), 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        del trainer, pl_module
        self.began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say the loss now and then."""
        del outputs, batch, batch_idx
        step, last = trainer.global_step, pl_module.max_steps
        due = step > self.said and step % max(1, last // LINES_PER_STAGE) == 0
        if trainer.is_global_zero and due:  # with accumulated batches several end at the same step
            self.said = step
            seconds = time.perf_counter() - self.began
            self.say(f"{self.label}  step {step}/{last}  loss {pl_module.last_loss:.4f}  {seconds:.0f} s")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say the scores."""
        del pl_module
        if not trainer.is_global_zero:
            return
        scores = held_out(trainer)
        if scores:
            self.say(f"{self.label}  held out: {scores}")
