"""The laws of launchers."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calmkit.interfaces import Job, Launcher
from calmkit.testing import laws
from calmkit.testing.laws import Subject

SPEAK = "import sys; print('said out'); print('said err', file=sys.stderr)"
EXIT = "import sys; sys.exit(3)"
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
BEAT = """
import sys, time
while True:
    open(sys.argv[1], "a").write("x")
    time.sleep(0.02)
"""
UNTIL = """
import os, sys, time
end = time.monotonic() + float(sys.argv[2])
while not os.path.exists(sys.argv[1]) and time.monotonic() < end:
    time.sleep(0.02)
"""
PATIENCE = 10.0
"""Seconds that a job waits for another that is to run beside it."""


@dataclass
class Listener:
    """Takes down what a launcher tells: jobs, codes and threads."""

    told: list[tuple[Job, int, threading.Thread]] = field(default_factory=list)

    def __call__(self, job: Job, code: int) -> None:
        """A job has ended."""
        self.told.append((job, code, threading.current_thread()))


def check_launcher(part: str | type[Launcher], jobs_folder: Path | None = None, **settings: Any) -> None:
    """Hold a launcher to its contract.

    Laws: constructor; without jobs nothing is told; each job is told once, from the caller's thread; exit
    codes, negative for signals; what a job writes is appended to its log, in a folder that may be new; a job
    that can't be started has another code than 0 and a log that says why; KeyboardInterrupt is raised again
    and stops the jobs that run.

    Args:
        part: Name in the registry, or a class.
        jobs_folder: Where the jobs write; None: a temporary folder of this machine.
        settings: Keyword settings of the launcher.

    Raises:
        AssertionError: Naming launcher, law and what was seen.
    """
    with laws.undisturbed():
        subject = laws.subject("launchers", part, settings)
        launcher: Launcher = subject.build()
    with tempfile.TemporaryDirectory(dir=jobs_folder, ignore_cleanup_errors=True) as made:
        _check_nothing(subject, launcher)
        _check_ends(subject, launcher, Path(made))
        _check_interrupt(subject, launcher, Path(made))


@laws.law("without jobs nothing is told")
def _check_nothing(part: Subject, launcher: Launcher) -> None:
    listener = Listener()
    launcher.run([], listener)
    part.require(not listener.told, "without jobs nothing is told", f"{listener.told}")


def _python(folder: Path, name: str, code: str, *arguments: str) -> Job:
    return Job(name, (sys.executable, "-I", "-S", "-c", code, *arguments), folder / name / "job.log")


@laws.law("each job is told once")
def _check_ends(part: Subject, launcher: Launcher, folder: Path) -> None:
    speaks, exits = _python(folder, "speaks", SPEAK), _python(folder, "exits", EXIT)
    killed = _python(folder, "killed", KILLED)
    missing = Job("missing", (str(folder / "no-such-program"),), folder / "missing" / "job.log")
    speaks.log.parent.mkdir()
    speaks.log.write_text("from before\n", encoding="utf-8")
    listener = Listener()
    launcher.run([speaks, exits, missing, killed], listener)
    names = sorted(job.name for job, _, _ in listener.told)
    part.require(names == ["exits", "killed", "missing", "speaks"], "each job is told once", f"told {names}")
    strangers = {thread.name for *_, thread in listener.told} - {threading.current_thread().name}
    part.require(not strangers, "jobs are told from the caller's thread", f"told from {strangers}")
    codes = {job.name: code for job, code, _ in listener.told}
    for name, wanted in (("speaks", 0), ("exits", 3), ("killed", -9)):
        seen = f"'{name}' has {codes[name]}, not {wanted}; its log: {_log(folder / name / 'job.log')!r}"
        part.require(codes[name] == wanted, "exit codes are those of the processes", seen)
    log = _log(speaks.log)
    kept = log.startswith("from before\n") and "said out" in log and "said err" in log
    part.require(kept, "output and errors are appended to the log", f"the log is {log!r}")
    log = _log(missing.log)
    seen = f"code {codes['missing']}, log {log!r}"
    refused = codes["missing"] != 0 and "no-such-program" in log
    part.require(refused, "a job that can't be started has failed, and its log says why", seen)


@laws.law("KeyboardInterrupt is raised again and stops the jobs that run")
def _check_interrupt(part: Subject, launcher: Launcher, folder: Path) -> None:
    """One job ends once the other beats; told of it, the listener interrupts, and the beating must stop."""
    law, beats = "KeyboardInterrupt is raised again and stops the jobs that run", folder / "beats"

    def interrupt(job: Job, code: int) -> None:
        raise KeyboardInterrupt

    jobs: Sequence[Job] = [
        _python(folder, "ends", UNTIL, str(beats), str(PATIENCE)),
        _python(folder, "endless", BEAT, str(beats)),
    ]
    try:
        launcher.run(jobs, interrupt)
    except KeyboardInterrupt:
        before = _log(beats)
        time.sleep(0.2)
        part.require(before == _log(beats), law, "a job was still writing after that")
    else:
        part.require(False, law, "run() returned")


def _log(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
