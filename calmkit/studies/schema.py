"""Study: a base recipe, a grid of axes over it, what is shared, what is matched, and what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from calmkit.recipe.errors import refuse
from calmkit.recipe.load import find_recipe
from calmkit.recipe.schema import PartSpec
from calmkit.recipe.tree import parse
from calmkit.registry import Manager
from calmkit.results.relation import Relate
from calmkit.results.scaling import Fit
from calmkit.studies.blocks import Blocks, read_blocks
from calmkit.studies.cells import Cell, read_cells
from calmkit.studies.fit import read_fit
from calmkit.studies.kinds import kind_of_cells
from calmkit.studies.launcher_choice import is_launcher, read_launcher
from calmkit.studies.match import Match, read_match
from calmkit.studies.rankable import of_kind, rankable
from calmkit.studies.relate import on_the_way, read_relate, relate_words
from calmkit.studies.sampling import SamplingWish, read_sampling, refuse_impossible
from calmkit.studies.study_keys import (
    checked_keys,
    read_baseline,
    read_name,
    read_primary,
    read_seeds,
    read_shared,
    read_text,
    refuse_unmeasured,
    refuse_without_effect,
)


@dataclass(frozen=True)
class Study:
    """A study, every cell's recipe read and checked.

    Attributes:
        share: `autoencoder`: trained once for all cells that agree on it, in all studies.
        match: What every cell pays equally.
        primary: The measure that cells are ranked by.
        baseline: Label of the cell that sets the budget and is compared against.
        relate: Which two measures of the points on the way are set against each other.
        fit: Which numbers a power law in size and length is fitted to.
        sampling: Samplers that every trained cell is measured under.
        blocks: Lengths of rows that every trained cell is measured on.
        launcher: How its processes are started.
        overrides: From the command line: those of the base of every cell, and of the launcher.
    """

    name: str
    description: str
    base: str
    share: tuple[str, ...]
    match: Match
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    primary: str
    baseline: str
    text: str
    path: Path
    relate: Relate | None = None
    fit: Fit | None = None
    sampling: SamplingWish | None = None
    blocks: Blocks | None = None
    launcher: PartSpec = field(default_factory=lambda: PartSpec("local"))
    overrides: tuple[str, ...] = ()


def load_study(name_or_path: str, manager: Manager, overrides: Sequence[str] = ()) -> Study:
    """Read a study and all its cells.

    Args:
        name_or_path: A shipped study or a file.
        manager: Parts.
        overrides: Of the base recipe, such as `data.train=a.txt`; they come after the study's `set` and
            before what its grid varies. Those of `launcher` say how the study is started.

    Raises:
        RecipeError: For the study's own keys, for any cell's recipe, and for an override of what the grid
            varies.
    """
    path = _find(name_or_path)
    return read_study(_read(path), path, manager, overrides)


def read_study(text: str, path: Path, manager: Manager, overrides: Sequence[str] = ()) -> Study:
    """A study from its text, as `load_study` reads it; a base that is a file lies beside `path`."""
    root = checked_keys(parse(text, str(path)))
    base = read_text(root, "base")
    if base.endswith((".yaml", ".yml")):
        base = str(path.parent / base)  # as `extends` of a recipe: beside the file that names it
    given = [override for override in overrides if not is_launcher(override)]
    cells = read_cells(root, base, manager, given, read_seeds(root))
    recipes = [recipe for cell in cells for recipe in cell.recipes]
    name, kind = kind_of_cells(recipes, root, manager)
    match = read_match(root, kind.words.element)
    refuse_without_effect(root, match, kind.words.element)
    sampling = read_sampling(root, manager, kind)
    known = of_kind(rankable(manager), name)
    refuse_impossible(sampling, root, recipes, manager)
    relate = read_relate(
        root,
        relate_words(kind.words, on_the_way(recipes, manager)),
        {one: it.number.name for one, it in known.items()},
        {one for cell in cells for one in cell.settings},
    )
    fit = read_fit(root, cells, known)
    for key, names in (("relate", (relate.x, relate.y) if relate else ()), ("fit", fit.y if fit else ())):
        for one in names:
            if one in known:
                refuse_unmeasured(root, key, f"{key} asks for '{one}'", known[one], recipes)
    return Study(
        name=read_name(root),
        description=read_text(root, "description") if "description" in root.nodes else "",
        base=base,
        share=read_shared(root),
        match=match,
        cells=cells,
        seeds=tuple(recipe.seed for recipe in cells[0].recipes),
        primary=read_primary(root, known, recipes, kind.words.primary),
        baseline=read_baseline(root, cells),
        text=text,
        path=path,
        relate=relate,
        fit=fit,
        sampling=sampling,
        blocks=read_blocks(root, recipes, kind),
        launcher=read_launcher(root, overrides, manager),
        overrides=tuple(overrides),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise refuse("CK100", f"no file '{path}'") from None
    except UnicodeDecodeError as error:
        raise refuse("CK100", f"'{path}' is not UTF-8: byte {error.start}") from None
    except OSError as error:
        raise refuse("CK100", f"'{path}' cannot be read: {error.strerror}") from None


def _find(name_or_path: str) -> Path:
    """A study file: a path, or the name of a shipped one with or without `studies/`."""
    name = name_or_path
    return find_recipe(
        name if name.endswith((".yaml", ".yml")) or name.startswith("studies/") else f"studies/{name}"
    )
