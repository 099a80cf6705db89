"""`load_recipe`: a shipped recipe by name, or any by path, with its parents and the command line's words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calmkit.recipe.build import build_recipe
from calmkit.recipe.dump import to_yaml
from calmkit.recipe.errors import Mark, refuse, suggest
from calmkit.recipe.merge import merge, short_parts
from calmkit.recipe.overrides import read_overrides
from calmkit.recipe.resolved import RESOLVED
from calmkit.recipe.schema import Recipe, Source
from calmkit.recipe.shipped import SUFFIXES, is_shipped, shipped_files, shipped_recipes, shipped_root
from calmkit.recipe.tree import Keys, Scalar, leaves, parse
from calmkit.registry import Manager, make_manager
from calmkit.sums import fault_of

__all__ = ["SUFFIXES", "find_recipe", "load_recipe", "shipped_files", "shipped_recipes", "to_yaml"]


def load_recipe(
    name_or_path: str | Path, overrides: Sequence[str] = (), manager: Manager | None = None
) -> Recipe:
    """Read a recipe whole: parents first, then the file, then swaps of parts, then the other overrides.

    Args:
        name_or_path: A shipped recipe (`tiny/energy`) or a file that ends in `.yaml`.
        overrides: Such as `head=flow` or `stages.lm.max_steps=100`.
        manager: Where parts are looked up; None: a fresh one.

    Raises:
        RecipeError: With the place of everything that is wrong.
    """
    manager = manager or make_manager()
    notes: list[str] = []
    path, place = _find(str(name_or_path), None, Mark(""))
    text = _read(path, place, Mark(""))
    tree = _with_parents(text, path, place, manager, (), notes)
    if "name" not in tree.nodes:
        mark = Mark(f"the name of {place}")
        tree = tree.with_key("name", Scalar(_name_of(path, place), mark, quoted=True), mark)
    if is_shipped(path):
        notes.clear()  # what its author swapped is no news to whoever runs it
    for override in read_overrides(overrides):
        merged = merge(tree, short_parts(override), manager, notes)
        assert isinstance(merged, Keys)
        tree = merged
    tree = short_parts(tree)
    source = Source(text, place, tuple(overrides), dict(leaves(tree)), tuple(notes))
    return build_recipe(tree, manager, source)


def find_recipe(name_or_path: str | Path) -> Path:
    """The file of a shipped recipe or study by name, or any file that ends in `.yaml`.

    Raises:
        RecipeError: CK100, with the near misses.
    """
    return _find(str(name_or_path), None, Mark(""))[0]


def _name_of(path: Path, place: str) -> str:
    return Path(place).with_suffix("").as_posix() if is_shipped(path) else path.stem


def _find(name: str, beside: Path | None, mark: Mark) -> tuple[Path, str]:
    """The file and what errors call it."""
    if name.endswith(SUFFIXES):
        path = Path(name) if beside is None else beside.parent / name
        if is_shipped(path):
            return path, path.resolve().relative_to(shipped_root().resolve()).as_posix()
        return path, str(path)
    files = shipped_files()
    if name in files:
        return files[name], f"{name}.yaml"
    noun, kind = (
        ("study", shipped_files("studies")) if name.startswith("studies/") else ("recipe", shipped_recipes())
    )
    help = suggest(name, kind, f"{noun.replace('y', 'ie')}s")
    if Path(name).is_file():
        help = f"the file of that name must end in .yaml to be read; {help}"
    at, key = (mark, "extends") if mark.place else (None, "")
    raise refuse("CK100", f"no {noun} '{name}'", at, key, help)


def _read(path: Path, place: str, mark: Mark) -> str:
    at, key = (mark, "extends") if mark.place else (None, "")
    fault = fault_of(path) if path.name == RESOLVED else ""
    if fault:
        raise refuse("CK100", fault, at, key)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise refuse("CK100", f"no file '{place}'", at, key) from None
    except UnicodeDecodeError as error:
        message = f"'{place}' is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}"
        raise refuse("CK100", message, at, key) from None
    except OSError as error:
        raise refuse("CK100", f"'{place}' cannot be read: {error.strerror}", at, key) from None


def _with_parents(
    text: str, path: Path, place: str, manager: Manager, trail: tuple[Path, ...], notes: list[str]
) -> Keys:
    """The tree of a file over the trees of what it extends."""
    tree = parse(text, place)
    if not isinstance(tree, Keys):
        raise refuse(
            "CK132", "a recipe must be a mapping", tree.mark, help="begin with 'extends: tiny/energy'"
        )
    if "calmkit_study" in tree.nodes:
        message = f"'{place}' is a study, not a recipe"
        raise refuse(
            "CK100", message, tree.mark, help=f"calmkit study run {path.stem if is_shipped(path) else place}"
        )
    parent = tree.nodes.get("extends")
    if parent is None:
        return short_parts(tree)
    if not isinstance(parent, Scalar) or parent.is_null:
        raise refuse("CK132", "extends must be a text", parent.mark, "extends")
    parent_path, parent_place = _find(parent.text, path, parent.mark)
    trail = (*trail, path.resolve())
    if parent_path.resolve() in trail:
        circle = " -> ".join(p.name for p in (*trail, parent_path))
        raise refuse("CK104", f"the recipes extend each other in a circle: {circle}", parent.mark, "extends")
    parent_text = _read(parent_path, parent_place, parent.mark)
    base = _with_parents(parent_text, parent_path, parent_place, manager, trail, [])
    merged = merge(base.without("name", "description"), tree.without("extends"), manager, notes)
    assert isinstance(merged, Keys)
    return short_parts(merged)
