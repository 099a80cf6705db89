"""half_done: whether a run folder that did not end is gone on with, or set aside and begun anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from calmkit.recipe.dump import as_dict, flat
from calmkit.recipe.schema import Recipe
from calmkit.studies.failures import failed_by_itself, work_folder
from calmkit.studies.store import WITHOUT_EFFECT
from calmkit.training.checkpoints import write_text
from calmkit.training.run_folder import RESOLVED, holds_work

MARK = "went-on.txt"


def can_go_on(folder: Path, recipe: Recipe) -> bool:
    """Whether a run folder holds work of a recipe that is worth going on with.

    Not where the recipe it was begun with is another one, and not where it went on already, came no further,
    and failed by itself: it would fail again.
    """
    if not holds_work(folder) or _told(folder) != _plain(as_dict(recipe)):
        return False
    return not (failed_by_itself(folder) and _marked(folder) == _reached(folder))


def mark_going_on(folder: Path) -> None:
    """Note from where a run folder is gone on with."""
    write_text(work_folder(folder) / MARK, _reached(folder))


def forget_going_on(folder: Path) -> None:
    """The next try begins anew."""
    (work_folder(folder) / MARK).unlink(missing_ok=True)


def _reached(folder: Path) -> str:
    """The checkpoints that there are, and whether a model is."""
    found = sorted((folder / "checkpoints").rglob("*.json"))
    model = (folder / "model" / "config.json").is_file()
    return "\n".join([*(str(path.relative_to(folder)) for path in found), f"model: {model}"])


def _marked(folder: Path) -> str | None:
    try:
        return (work_folder(folder) / MARK).read_text(encoding="utf-8")
    except OSError:
        return None


def _told(folder: Path) -> dict[str, Any] | None:
    try:
        values = yaml.safe_load((folder / RESOLVED).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return _plain(values) if isinstance(values, dict) else None


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe without what changes no result."""
    found = flat(values)
    return {
        key: value
        for key, value in found.items()
        if not any(key == lead or key.startswith(f"{lead}.") for lead in WITHOUT_EFFECT)
    }
