"""Weights & Biases: one run under one id, offline unless the recipe says otherwise.

Source: https://docs.wandb.ai/ref/python/init, `id` and `resume`
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, final

from calmkit.recipe.loggers import WandbSettings
from calmkit.training.diaries.diary import About, Diary, Point

FLUSH_SECONDS = 0.1
"""After which wandb's own process writes what it got; 15 unless it is told."""


@final
class WandbDiary(Diary):
    """A run of wandb. Each start writes a folder of its own, all of them under the same id.

    wandb wants steps that only grow, so its own step is the number of the point, and the metrics of a stage
    are drawn over `<stage>/step`.

    Args:
        settings: Of the recipe.
    """

    def __init__(self, settings: WandbSettings) -> None:
        self.settings = settings
        self.run: Any = None

    def begin(self, about: About, kept: Mapping[str, Any]) -> Mapping[str, Any]:
        """The run, new or gone on with; the recipe is its config."""
        import wandb

        name = kept.get("id") or uuid.uuid4().hex[:8]
        self.run = wandb.init(
            project=self.settings.project,
            entity=self.settings.entity,
            name=about.name,
            id=name,
            resume="allow",
            dir=str(about.folder),
            mode="offline" if self.settings.offline else None,
            reinit="create_new",  # a run that the process has open already stays what it is
            settings=wandb.Settings(
                silent=True, console="off", x_transaction_log_flush_interval=FLUSH_SECONDS
            ),
        )
        self.run.config.update(dict(about.recipe), allow_val_change=True)
        return {"id": name}

    def write(self, points: Sequence[Point]) -> None:
        """Each as a line of its history."""
        for stage in dict.fromkeys(point.stage for point in points):
            self.run.define_metric(f"{stage}/step", hidden=True)
            self.run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        for point in points:
            told = {**point.metrics, f"{point.stage}/step": point.step}
            self.run.log(told, step=point.number, commit=True)  # else it waits for a later step

    def flush(self) -> None:
        """Give its process the time to write: it dies with this one, and takes along what is in its hands."""
        time.sleep(5 * FLUSH_SECONDS)

    def finish(self, numbers: Mapping[str, float], step: int) -> None:
        """In its summary: they have no history."""
        self.run.summary.update({**numbers, "final/step": step})

    def close(self, ended: str) -> None:
        """Waits until all is written, and sent where it is online."""
        self.run.finish(exit_code=0 if ended == "done" else 1)
