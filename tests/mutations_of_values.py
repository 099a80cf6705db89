"""What may happen to the values of a recipe: each changes them, and says whether they must be refused."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from calmkit.recipe.schema import SECTIONS
from calmkit.registry import Manager

NUMBERS = (
    0, -1, 1, 2, 3, 7, 10**9, 10**18, 2**63, -(2**63), 10**40, 0.0, -0.5, 0.3, 1e-30, 1e30, 1e308, 5e-324,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
TEXTS = ("", " ", "true", "null", "1_000", "0x10", "010", "1:30", "1e3", "é", "語", "🙂", "\u202e", "../../x",
         "/", ".", "a" * 3000, "energy", "auto", "-1", "nan", ".inf", "*.txt", "a\nb", "\ufeff",
         "\u0085")  # fmt: skip
JUNK: tuple[Any, ...] = (
    None, [], {}, [[]], [None], {"": ""}, {"a": {"b": {"c": []}}}, [1, "a", None, {}], {"name": None},
    {"name": ["energy"]}, {"name": {"name": "energy"}}, True, False, ["csv", "csv"], {"energy": 1},
)  # fmt: skip


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from _places(child, (*path, key))


def _in(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _a_place(draw: random.Random, tree: Any, kind: type | tuple[type, ...] = object) -> tuple[Any, ...]:
    places = [path for path in _places(tree) if isinstance(_in(tree, path), kind)]
    return draw.choice(places) if places else draw.choice(list(_places(tree)))


def _put(tree: Any, path: tuple[Any, ...], value: Any) -> None:
    _in(tree, path[:-1])[path[-1]] = value


def _dropped(draw: random.Random, tree: Any, manager: Manager) -> bool:
    del manager
    path = _a_place(draw, tree)
    del _in(tree, path[:-1])[path[-1]]
    return False


def _renamed(draw: random.Random, tree: Any, manager: Manager) -> bool:
    del manager
    path = draw.choice([path for path in _places(tree) if isinstance(path[-1], str)])
    holder = _in(tree, path[:-1])
    holder[draw.choice(("x", "", "é", path[-1] + "_", path[-1].upper(), path[-1][::-1]))] = holder.pop(
        path[-1]
    )
    return path[-1][::-1] != path[-1]


def _other_number(draw: random.Random, tree: Any, manager: Manager) -> bool:
    del manager
    path = _a_place(draw, tree, (int, float))
    number = draw.choice(NUMBERS)
    was = _in(tree, path)
    _put(tree, path, number)
    numeric = isinstance(was, int | float) and not isinstance(was, bool)
    return numeric and isinstance(number, float) and not -1e400 < number < 1e400


def _two_numbers(draw: random.Random, tree: Any, manager: Manager) -> bool:
    _other_number(draw, tree, manager)
    _other_number(draw, tree, manager)  # perhaps in place of the first
    return False


def _other_text(draw: random.Random, tree: Any, manager: Manager) -> bool:
    del manager
    _put(tree, _a_place(draw, tree), draw.choice(TEXTS))
    return False


def _junk(draw: random.Random, tree: Any, manager: Manager) -> bool:
    del manager
    _put(tree, _a_place(draw, tree), copy.deepcopy(draw.choice(JUNK)))
    return False


def _nothing(draw: random.Random, tree: Any, manager: Manager) -> bool:
    del manager
    _put(tree, _a_place(draw, tree), None)
    return False


def _listed(draw: random.Random, tree: Any, manager: Manager) -> bool:
    del manager
    path = _a_place(draw, tree, (str, int, float))
    _put(tree, path, [_in(tree, path)])
    return isinstance(path[-1], str) and path[-1] not in ("train", "valid")


def _moved(draw: random.Random, tree: Any, manager: Manager) -> bool:
    """A key and its value, into another section."""
    del manager
    path, to = _a_place(draw, tree), _a_place(draw, tree, dict)
    into = _in(tree, to)
    if isinstance(into, dict) and isinstance(path[-1], str):
        into[path[-1]] = copy.deepcopy(_in(tree, path))
    return False


SECTION_KINDS = {**SECTIONS}


def _other_part(draw: random.Random, tree: Any, manager: Manager) -> bool:
    """A part of the same kind, with its own defaults or the old options."""
    section, kind = draw.choice(list(SECTION_KINDS.items()))
    name = draw.choice(sorted(manager.parts[kind]))
    if draw.random() < 0.6 or not isinstance(tree.get(section), dict):
        tree[section] = name
    else:
        tree[section]["name"] = name
    return False


def _wrong_part(draw: random.Random, tree: Any, manager: Manager) -> bool:
    """The name of a part of another kind."""
    section, kind = draw.choice(list(SECTION_KINDS.items()))
    other = draw.choice(sorted(set(SECTION_KINDS.values()) - {kind}))
    name = draw.choice(sorted(manager.parts[other]))
    tree[section] = {"name": name}
    return name not in manager.parts[kind]


def _own_options(draw: random.Random, tree: Any, manager: Manager) -> bool:
    """A part with several of its settings at random numbers."""
    section, kind = draw.choice(list(SECTION_KINDS.items()))
    part = manager.parts[kind][draw.choice(sorted(manager.parts[kind]))]
    settings = draw.sample(sorted(part.settings), min(len(part.settings), draw.choice((1, 2, 3))))
    tree[section] = {
        "name": part.name,
        **{name: draw.choice((*NUMBERS[:12], *JUNK[:3])) for name in settings},
    }
    return False


def _transformed(draw: random.Random, tree: Any, manager: Manager) -> bool:
    names = [*sorted(manager.parts["transforms"]), "none"]
    tree["transforms"] = [draw.choice(names) for _ in range(draw.choice((1, 2, 3)))]
    return "none" in tree["transforms"]


def _measured(draw: random.Random, tree: Any, manager: Manager) -> bool:
    tree.setdefault("evaluation", {})
    if isinstance(tree["evaluation"], dict):
        tree["evaluation"]["metrics"] = draw.sample(sorted(manager.parts["metrics"]), draw.choice((1, 1, 2)))
    return False


def _many(draw: random.Random, tree: Any, manager: Manager) -> bool:
    """Three of the others, one after another."""
    for _ in range(3):
        draw.choice([_dropped, _other_number, _other_text, _nothing, _other_part])(draw, tree, manager)
    return False


OF_VALUES: Mapping[str, Callable[[random.Random, Any, Manager], bool]] = {
    "a key dropped": _dropped,
    "a key renamed": _renamed,
    "another number": _other_number,
    "two other numbers": _two_numbers,
    "another text": _other_text,
    "junk": _junk,
    "null": _nothing,
    "a list for a value": _listed,
    "a key moved": _moved,
    "another part": _other_part,
    "a part of another kind": _wrong_part,
    "settings of a part": _own_options,
    "transforms": _transformed,
    "metrics": _measured,
    "three at once": _many,
}
