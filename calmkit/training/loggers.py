"""Loggers by name: Lightning's own, each found where its library is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calmkit.training.errors import RunFailed

CLASSES = {"csv": "CSVLogger", "tensorboard": "TensorBoardLogger", "wandb": "WandbLogger"}


def make_loggers(names: Sequence[str], folder: Path) -> list[Any]:
    """The loggers of a recipe; `csv` writes `metrics.csv` into the run folder.

    Raises:
        RunFailed: For a name nobody knows, or a library that is not installed.
    """
    from lightning.pytorch import loggers

    made: list[Any] = []
    for name in names:
        if name not in CLASSES:
            raise RunFailed(f"No logger '{name}'. There are: {', '.join(CLASSES)}.")
        where = folder if name == "csv" else folder / name
        settings: dict[str, Any] = {"save_dir": str(where), "name": None, "version": ""}
        try:
            made.append(
                getattr(loggers, CLASSES[name])(**(settings if name != "wandb" else {"save_dir": str(where)}))
            )
        except ModuleNotFoundError as error:
            raise RunFailed(f"The logger '{name}' needs a library: pip install {name}") from error
    return made
