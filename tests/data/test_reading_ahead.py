"""A process that reads ahead ends with the one that trains, also where that one went before it looked."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys, time
from calmkit.data.reading_ahead import ReadsAhead

late = sys.argv[1] == "late"
read, write = os.pipe()
if not (trains := os.fork()):
    begins = ReadsAhead()
    if not os.fork():
        while late and os.getppid() == begins.parent:
            time.sleep(0.01)
        begins(0)
        os.write(write, b"begun")
        time.sleep(600)
    if late:
        os._exit(0)
    os.read(read, 5)
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(trains, 0)
os.close(write)
print(os.read(read, 5))
"""


@pytest.mark.parametrize("when", ["late", "early"])
def test_it_does_not_outlive_who_trains(when: str) -> None:
    """The pipe's end is read only when nobody holds it any more."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, when], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "b''\n"
