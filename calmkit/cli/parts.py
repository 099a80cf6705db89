"""What parts there are, and what one of them takes: the words of `ls` and `show`."""

from __future__ import annotations

import inspect
import re
from typing import Any

from calmkit.registry import KINDS, Manager, Part

Rows = list[dict[str, str]]


def part_rows(manager: Manager, kind: str) -> Rows:
    """Name, plugin and summary of every part of a kind; of metrics their numbers, and which way is better."""
    parts = sorted(manager.parts[kind].items())
    rows = [{"name": name, "plugin": part.plugin, "summary": part.summary} for name, part in parts]
    if kind != "metrics":
        return rows
    numbers = manager.numbers()
    for row in rows:
        own = [f"{stored} ({n.better})" for stored, (n, part) in numbers.items() if part.name == row["name"]]
        row["numbers"] = ", ".join(own)
    return rows


def parts_called(manager: Manager, name: str) -> list[Part]:
    """The parts of that name, of any kind."""
    return [manager.parts[kind][name] for kind in KINDS if name in manager.parts[kind]]


def plugin_rows(manager: Manager) -> Rows:
    """Every plugin with its parts; what was left out with the reason."""
    rows = []
    for plugin in manager.plugins:
        offers = [
            f"{kind}/{name}"
            for kind in KINDS
            for name, p in manager.parts[kind].items()
            if p.plugin == plugin
        ]
        rows.append({"name": plugin, "state": "in use", "parts or reason": ", ".join(offers)})
    left_out = [
        {"name": r.plugin, "state": "left out", "parts or reason": r.reason} for r in manager.rejected
    ]
    return rows + left_out


def setting_rows(part: Part) -> Rows:
    """Name, type, default and meaning of every setting of a part; the meaning is what its docstring says."""
    from calmkit.recipe.convert import describe

    meanings = arguments(inspect.getdoc(part.cls) or "")
    return [
        {
            "setting": setting.name,
            "type": describe(setting.annotation),
            "default": "(required)" if setting.required else _shown(setting.default),
            "meaning": meanings.get(setting.name, ""),
        }
        for setting in part.settings.values()
    ]


def documentation(part: Part) -> str:
    """The docstring of the part without its arguments, which `setting_rows` tells."""
    return _ARGUMENTS.sub("", inspect.getdoc(part.cls) or "").strip()


_ARGUMENTS = re.compile(r"^Args:\n(?P<body>(?:[ \t]+\S.*(?:\n|$)|[ \t]*\n)*)", re.MULTILINE)
_ARGUMENT = re.compile(r"^\*{0,2}(?P<name>\w+)(?: *\([^)]*\))?: *(?P<text>.*)$")


def arguments(docstring: str) -> dict[str, str]:
    """What the section `Args:` of a docstring says of each argument, in one line each."""
    section = _ARGUMENTS.search(docstring)
    if section is None:
        return {}
    lines = inspect.cleandoc("\n" + section["body"]).splitlines()
    said: dict[str, list[str]] = {}
    for line in lines:
        begun = _ARGUMENT.match(line)
        if begun:
            said[begun["name"]] = [begun["text"]]
        elif said and line.startswith((" ", "\t")):
            said[next(reversed(said))].append(line.strip())
    return {name: " ".join(filter(None, text)) for name, text in said.items()}


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
