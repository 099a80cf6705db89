"""Legs: where a run was gone on with otherwise than it began, written into its lock."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, final

from calmkit.recipe.dump import as_dict, flat
from calmkit.recipe.schema import Recipe
from calmkit.training.checkpoints import write_text
from calmkit.training.errors import RunFailed
from calmkit.training.resume import STAGES, Resumed, Wishes
from calmkit.training.run import Run

KEY = "went_on"
"""Of `lock.yaml`: a list, the first leg first; it is missing where nothing was ever changed on the way."""

STEERS = ("stages.", "trainer.")
WITHOUT_EFFECT = ("trainer.workers", "trainer.checkpoint", "trainer.explosion")


@final
@dataclass(frozen=True)
class Leg:
    """From where on a run followed something else.

    Attributes:
        stage: That went on.
        step: Steps of it that were taken before.
        skip_batch: Its next batch was left out.
        lr_scale: Factor on its learning rate from there on.
        changed: Dotted key of the recipe -> its value before, and from there on.
    """

    stage: str
    step: int
    skip_batch: bool = False
    lr_scale: float = 1.0
    changed: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def wishes(self) -> Wishes:
        """With which it went on."""
        return Wishes(skip_batch=self.skip_batch, lr_scale=self.lr_scale)

    @property
    def matters(self) -> bool:
        """Whether anything is different from it on."""
        return bool(self.changed) or self.skip_batch or self.lr_scale != 1

    @property
    def told(self) -> str:
        """In words."""
        words = [f"{key} {json.dumps(a)} -> {json.dumps(b)}" for key, (a, b) in self.changed.items()]
        words += ["a batch left out"] * self.skip_batch
        words += [f"{self.lr_scale:g} of the learning rate"] * (self.lr_scale != 1)
        return f"from step {self.step:,} of stage {self.stage} on: {', '.join(words)}"


def note_leg(run: Run, before: Recipe, recipe: Recipe, resumed: Resumed) -> None:
    """Write into the lock of a run what it follows from here on, if that is something else than before.

    What steers no training is left out: evaluation, sampler, when it is saved, loggers but `csv`.
    Where the run stands before a leg, since the checkpoints behind it were not whole, that one begins here.

    Raises:
        RunFailed: The legs that are there can't be read.
    """
    if resumed.trained:
        return
    here, wishes = resumed.place(recipe), resumed.wishes
    known = legs_of(run.lock)
    legs = [leg if _order(leg.stage, leg.step) <= _order(*here) else _moved(leg, *here) for leg in known]
    legs.append(Leg(*here, wishes.skip_batch, wishes.lr_scale, _changed(before, recipe)))
    legs = [leg for leg in legs if leg.matters]
    if legs == known:
        return
    path = run.folder / "lock.yaml"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [f"  - {json.dumps(asdict(leg))}\n" for leg in legs]
    write_text(path, text.partition(f"{KEY}:\n")[0] + f"{KEY}:\n" * bool(legs) + "".join(lines))


def legs_of(lock: Mapping[str, Any]) -> list[Leg]:
    """Of a run, the first one first.

    Raises:
        RunFailed: They can't be read.
    """
    found = lock.get(KEY, [])
    try:
        legs = [Leg(**leg) for leg in found]
        sound = all(
            leg.stage in STAGES and leg.step >= 0 and all(len(pair) == 2 for pair in leg.changed.values())
            for leg in legs
        )
    except (TypeError, AttributeError):
        sound = False
    if not sound:
        raise RunFailed(f"lock.yaml: {KEY} can't be read: {found!r:.200}. Take the file from a copy.")
    return legs


def _changed(before: Recipe, recipe: Recipe) -> dict[str, list[Any]]:
    then, now = flat(as_dict(before)), flat(as_dict(recipe))
    return {
        key: [then.get(key), now.get(key)]
        for key in sorted(then.keys() | now.keys())
        if key.startswith(STEERS) and not key.startswith(WITHOUT_EFFECT) and then.get(key) != now.get(key)
    } | ({"loggers": [then["loggers"], now["loggers"]]} if _logs(then) != _logs(now) else {})


def _logs(values: Mapping[str, Any]) -> bool:
    """Whether a recipe writes `metrics.csv`."""
    return any(logger["name"] == "csv" for logger in values["loggers"])


def _order(stage: str, step: int) -> tuple[int, int]:
    return STAGES.index(stage), step


def _moved(leg: Leg, stage: str, step: int) -> Leg:
    """What was wished behind the step is undone with it; the recipe stays."""
    return Leg(stage, step, changed=leg.changed)
