"""reproduce: a run trained again from its own recipe, and what came out compared to the last bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from calmkit.recipe.assemble import validate
from calmkit.recipe.difference import Difference, differences, shown
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, make_manager
from calmkit.training.again import train_again
from calmkit.training.difference import made_with_of
from calmkit.training.errors import RunFailed
from calmkit.training.exported import is_exported
from calmkit.training.lock import surroundings
from calmkit.training.outcome import Outcome, outcomes
from calmkit.training.progress import Progress, Say, said_once, say_nothing
from calmkit.training.run import Run, is_rank_zero

IMPORTED = "none: "
"""What a lock's `data` begins with, of a run that was not trained here."""


@final
@dataclass(frozen=True)
class Reproduction:
    """A run and its repetition.

    Attributes:
        again: The new run.
        made_with: What was not as it had been: versions, plugins, commits, data, machine.
        outcomes: Of each comparison.
    """

    again: Run
    made_with: list[Difference]
    outcomes: list[Outcome]

    @property
    def same(self) -> bool:
        """Whether all came out the same."""
        return all(outcome.same for outcome in self.outcomes)

    @property
    def verdict(self) -> str:
        """One line."""
        if self.same:
            return f"reproduced: {self.again.folder} is the same to the last bit"
        other = [outcome.what for outcome in self.outcomes if not outcome.same]
        why = ", ".join(one.key for one in self.made_with) or "nothing that a lock tells"
        return f"not reproduced: {', '.join(other)} differ; made otherwise: {why}"


def reproduce(
    folder: Path, *, out: Path | None = None, say: Say = print, manager: Manager | None = None
) -> Reproduction | None:
    """Train a run's resolved recipe again, and compare.

    Args:
        folder: Of a run that ended.
        out: The new run's; default `runs/<name>/<stamp>/`.
        say: Takes each line of what happens.
        manager: Parts; default all that are installed.

    Returns:
        What was found; None in processes of other ranks than 0.

    Raises:
        RunFailed: The run did not end, or was not trained here.
        RecipeError: Its recipe can't be trained any more.
    """
    manager, run, say = manager or make_manager(), Run(folder), said_once(say)
    recipe, lock = run.recipe(manager), run.lock
    _refuse_what_never_ended(run, lock)
    validate(recipe, manager)
    with _threads(lock.get("threads")):
        made_with = _made_otherwise(recipe, manager, lock)
        for one in made_with:
            say(f"made otherwise: {one.key}: {shown(one.a)} then, {shown(one.b)} now")
        if not made_with:
            say("made with the same versions, plugins, commits, data and machine")
        again = train_again(run, out=out, say=say, manager=manager)
    if not is_rank_zero():
        return None
    return Reproduction(again, made_with, outcomes(run, again))


def _refuse_what_never_ended(run: Run, lock: Mapping[str, Any]) -> None:
    if str(lock.get("data", "")).startswith(IMPORTED):
        raise RunFailed(f"{run.folder} was imported, not trained, so there is nothing to train again.")
    if is_exported(run.folder):
        raise RunFailed(
            f"{run.folder} was exported: it holds a model, and nothing of how it was trained. Reproduce the "
            "run that it came from."
        )
    if not lock:
        raise RunFailed(f"{run.folder} has no lock.yaml that can be read, which says what it was made with.")
    if not run.weights.is_file():
        raise RunFailed(
            f"{run.folder} did not end, so there is nothing to compare with; `calmkit train {run.folder}` "
            "goes on with it."
        )


def _made_otherwise(recipe: Recipe, manager: Manager, lock: Mapping[str, Any]) -> list[Difference]:
    """What the lock names and is another now; the data are prepared for it, which training finds done."""
    now = {"data": kind_of(recipe, manager).prepare(recipe, manager, Progress(say_nothing)).fingerprint}
    then = made_with_of(lock)
    found = differences(then, made_with_of(now | surroundings()))
    return [one for one in found if one.key.partition(".")[0] in lock]  # an older lock told less


@contextmanager
def _threads(count: object) -> Iterator[None]:
    """As many of torch's threads as the run had: sums of another number round otherwise."""
    before = torch.get_num_threads()
    if isinstance(count, int) and count > 0:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
