"""Trainings that are killed with SIGKILL at random moments end as if nobody had killed them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from killed_runs import WORDS, Killed, killed, undisturbed
from small_runs import workshop

KILLS, RUNS = 20, 4


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with workshop(tmp_path):
        yield tmp_path


def test_twenty_kills_leave_no_trace(folder: Path) -> None:
    """Twenty over four runs, two at a time: in imports, in steps, and while checkpoints are written.

    The moments are random, so each call tries others; the seeds are in the message of a failure.
    """
    seeds = [random.SystemRandom().randrange(10**6) for _ in range(RUNS)]
    print("seeds", seeds)
    recipe = folder / "small.yaml"
    whole = undisturbed(recipe, folder, WORDS)
    each = KILLS // RUNS

    def tried(number: int) -> Killed:
        workers = (f"trainer.workers={number % 2}",)  # processes that read ahead may outlive a killed one
        return killed(recipe, folder, (*WORDS, *workers), whole, seeds[number], each)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(tried, range(RUNS)))
    print(Counter(hit for one in found for hit in one.hits), [round(one.seconds) for one in found])
    assert [(one.seed, one.differs) for one in found] == [(seed, []) for seed in seeds]
    assert sum(len(one.hits) for one in found) >= KILLS - RUNS  # a run may end before its last kill
