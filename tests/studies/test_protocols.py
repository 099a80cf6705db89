"""Cells of one table in groups whose scores mean the same."""

from __future__ import annotations

from typing import Any

from calmkit.report.marks import mark, protocol_notes
from calmkit.studies.protocols import measured_alike, told_protocols
from calmkit.training.protocol import Protocol


def cell(label: str, protocol: Protocol | None) -> dict[str, Any]:
    """With one finished trial, or one that is open."""
    if protocol is None:
        return {"label": label, "trials": [{"state": "open"}]}
    return {"label": label, "trials": [{"state": "done", "protocol": protocol.as_dict()}]}


def test_what_is_not_known_of_a_cell_joins_no_two_groups_that_differ() -> None:
    cells = [
        cell("open", None),
        cell("unknown", Protocol("f00d", 256)),
        cell("few", Protocol("f00d", 256, 8, 2)),
        cell("many", Protocol("f00d", 256, 64, 2)),
        cell("fast", Protocol("f00d", 256, 64, 2, "vote()", "bf16-mixed", "cuda")),
    ]
    groups = [[one["label"] for one in alike] for _, alike in measured_alike(cells)]
    assert groups == [["open", "unknown", "few"], ["many", "fast"]]  # sampler and device are no score's


def test_marks_stand_where_there_are_several() -> None:
    one, other = (
        cell(name, Protocol("f00d", 256, rows, 2, length="tokens")) for name, rows in (("a", 8), ("b", 64))
    )
    alone = {"protocols": told_protocols(measured_alike([one]))}
    assert mark(alone, one) == ""
    assert protocol_notes(alone)[0].startswith("Protocol rows8-tokens256-draws2-")
    both = {"protocols": told_protocols(measured_alike([one, other]))}
    assert (mark(both, one), mark(both, other)) == (" [a]", " [b]")
    assert [note[:9] for note in protocol_notes(both)] == ["[a] rows8", "[b] rows6"]
    many = {"protocols": [{"name": "", "told": "", "cells": [str(i)]} for i in range(28)]}
    assert mark(many, {"label": "27"}) == " [ab]"
    assert mark({}, one) == ""
    assert told_protocols(measured_alike([cell("open", None)])) == []
