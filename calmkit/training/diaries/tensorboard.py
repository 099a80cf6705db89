"""TensorBoard: event files, a folder for each group of metrics; a run that goes on purges what it takes back.

Source: https://docs.pytorch.org/docs/stable/tensorboard.html, `purge_step`
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

from calmkit.recipe.dump import flat
from calmkit.recipe.loggers import TensorBoardSettings
from calmkit.training.diaries.diary import About, Diary, Point

FLUSH_SECONDS = 5


@final
class TensorBoardDiary(Diary):
    """Event files. `purge_step` takes all tags of a folder back from a step on, and a validation is repeated
    where the training beside it is not; so each group has a folder of its own.

    Args:
        settings: Of the recipe.
    """

    live: ClassVar[bool] = True

    def __init__(self, settings: TensorBoardSettings) -> None:
        del settings
        self.writers: dict[str, Any] = {}

    def begin(self, about: About, kept: Mapping[str, Any]) -> Mapping[str, Any]:
        """The recipe; and what an earlier start wrote behind its last checkpoint is purged."""
        from torch.utils.tensorboard.summary import hparams

        del kept
        self.root, self.goes_on = about.folder / "tensorboard", about.goes_on
        files = list(self.root.rglob("events.*"))
        _wait_for_a_later_name(files)
        there = {path.parent.relative_to(self.root).as_posix() for path in files}
        for group in sorted(there - {"."}):
            if self.goes_on(group) is not None:
                self._writer(group)
        main = self._writer(".")
        main.add_text("recipe", "\n".join(f"    {line}" for line in about.text.splitlines()))
        for summary in hparams({key: _scalar(value) for key, value in flat(about.recipe).items()}, {}):
            main._get_file_writer().add_summary(summary)
        return {}

    def write(self, points: Sequence[Point]) -> None:
        """Scalars, under their names in `metrics.csv`."""
        for point in points:
            writer = self._writer(point.group)
            for name, value in point.metrics.items():
                writer.add_scalar(name, value, point.step, walltime=point.seconds)

    def flush(self) -> None:
        """All folders."""
        for writer in self.writers.values():
            writer.flush()

    def finish(self, numbers: Mapping[str, float], step: int) -> None:
        """Beside the recipe."""
        for name, value in numbers.items():
            self._writer(".").add_scalar(name, value, step)

    def close(self, ended: str) -> None:
        """All files."""
        del ended
        for writer in self.writers.values():
            writer.close()

    def _writer(self, group: str) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        if group not in self.writers:
            first = 0 if group == "." else self.goes_on(group)
            self.writers[group] = SummaryWriter(
                str(self.root / group), purge_step=first, flush_secs=FLUSH_SECONDS
            )
        return self.writers[group]


def _wait_for_a_later_name(files: Iterable[Path]) -> None:
    """TensorBoard reads files in the order of their names, which begin with the second of their start."""
    stamps = [path.name.split(".")[3] for path in files if path.name.count(".") > 3]
    newest = max((int(stamp) for stamp in stamps if stamp.isdigit()), default=0)
    if newest >= int(time.time()):
        time.sleep(min(1.0, newest + 1 - time.time()))


def _scalar(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
