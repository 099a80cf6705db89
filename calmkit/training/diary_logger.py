"""DiaryLogger: what Lightning logs goes into a diary once, however often the run is killed, and a diary that
fails costs no training.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from calmkit.training.checkpoints import check_file, write_json
from calmkit.training.diaries.diary import About, Diary, Point
from calmkit.training.errors import RunFailed
from calmkit.training.metrics_file import LIGHTNINGS

KEPT = "loggers.json"
"""In a run folder: of each diary how it is found again, and up to where each group of metrics is in it."""


@final
class DiaryLogger(Logger):
    """A logger that writes into a diary.

    A diary that can't take points back gets them when a checkpoint keeps them (`keep`). What it was given is
    in `loggers.json`, so a run that goes on from an older checkpoint leaves those steps out.

    Args:
        name: Of the diary.
        diary: Opened at its first point.
        about: The run.
        say: Takes the line that says that it failed.

    Raises:
        RunFailed: `loggers.json` is damaged.
    """

    def __init__(self, name: str, diary: Diary, about: About, say: Callable[[str], None]) -> None:
        super().__init__()
        self._name, self.diary, self.about, self.say = name, diary, about, say
        self.path = about.folder / KEPT
        self.failed = self.is_open = False
        self._pending: list[Point] = []
        kept = read_kept(self.path).get(name, {})
        self._found: Mapping[str, Any] = kept.get("run", {})
        self._given: dict[str, int] = dict(kept.get("given", {}))
        self._number: int = kept.get("points", 0)

    @property
    def name(self) -> str:
        """Of the diary."""
        return self._name

    @property
    def version(self) -> str:
        """Empty: it has its own."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.about.folder)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the diary has the recipe from its beginning."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | Tensor], step: int | None = None) -> None:
        """A point: at once into a live diary, else when it is kept."""
        group = _group(metrics)
        numbers = {
            name if "/" in name else f"{group}/{name}": float(value)
            for name, value in metrics.items()
            if name != LIGHTNINGS
        }
        point = Point(group, step or 0, numbers, time.time())
        self._pending.append(point)
        if self.diary.live:
            self._write()

    @rank_zero_only
    def keep(self) -> None:
        """What was logged so far is about to be kept, in a checkpoint or for good."""
        self._write()
        if self.is_open:
            self._try(self._flush)

    @rank_zero_only
    def finish(self, numbers: Mapping[str, float], step: int) -> None:
        """The numbers of the end, measured behind so many steps."""
        self.keep()
        named = {f"final/{name}": value for name, value in numbers.items()}
        self._try(lambda: self._open().finish(named, step))
        self._try(self._flush)

    @rank_zero_only
    def close(self, ended: str) -> None:
        """Let go of the diary: `done`, `stopped` or `failed`. What is not kept is not written."""
        if self.is_open:
            self._try(lambda: self.diary.close(ended))
        self.is_open = False

    def _write(self) -> None:
        fresh = [p for p in self._pending if self.diary.live or p.step > self._given.get(p.group, -1)]
        self._pending = []
        if fresh:
            self._try(lambda: self._give(fresh))

    def _give(self, points: Sequence[Point]) -> None:
        numbered = [replace(point, number=self._number + n) for n, point in enumerate(points, 1)]
        self._open().write(numbered)
        self._number += len(numbered)
        self._given |= {point.group: point.step for point in numbered}

    def _open(self) -> Diary:
        if not self.is_open:
            self._found = self.diary.begin(self.about, self._found)
            self.is_open = True
        return self.diary

    def _flush(self) -> None:
        """Bring what was given to the disk, and say beside it what that is."""
        self.diary.flush()
        if not self.diary.live:
            kept = {"run": dict(self._found), "points": self._number, "given": self._given}
            write_json(self.path, read_kept(self.path) | {self.name: kept})

    def _try(self, action: Callable[[], None]) -> None:
        """What fails in a diary is said once, and it is left alone from then on."""
        if self.failed:
            return
        try:
            action()
        except Exception as error:  # of a library, a disk, a network: no reason to lose a training
            self.failed = True
            said = " ".join(str(error).split()) or "no reason given"
            self.say(
                f"warning: the logger '{self.name}' failed, and gets nothing more until the run is taken up "
                f"again: {type(error).__name__}: {said}"
            )


def read_kept(path: Path) -> dict[str, Any]:
    """`loggers.json`; empty where there is none.

    Raises:
        RunFailed: It is damaged.
    """
    check_file(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not _is_sound(found):
        raise _damaged(path, "it holds something else than ids and steps")
    return found


def _is_sound(found: Any) -> bool:
    if not isinstance(found, dict):
        return False
    for kept in found.values():
        if not isinstance(kept, dict):
            return False
        run, given, points = kept.get("run", {}), kept.get("given", {}), kept.get("points", 0)
        if not (isinstance(run, dict) and isinstance(given, dict) and isinstance(points, int)):
            return False
        if not all(isinstance(value, str) for value in run.values()):
            return False
        if not all(isinstance(step, int) for step in given.values()):
            return False
    return True


def _damaged(path: Path, why: str) -> RunFailed:
    return RunFailed(
        f"{path} is damaged ({why}). It says under which ids the loggers find the run again. Delete it, and "
        "they begin another one."
    )


def _group(metrics: Mapping[str, Any]) -> str:
    """Of the first metric that has one; `run` where none has."""
    return next((name.rpartition("/")[0] for name in sorted(metrics) if "/" in name), "run")
