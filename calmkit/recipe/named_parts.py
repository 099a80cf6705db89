"""Parts of a manager by what they are: what a refusal names as its cure."""

from __future__ import annotations

from collections.abc import Collection

from calmkit.interfaces import DensityHead, GenerativeHead
from calmkit.registry import Manager


def named_parts(manager: Manager, kind: str, cls: type, sizes: Collection[str] | None = None) -> str:
    """The names of the parts of a kind whose class is a `cls`; `none` for none.

    Args:
        manager: Where parts are looked up.
        kind: Of part, such as `backbones`.
        cls: Of those that are named.
        sizes: What is known of the data: parts that are built with more are left out. None: none is.
    """
    found = [
        name
        for name, part in sorted(manager.parts[kind].items())
        if issubclass(part.cls, cls) and (sizes is None or set(part.sizes) <= set(sizes))
    ]
    return ", ".join(found) or "none"


def dense_heads(manager: Manager, event: str) -> str:
    """The names of the heads that know their density and take that kind of event; `none` for none."""
    every = ((name, head_class(manager, name)) for name in sorted(manager.parts["heads"]))
    found = [name for name, cls in every if issubclass(cls, DensityHead) and event in cls.info.events]
    return ", ".join(found) or "none"


def head_class(manager: Manager, name: str) -> type[GenerativeHead]:
    """The class of a head, with its facts."""
    return manager.find("heads", name).cls
