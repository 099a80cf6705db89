"""places: paths of this machine, and what opens accounts, taken out of what is handed on.

A path becomes the last of its names. A setting is one where it begins at the root, at home or above the
current folder, whatever it is for; among other words a path has two names at least.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WHOLE = re.compile(r"(file:|~[^/\\\s]*[/\\]|/|\\\\|[A-Za-z]:[/\\]|\.\.[/\\])")
NAME = r"[^\s/\\:;,'\"<>|?()\[\]{}=]+"
STEP = rf"[/\\]+{NAME}"
WITHIN = re.compile(
    rf"(?<![\w:/.~\\-])(?:file:/*)?(?:(?:~[\w.-]*|\.\.|[A-Za-z]:)(?:{STEP})+|(?:{STEP}){{2,}})[/\\]?"
)
ACCOUNT = re.compile(r"(?<=://)[^/@\s]*@")
PROSE = ("description",)
AS_IT_IS = ("name", "sample_prompt")
"""Keys of a recipe that are said as they are: the prompt is what the model goes on from."""


def without_places(value: Any, *, prose: bool = True) -> Any:
    """Plain values without paths of this machine.

    Args:
        value: A text, number, list or mapping of them; keys stay.
        prose: Whether a text may hold paths among other words; else it is one as a whole, or none.
    """
    if isinstance(value, Mapping):
        return {key: without_places(one, prose=prose) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(one, prose=prose) for one in value]
    if not isinstance(value, str):
        return value
    text = ACCOUNT.sub("", value)
    if WHOLE.match(text) and not (prose and re.search(r"\s", text)):
        return last_name(text) or text
    return _without_those_within(text) if prose else text


def recipe_without_places(values: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved recipe as plain values: settings that are paths keep their last name."""
    found = {}
    for key, value in values.items():
        if key in AS_IT_IS:
            found[key] = value
        elif isinstance(value, Mapping):
            found[key] = recipe_without_places(value)
        else:
            found[key] = without_places(value, prose=key in PROSE)
    return found


def last_name(path: str) -> str:
    """`/a/b.txt` -> b.txt, of either way of writing paths."""
    return next((name for name in reversed(re.split(r"[/\\]+", path)) if name), "")


def _without_those_within(text: str) -> str:
    for known in sorted({str(Path.cwd()), str(Path.home())}, key=len, reverse=True):
        if len(known) > 1:
            text = text.replace(f"{known}/", "")
    return WITHIN.sub(lambda found: last_name(found[0]), text)
