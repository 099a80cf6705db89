"""Jobs of a few milliseconds for the tests of launchers, and what can be seen of them afterwards."""

from __future__ import annotations

import fcntl
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from calmkit.interfaces import Job, Launcher

RELAY = """
import json, os, sys, time
folder, number, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
here = dict(os.environ, start=time.monotonic())
open(f"{folder}/start-{number}", "w").close()
end = time.monotonic() + 20
while number < last and not os.path.exists(f"{folder}/start-{number + 1}"):
    if time.monotonic() > end:
        sys.exit(9)
    time.sleep(0.01)
with open(f"{folder}/seen-{number}", "w") as file:
    json.dump(dict(here, end=time.monotonic()), file)
"""
"""It ends once the next one has started: without two at once, none of a row gets on."""

ENDLESS = """
import fcntl, signal, sys, time
for name in sys.argv[2:]:
    signal.signal(getattr(signal, name), signal.SIG_IGN)
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
file.write("locked")
file.flush()
time.sleep(600)
"""
"""It holds a lock on a file as long as it lives; the signals named can't end it."""


def python(folder: Path, code: str, *arguments: object, name: str = "job", **wishes: Any) -> Job:
    """A job that runs Python code."""
    command = (sys.executable, "-I", "-S", "-c", code, *map(str, arguments))
    return Job(name, command, folder / name / "job.log", **wishes)


def relay(folder: Path, *wishes: dict[str, Any], waits: bool = True) -> list[Job]:
    """Jobs 0, 1, ... of which each waits for the next to start, with the wishes given."""
    last = len(wishes) - 1 if waits else 0
    return [python(folder, RELAY, folder, i, last, name=str(i), **wish) for i, wish in enumerate(wishes)]


def run(launcher: Launcher, jobs: list[Job]) -> dict[str, int]:
    """Codes by name, in the order of ending."""
    codes: dict[str, int] = {}
    launcher.run(jobs, lambda job, code: codes.update({job.name: code}))
    return codes


def seen(folder: Path, number: int) -> dict[str, Any]:
    """What a job of a relay saw: its environment, `start` and `end`."""
    return json.loads((folder / f"seen-{number}").read_text(encoding="utf-8"))


def beside(folder: Path, number: int, count: int) -> set[int]:
    """Which jobs of a relay ran together with that one at some time."""
    mine, others = seen(folder, number), {i: seen(folder, i) for i in range(count) if i != number}
    return {i for i, other in others.items() if other["start"] < mine["end"] and mine["start"] < other["end"]}


def log(job: Job) -> str:
    return job.log.read_text(encoding="utf-8")


def wait_for(what: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def wait_for_lock(path: Path) -> None:
    wait_for(lambda: path.exists() and path.read_text(encoding="utf-8") == "locked")


def locked(path: Path) -> bool:
    """Whether the endless job of that file is alive."""
    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
