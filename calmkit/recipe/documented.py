"""documented: what a docstring says of each argument or attribute, in one line each."""

from __future__ import annotations

import inspect
import re

SECTION = re.compile(r"^(?:Args|Attributes):\n(?P<body>(?:[ \t]+\S.*(?:\n|$)|[ \t]*\n)*)", re.MULTILINE)
_ARGUMENT = re.compile(r"^\*{0,2}(?P<name>\w+)(?: *\([^)]*\))?: *(?P<text>.*)$")


def arguments(docstring: str) -> dict[str, str]:
    """What the section `Args:` (or `Attributes:`) of a docstring says of each argument, in one line each."""
    section = SECTION.search(docstring)
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
