"""Legs: where a run was gone on with otherwise than it began, written into its lock."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from calmkit.recipe.dump import as_dict, flat
from calmkit.recipe.schema import Recipe
from calmkit.training.checkpoints import write_text
from calmkit.training.errors import RunFailed
from calmkit.training.resume import Resumed, Wishes
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
    def told(self) -> str:
        """In words."""
        words = [f"{key} {json.dumps(a)} -> {json.dumps(b)}" for key, (a, b) in self.changed.items()]
        words += ["a batch left out"] * self.skip_batch
        words += [f"{self.lr_scale:g} of the learning rate"] * (self.lr_scale != 1)
        return f"from step {self.step:,} of stage {self.stage} on: {', '.join(words)}"


def note_leg(run: Run, before: Recipe, recipe: Recipe, resumed: Resumed) -> None:
    """Write into the lock of a run what it follows from here on, if that is something else than before.

    What steers no training is left out: evaluation, sampler, loggers, the steps between checkpoints.
    """
    stage, step = resumed.place(recipe)
    then, now = flat(as_dict(before)), flat(as_dict(recipe))
    changed = {
        key: [then.get(key), now.get(key)]
        for key in sorted(then.keys() | now.keys())
        if key.startswith(STEERS) and not key.startswith(WITHOUT_EFFECT) and then.get(key) != now.get(key)
    }
    wishes = resumed.wishes
    if resumed.trained or not (changed or wishes.skip_batch or wishes.lr_scale != 1):
        return
    leg = {"stage": stage, "step": step, "skip_batch": wishes.skip_batch, "lr_scale": wishes.lr_scale}
    path = run.folder / "lock.yaml"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if KEY not in run.lock:
        text += f"{KEY}:\n"
    write_text(path, f"{text}  - {json.dumps({**leg, 'changed': changed})}\n")


def legs_of(lock: Mapping[str, Any]) -> list[Leg]:
    """Of a run, the first one first.

    Raises:
        RunFailed: They can't be read.
    """
    try:
        return [Leg(**found) for found in lock.get(KEY, [])]
    except TypeError as error:
        raise RunFailed(f"lock.yaml: {KEY} can't be read ({error}).") from error
