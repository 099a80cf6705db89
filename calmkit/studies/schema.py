"""Study: a base recipe, a grid of axes over it, what is shared, what is matched, and what is asked of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from calmkit.recipe.errors import refuse, suggest
from calmkit.recipe.load import find_recipe
from calmkit.recipe.schema import NAME, PartSpec
from calmkit.recipe.tree import Items, Keys, Node, Scalar, parse
from calmkit.registry import Manager
from calmkit.studies.axes import picks, read_axes, read_pick
from calmkit.studies.blocks import Blocks, read_blocks
from calmkit.studies.cells import Cell, read_cells
from calmkit.studies.launcher_choice import is_launcher, read_launcher
from calmkit.studies.match import Match, read_match
from calmkit.studies.relation import Relate, read_relate
from calmkit.studies.sampling import SamplingWish, read_sampling, refuse_impossible

VERSION = "1"
KEYS = (
    "calmkit_study",
    "name",
    "description",
    "base",
    "share",
    "match",
    "grid",
    "exclude",
    "when",
    "set",
    "seeds",
    "primary",
    "baseline",
    "relate",
    "samplers",
    "sampling_units",
    "blocks",
    "launcher",
)
SHARED = ("autoencoder",)
PRIMARY = {
    "brier_lm": True,
    **{f"brier_{n}": True for n in (1, 2, 3, 4)},
    "nll_per_token": False,
    "nll_bound_per_token": False,
    "latent_nll": False,
    "tokens_per_second": True,
    "reconstruction_token_accuracy": True,
    "reconstruction_chunk_accuracy": True,
}
"""Measures that a study may be about, and whether more is better."""


@dataclass(frozen=True)
class Study:
    """A study, every cell's recipe read and checked.

    Attributes:
        share: `autoencoder`: trained once for all cells that agree on it, in all studies.
        match: What every cell pays equally.
        primary: The measure that cells are ranked by.
        baseline: Label of the cell that sets the budget and is compared against.
        relate: Which two measures of the points on the way are set against each other.
        sampling: Samplers that every trained cell is measured under.
        blocks: Lengths of text that every trained cell is measured on.
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
    root = _checked_keys(parse(text, str(path)), path)
    base = _text(root, "base")
    if base.endswith((".yaml", ".yml")):
        base = str(path.parent / base)  # as `extends` of a recipe: beside the file that names it
    given = [override for override in overrides if not is_launcher(override)]
    match, seeds = read_match(root), _seeds(root)
    cells = read_cells(root, base, manager, given, seeds)
    _refuse_without_effect(root, match)
    sampling = read_sampling(root, manager)
    recipes = [recipe for cell in cells for recipe in cell.recipes]
    refuse_impossible(sampling, root, recipes, manager)
    return Study(
        name=_name(root),
        description=_text(root, "description") if "description" in root.nodes else "",
        base=base,
        share=_one_of(root, "share", SHARED),
        match=match,
        cells=cells,
        seeds=tuple(recipe.seed for recipe in cells[0].recipes),
        primary=_primary(root),
        baseline=_baseline(root, cells),
        text=text,
        path=path,
        relate=read_relate(root),
        sampling=sampling,
        blocks=read_blocks(root, recipes),
        launcher=read_launcher(root, overrides, manager),
        overrides=tuple(overrides),
    )


def _checked_keys(root: Node, path: Path) -> Keys:
    """The study as a mapping whose keys are known, with those it can't do without, of this version."""
    if not isinstance(root, Keys):
        raise refuse("CK101", "a study is a mapping of keys", root.mark)
    for key in root.nodes:
        if key not in KEYS:
            raise refuse(
                "CK130",
                f"unknown key '{key}' of a study",
                root.key_marks[key],
                key,
                suggest(key, KEYS, "keys"),
            )
    for key in ("calmkit_study", "name", "base", "grid"):
        if key not in root.nodes:
            raise refuse("CK131", f"a study needs the key '{key}'", root.mark, key)
    if _text(root, "calmkit_study") != VERSION:
        raise refuse(
            "CK105", f"this calmkit reads studies of version {VERSION}", root.key_marks["calmkit_study"]
        )
    return root


def _baseline(root: Keys, cells: Sequence[Cell]) -> str:
    """The label of the cell that the others are compared with: named by label, or picked by a mapping."""
    labels = [cell.label for cell in cells]
    node = root.nodes.get("baseline")
    if node is None:
        return labels[0]
    if isinstance(node, Scalar):
        if node.text not in labels:
            message = f"no cell is called '{node.text}'"
            help = suggest(node.text, labels, "cells")
            raise refuse("CK133", message, root.key_marks["baseline"], "baseline", help)
        return node.text
    pick = read_pick(node, read_axes(root), "baseline")
    found = [cell.label for cell in cells if picks(pick, cell.settings)]
    if len(found) != 1:
        told = ", ".join(f"'{label}'" for label in found) or "none"
        message = f"the baseline is one cell, and this picks {len(found)}: {told}"
        raise refuse("CK133", message, root.key_marks["baseline"], "baseline", suggest("", labels, "cells"))
    return found[0]


def _refuse_without_effect(root: Keys, match: Match) -> None:
    """An axis over steps says nothing where the budget sets the steps."""
    if not match.sets_steps:
        return
    for axis in read_axes(root):
        for value in axis:
            for setting in value.settings:
                if setting.key == "stages.lm.max_steps":
                    message = f"match by {match.by} sets the steps, so this axis would change nothing"
                    help = "match: {by: steps} takes each cell's own steps"
                    raise refuse("CK133", message, setting.mark, "grid.stages.lm.max_steps", help)


def _seeds(root: Keys) -> list[str | None]:
    if "seeds" not in root.nodes:
        return [None]
    mark = root.key_marks["seeds"]
    seeds = _texts(root.nodes["seeds"])
    if not seeds:
        raise refuse("CK133", "seeds is an empty list", mark, "seeds", "leave it out, or name some")
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise refuse("CK133", f"the seed {seed} stands {seeds.count(seed)} times", mark, "seeds")
    return [*seeds]


def _primary(root: Keys) -> str:
    if "primary" not in root.nodes:
        return "brier_lm"
    name = _text(root, "primary")
    if name not in PRIMARY:
        message = f"no study can be ranked by '{name}'"
        raise refuse(
            "CK133", message, root.key_marks["primary"], "primary", suggest(name, PRIMARY, "measures")
        )
    return name


def _name(root: Keys) -> str:
    """The study's name, which is also a folder of `runs/studies`."""
    name = _text(root, "name")
    if not re.fullmatch(NAME.pattern, name):
        raise refuse("CK133", f"name must be like {NAME}, got '{name}'", root.key_marks["name"], "name")
    return name


def _text(root: Keys, key: str) -> str:
    node = root.nodes[key]
    if not isinstance(node, Scalar):
        raise refuse("CK132", f"'{key}' is a text", root.key_marks[key], key)
    return node.text


def _texts(node: Node) -> list[str]:
    if not isinstance(node, Items) or not all(isinstance(item, Scalar) for item in node.nodes):
        raise refuse("CK132", "expected a list of texts", node.mark)
    return [item.text for item in node.nodes if isinstance(item, Scalar)]


def _one_of(root: Keys, key: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if key not in root.nodes:
        return ()
    values = tuple(_texts(root.nodes[key]))
    for value in values:
        if value not in known:
            raise refuse(
                "CK133",
                f"'{value}' can't be shared",
                root.key_marks[key],
                key,
                suggest(value, known, "shareable"),
            )
    return values


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
