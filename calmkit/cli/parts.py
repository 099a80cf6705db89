"""What parts there are, and what one of them takes: the words of `ls` and `show`."""

from __future__ import annotations

import inspect
from typing import Any

from calmkit.interfaces import Embedder, GenerativeHead
from calmkit.registry import KINDS, Manager, Part

Rows = list[dict[str, str]]


def part_rows(manager: Manager, kind: str) -> Rows:
    """Name, plugin and summary of every part of a kind."""
    parts = sorted(manager.parts[kind].items())
    return [{"name": name, "plugin": part.plugin, "summary": part.summary} for name, part in parts]


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
    """Name, type and default of every setting of a part."""
    from calmkit.recipe.convert import describe

    return [
        {
            "setting": setting.name,
            "type": describe(setting.annotation),
            "default": "(required)" if setting.required else _shown(setting.default),
        }
        for setting in part.settings.values()
    ]


def documentation(part: Part) -> str:
    """The docstring of the part, and the facts that its class states."""
    told = inspect.getdoc(part.cls) or ""
    facts = _facts(part.cls)
    return f"{told}\n\n{facts}" if facts else told


def _facts(cls: type) -> str:
    """What a head or an embedder states on its class, in one sentence; nothing for other kinds."""
    if issubclass(cls, Embedder):
        return f"Facts: reads {'data and latents' if cls.reads == 'both' else cls.reads}."
    if not issubclass(cls, GenerativeHead):
        return ""
    info = cls.info
    none = "no temperature of its own"
    facts = [
        f"a draw is {info.sampling.replace('_', ' ')}",
        none if info.temperature == "none" else f"a temperature acts on its {info.temperature}",
        f"takes {' and '.join(sorted(info.events))} events",
        f"honours {', '.join(sorted(info.options)) or 'no option'} of a draw",
        "holds in half precision" if info.half_precision else "is called in float32",
    ]
    return f"Facts: {'; '.join([*facts, *(['reads the whole past'] if info.needs_memory else [])])}."


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
