"""Lightning's trainer on the devices of a recipe, and an interrupt that stays one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from calmkit.recipe.schema import Recipe
from calmkit.training.cores import within_cores
from calmkit.training.errors import RunFailed
from calmkit.training.precision import choose_precision
from calmkit.training.sharding import FSDP2, ShardedStrategy


@contextmanager
def interrupts() -> Iterator[None]:
    """Lightning turns an interrupt into an exit and ignores all that follow; turn it back.

    Raises:
        KeyboardInterrupt: Where Lightning was interrupted.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from error


def make_trainer(recipe: Recipe, *, fits: bool = False, **settings: Any) -> pl.Trainer:
    """Lightning's trainer on the devices of a recipe.

    Args:
        recipe: Says which.
        fits: It trains a stage. Weights are dealt out in training alone: what only measures with the strategy
            `fsdp2` has a whole model in every process, as with `ddp`.
        **settings: As of Lightning's trainer.

    Raises:
        RunFailed: If this machine has no such devices, or Lightning knows no such setting.
    """
    section = recipe.trainer
    given: dict[str, Any] = {
        "accelerator": section.accelerator,
        "devices": section.devices,
        "strategy": _strategy(section.strategy, fits),
        "num_nodes": section.num_nodes,
        "precision": choose_precision(section.precision, section.accelerator),
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "logger": False,
    }
    try:
        return within_cores(pl.Trainer(**(given | settings)))
    except (MisconfigurationException, ValueError, RuntimeError, ModuleNotFoundError) as error:
        names = ("accelerator", "devices", "strategy", "precision")
        asked = ", ".join(f"{name}={getattr(section, name)}" for name in names)
        raise RunFailed(
            f"Lightning refuses the section trainer ({asked}): {error} "
            "trainer.accelerator=auto and trainer.devices=auto take what there is."
        ) from error


def _strategy(name: str, fits: bool) -> Any:
    if name != FSDP2:
        return name
    return ShardedStrategy(save_distributed_checkpoint=False) if fits else "ddp"
