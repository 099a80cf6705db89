"""What parts there are, and what one of them takes: the words of `ls` and `show`."""

from __future__ import annotations

import inspect
from typing import Any

from calmkit.interfaces import Embedder, GenerativeHead, HeldOutMeasure, Measure
from calmkit.recipe.documented import SECTION, arguments
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
    """The docstring without its arguments, which `setting_rows` tells, and the facts of the class."""
    told = SECTION.sub("", inspect.getdoc(part.cls) or "").strip()
    facts = _measure_facts(part.name, part.cls) if issubclass(part.cls, Measure) else _facts(part.cls)
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
        "can't be guided" if info.guidance == "none" else f"is guided by its {info.guidance}",
        "holds in half precision" if info.half_precision else "is called in float32",
    ]
    return f"Facts: {'; '.join([*facts, *(['reads the whole past'] if info.needs_memory else [])])}."


def _measure_facts(name: str, cls: type[Measure]) -> str:
    """What a measure states on its class: its numbers under the names that an evaluation stores, what it
    needs of a head, and whether a recipe asks for it.
    """
    info = cls.info
    numbers = [f"{stored} is {n.name}, {n.better} is better" for stored, n in info.named(name).items()]
    if not issubclass(cls, HeldOutMeasure):
        return f"Facts: {'; '.join([*numbers, 'in every evaluation where it is known'])}."
    needs = [f"needs a {' and a '.join(need.__name__ for need in info.needs)}"] if info.needs else []
    events = f"is of {' and '.join(sorted(info.events))} events"
    return f"Facts: {'; '.join([*numbers, *needs, events, f'evaluation.metrics=[{name}] asks for it'])}."


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
