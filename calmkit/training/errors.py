"""RunFailed: a run that began and could not end; what it made so far is kept."""

from __future__ import annotations

from pathlib import Path


class RunFailed(Exception):
    """Names what went wrong, what would cure it, and the folder that holds what was made so far."""

    def __init__(self, message: str, folder: Path | None = None) -> None:
        self.folder = folder
        super().__init__(message if folder is None else f"{message}\n  kept: {folder}")


class TrainingDiverged(RunFailed):
    """The loss or a gradient is not finite. The step was not taken, so the weights are those before it."""


class Stopped(RunFailed):
    """A run was asked to stop, and has saved where it stands.

    Args:
        message: Where, and how it goes on.
        code: The exit code.
        wished: `Wishes.stop` asked for it, and no signal.
    """

    def __init__(self, message: str, code: int, *, wished: bool = False) -> None:
        super().__init__(message)
        self.code, self.wished = code, wished


class GateMissed(RunFailed):
    """Stage 1 ended below the reconstruction that stage 2 needs."""
