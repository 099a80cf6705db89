"""What an evaluation that is written anew keeps: numbers of metrics that nobody asked for this time.

`evaluation.metrics` is no part of a protocol, for metrics change no other number. So who asks for one more
loses none that was measured before, as long as both are of one protocol and of one file.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from calmkit.interfaces import HeldOutMeasure
from calmkit.registry import Manager
from calmkit.training.errors import RunFailed
from calmkit.training.groups import measures_with_groups
from calmkit.training.measures import SETTINGS
from calmkit.training.protocol import KEY, Protocol
from calmkit.training.run import read_json


def kept_numbers(
    evaluation: Path, protocol: Protocol, asked: Collection[str], manager: Manager, group: str
) -> dict[str, dict[str, Any]]:
    """Measure -> its stored names and what they hold, of the measures that are not asked for.

    Args:
        evaluation: The file that will be written; what another protocol left there is not kept.
        protocol: Of the evaluation that will be written.
        asked: Measures whose numbers are replaced, those that could not be taken too.
        manager: Knows measures; one whose plugin has gone is known by its settings, or by its table.
        group: The word of their kind of data for what units come from, by which tables are called.
    """
    try:
        before = read_json(evaluation) if evaluation.exists() else {}
    except RunFailed:  # damaged, and about to be replaced
        return {}
    said = before.get(KEY)
    if not isinstance(said, dict) or said.get("name") != protocol.name:
        return {}
    measures = {
        name for name, part in manager.parts["metrics"].items() if issubclass(part.cls, HeldOutMeasure)
    }
    measures |= {name.removesuffix(f"_{SETTINGS}") for name in before if name.endswith(f"_{SETTINGS}")}
    measures |= {*asked, *measures_with_groups(evaluation, group)}
    found: dict[str, dict[str, Any]] = {}
    for name, value in before.items():
        owners = [one for one in measures if name == one or name.startswith(f"{one}_")]
        owner = max(owners, key=len, default=None)  # of `a` and `a_b`, `a_b_low` is of the second
        known = not isinstance(value, float) or math.isfinite(value)
        if owner is not None and owner not in asked and known:
            found.setdefault(owner, {})[name] = value
    return found
