"""Trainings that are killed with SIGKILL at random moments end as if nobody had killed them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import workshop

KILLS, TIME_LIMIT = 20, 1800
SCRIPT = Path(__file__).parents[1] / "killed_runs.py"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with workshop(tmp_path):
        yield tmp_path


def test_twenty_kills_leave_no_trace(folder: Path) -> None:
    """Before the first step, in steps, and while checkpoints are written; half of them in runs with a process
    that reads ahead, which may outlive one that is killed. Two runs go on at a time.

    The moments are random, so each call tries others; the seed is in the message of a failure.
    """
    seed = random.SystemRandom().randrange(10**6)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), "small.yaml", str(workers), str(KILLS // 2), str(seed + workers)],
            cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for workers in (0, 1)
    ]  # fmt: skip
    told = [process.communicate(timeout=TIME_LIMIT) for process in both]
    assert [process.returncode for process in both] == [0, 0], (seed, told)
    found = [json.loads(line) for out, _ in told for line in out.splitlines()]
    print(
        seed, Counter(hit for one in found for hit in one["hits"]), [round(one["seconds"]) for one in found]
    )
    assert [one for one in found if one["differs"]] == [], seed
    assert sum(len(one["hits"]) for one in found) == KILLS
