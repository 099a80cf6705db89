"""Study: a base recipe, a grid of axes over it, what is shared, what is matched, and what is asked of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from calmkit.recipe.errors import Mark, refuse, suggest
from calmkit.recipe.load import find_recipe, load_recipe
from calmkit.recipe.schema import NAME, Recipe
from calmkit.recipe.tree import Items, Keys, Node, Scalar, parse
from calmkit.registry import Manager
from calmkit.studies.relation import Relate, read_relate
from calmkit.studies.sampling import SamplingWish, read_sampling, refuse_impossible

VERSION = "1"
LABEL = "label"
KEYS = (
    "calmkit_study",
    "name",
    "description",
    "base",
    "share",
    "match",
    "grid",
    "set",
    "seeds",
    "baseline",
    "relate",
    "samplers",
    "sampling_units",
)
SHARED = ("autoencoder",)
MATCHED = ("train_flops", "steps")


@dataclass(frozen=True)
class Cell:
    """One run of a study: its label, and its recipe before its budget is known."""

    label: str
    recipe: Recipe
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A study, every cell's recipe read and checked.

    Attributes:
        share: `autoencoder`: trained once for all cells that agree on it.
        match_by: `train_flops`: every cell trains for the FLOPs of the baseline's budget, its autoencoder
            included.
        baseline: Label of the cell that sets the budget and is compared against.
        relate: Which two measures of the points on the way are set against each other.
        sampling: Samplers that every trained cell is measured under.
        overrides: From the command line, laid over the base of every cell.
    """

    name: str
    description: str
    base: str
    share: tuple[str, ...]
    match_by: str
    cells: tuple[Cell, ...]
    baseline: str
    text: str
    relate: Relate | None = None
    sampling: SamplingWish | None = None
    overrides: tuple[str, ...] = ()


def load_study(name_or_path: str, manager: Manager, overrides: Sequence[str] = ()) -> Study:
    """Read a study and all its cells.

    Args:
        name_or_path: A shipped study or a file.
        manager: Parts.
        overrides: Of the base recipe, such as `data.train=a.txt`; they come after the study's `set` and
            before what its grid varies.

    Raises:
        RecipeError: For the study's own keys, for any cell's recipe, and for an override of what the grid
            varies.
    """
    path = _find(name_or_path)
    text = _read(path)
    root = _checked_keys(parse(text, str(path)), path)
    base = _text(root, "base")
    if base.endswith((".yaml", ".yml")):
        base = str(path.parent / base)  # as `extends` of a recipe: beside the file that names it
    cells = _cells(root, base, manager, overrides)
    sampling = read_sampling(root, manager)
    refuse_impossible(sampling, root, [cell.recipe for cell in cells], manager)
    return Study(
        name=_name(root),
        description=_text(root, "description") if "description" in root.nodes else "",
        base=base,
        share=_one_of(root, "share", SHARED),
        match_by=_match(root),
        cells=cells,
        baseline=_baseline(root, [cell.label for cell in cells]),
        text=text,
        relate=read_relate(root),
        sampling=sampling,
        overrides=tuple(overrides),
    )


def _checked_keys(root: Node, path: Path) -> Keys:
    """The study as a mapping whose keys are known, with those it can't do without, of this version."""
    if not isinstance(root, Keys):
        raise refuse("CK101", "a study is a mapping of keys", Mark(str(path), 1, 1))
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


def _baseline(root: Keys, labels: list[str]) -> str:
    """The label of the cell that the others are compared with; no two cells may share one."""
    for label in labels:
        if labels.count(label) > 1:
            message = f"{labels.count(label)} cells are called '{label}'; give them labels of their own"
            raise refuse("CK133", message, root.key_marks["grid"], "grid")
    baseline = _text(root, "baseline") if "baseline" in root.nodes else labels[0]
    if baseline not in labels:
        raise refuse(
            "CK133",
            f"no cell is called '{baseline}'",
            root.key_marks["baseline"],
            "baseline",
            suggest(baseline, labels, "cells"),
        )
    return baseline


def _cells(root: Keys, base: str, manager: Manager, given: Sequence[str]) -> tuple[Cell, ...]:
    grid = root.nodes["grid"]
    if not isinstance(grid, Keys) or not grid.nodes:
        raise refuse(
            "CK132", "a grid is a mapping of axes, each a list of values", root.key_marks["grid"], "grid"
        )
    axes: list[list[tuple[str, list[str]]]] = []
    for axis, values in grid.nodes.items():
        if not isinstance(values, Items) or not values.nodes:
            raise refuse(
                "CK132", f"the axis '{axis}' is a list of values", grid.key_marks[axis], f"grid.{axis}"
            )
        axes.append([_value(axis, value) for value in values.nodes])
    fixed = _settings(root.nodes["set"]) if "set" in root.nodes else []
    seeds = _texts(root.nodes["seeds"]) if "seeds" in root.nodes else [None]
    if not seeds:
        raise refuse(
            "CK133", "seeds is an empty list", root.key_marks["seeds"], "seeds", "leave it out, or name some"
        )
    varied = {_key(o) for axis in axes for _, settings in axis for o in settings}
    _refuse_varied(given, varied | ({"seed"} if "seeds" in root.nodes else set()))
    cells = []
    for seed in seeds:
        for combination in product(*axes):
            label = " ".join(label for label, _ in combination) + (f" seed {seed}" if len(seeds) > 1 else "")
            overrides = [
                *fixed,
                *given,
                *(f"seed={seed}" for _ in [0] if seed),
                *(o for _, os in combination for o in os),
            ]
            recipe = load_recipe(base, overrides=overrides, manager=manager)
            if recipe.stages.lm is None:
                message = f"the cell '{label}' trains no language model: its stages.lm is null"
                raise refuse(
                    "CK144", message, root.key_marks["grid"], "grid", "a study compares language models"
                )
            cells.append(Cell(label, recipe, tuple(overrides)))
    return tuple(cells)


def _refuse_varied(given: Sequence[str], varied: set[str]) -> None:
    """An override of a key that the cells set themselves would be lost in silence."""
    for override in given:
        if _key(override) in varied:
            raise refuse(
                "CK133",
                f"'{_key(override)}' is what the cells of this study vary",
                Mark(f"command line ({override})"),
                help="copy the study's file and change its grid",
            )


def _key(override: str) -> str:
    return override.partition("=")[0].strip().removesuffix(".name")


def _value(axis: str, node: Node) -> tuple[str, list[str]]:
    """Label and overrides of one value of an axis: a scalar for the key of that name, or several keys at
    once.
    """
    if isinstance(node, Scalar):
        return f"{axis.rsplit('.', 1)[-1]}={node.text}" if axis != "head" else node.text, [
            f"{axis}={node.text}"
        ]
    if not isinstance(node, Keys):
        raise refuse(
            "CK132", f"a value of the axis '{axis}' is a scalar or a mapping", node.mark, f"grid.{axis}"
        )
    settings = _settings(node.without(LABEL))
    label = node.nodes.get(LABEL)
    return label.text if isinstance(label, Scalar) else " ".join(settings), settings


def _settings(node: Node) -> list[str]:
    if not isinstance(node, Keys):
        raise refuse("CK132", "expected a mapping of recipe keys to values", node.mark)
    return [f"{key}={_flow(value)}" for key, value in node.nodes.items()]


def _flow(node: Node) -> str:
    """A tree as the text of an override."""
    if isinstance(node, Scalar):
        return node.text if not node.quoted else "'" + node.text.replace("'", "''") + "'"
    if isinstance(node, Items):
        return "[" + ", ".join(map(_flow, node.nodes)) + "]"
    return "{" + ", ".join(f"{key}: {_flow(value)}" for key, value in node.nodes.items()) + "}"


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


def _match(root: Keys) -> str:
    if "match" not in root.nodes:
        return MATCHED[0]
    node = root.nodes["match"]
    by = node.nodes.get("by") if isinstance(node, Keys) else None
    if not isinstance(by, Scalar) or by.text not in MATCHED:
        value = by.text if isinstance(by, Scalar) else ""
        raise refuse(
            "CK133", "match says by what", root.key_marks["match"], "match.by", suggest(value, MATCHED, "by")
        )
    return by.text


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
