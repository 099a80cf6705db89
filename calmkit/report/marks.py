"""marks: by which protocol each cell was measured, where cells of one table were not all measured alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def mark(summary: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    """` [a]`, ` [b]`, ...: which of several protocols a cell was measured by; empty where there is one."""
    protocols = summary.get("protocols", [])
    if len(protocols) < 2:
        return ""
    found = (number for number, one in enumerate(protocols) if cell["label"] in one["cells"])
    return next((f" [{_letter(number)}]" for number in found), "")


def marked_label(summary: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    """What a table calls a cell: its label, and its mark if it has one."""
    return f"{cell['label']}{mark(summary, cell)}"


def _letter(number: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    more, last = divmod(number, 26)
    return (_letter(more - 1) if more else "") + chr(ord("a") + last)


def protocol_notes(summary: Mapping[str, Any]) -> list[str]:
    """How the scores were measured, under its name; one sentence for each of several protocols."""
    protocols = summary.get("protocols", [])
    if len(protocols) == 1:
        return [f"Protocol {one['name']}: {one['told']}." for one in protocols]
    return [f"[{_letter(number)}] {one['name']}: {one['told']}." for number, one in enumerate(protocols)]
