"""Trainings that are killed with SIGKILL at random moments end as if nobody had killed them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from killed_runs import kill_many
from small_runs import workshop

KILLS = 20


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with workshop(tmp_path):
        yield tmp_path


def test_twenty_kills_leave_no_trace(folder: Path) -> None:
    """Before the first step, in steps, between the stages, while checkpoints are written, and at the end.

    The moments are random, so each call tries others; the seed is in the message of a failure.
    """
    seed = random.SystemRandom().randrange(10**6)
    found = kill_many(folder, KILLS, seed, at_once=2)
    print(seed, Counter(hit for one in found for hit in one.hits), [round(one.seconds) for one in found])
    assert [one for one in found if one.differs] == [], seed
    assert sum(len(one.hits) for one in found) == KILLS
