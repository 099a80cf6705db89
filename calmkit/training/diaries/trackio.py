"""Trackio: rows of a local database, opened for each delivery and closed behind it.

Source: https://huggingface.co/docs/trackio
"""

from __future__ import annotations

import io
import os
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, final

from calmkit.recipe.loggers import TrackioSettings
from calmkit.training.diaries.diary import About, Diary, Point

FOLDER = "TRACKIO_DIR"
ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID")
"""Variables with which trackio would send a run over the network."""


@final
class TrackioDiary(Diary):
    """A run of trackio. It writes from a thread and says nothing when it is done, so a delivery ends with the
    run finished, and the next one resumes it.

    Args:
        settings: Of the recipe.
    """

    def __init__(self, settings: TrackioSettings) -> None:
        self.settings = settings
        self.name = ""
        self.config: dict[str, Any] = {}

    def begin(self, about: About, kept: Mapping[str, Any]) -> Mapping[str, Any]:
        """Where it writes, and its name: the recipe's, with letters behind it as a folder may be shared.

        Raises:
            RuntimeError: The process writes to another folder already, which trackio takes once.
        """
        asked = self.settings.folder
        folder = Path(asked).absolute() if asked else about.folder / "trackio"
        os.environ[FOLDER] = str(folder)
        with _quiet():
            from trackio.utils import TRACKIO_DIR
        if Path(TRACKIO_DIR) != folder:
            raise RuntimeError(f"one process writes to one folder, and this one to {TRACKIO_DIR} already")
        self.name = kept.get("name") or f"{about.name}-{uuid.uuid4().hex[:6]}"
        self.config = dict(about.recipe)
        return {"name": self.name}

    def write(self, points: Sequence[Point]) -> None:
        """A row for each."""
        self._deliver([(dict(point.metrics), point.step) for point in points])

    def flush(self) -> None:
        """Nothing: a delivery ends with it."""

    def finish(self, numbers: Mapping[str, float], step: int) -> None:
        """As a row."""
        self._deliver([(dict(numbers), step)])

    def close(self, ended: str) -> None:
        """Nothing: it is closed."""
        del ended

    def _deliver(self, rows: Sequence[tuple[dict[str, float], int]]) -> None:
        with _quiet():
            import trackio

            trackio.init(
                self.settings.project,
                name=self.name,
                config=self.config,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            for metrics, step in rows:
                trackio.log(metrics, step=step)
            trackio.finish()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what it prints, and on this machine alone.

    Raises:
        RuntimeError: It warned, which is all it does where a row can't be written.
    """
    before = {name: os.environ.pop(name) for name in ELSEWHERE if name in os.environ}
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            yield
    finally:
        os.environ.update(before)
    if warned:
        raise RuntimeError(str(warned[0].message))
