"""The conformance kit sees what is wrong with launchers that keep every law but one."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from calmkit.interfaces import Ended, Job, Launcher
from calmkit.launchers import local
from calmkit.launchers.local import LocalLauncher
from calmkit.testing.launchers import check_launcher


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "usable_cores", lambda: 2)
    monkeypatch.setattr(local, "visible_accelerators", lambda: ())


class Talks(Launcher):
    """It tells of a job that nobody gave it."""

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        ended(Job("own", ("any",), Path("any")), 0)


class Repeats(Launcher):
    """It tells of each job twice."""

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        def tell(job: Job, code: int) -> None:
            ended(job, code)
            ended(job, code)

        LocalLauncher().run(jobs, tell)


class Elsewhere(Launcher):
    """It tells of jobs from a thread of its own."""

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        thread = threading.Thread(target=LocalLauncher().run, args=(jobs, ended))
        thread.start()
        thread.join()


class Unsigned(Launcher):
    """It has codes of signals as numbers above 0."""

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        LocalLauncher().run(jobs, lambda job, code: ended(job, abs(code)))


class Overwrites(Launcher):
    """It writes logs anew."""

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        for job in jobs:
            job.log.unlink(missing_ok=True)
        LocalLauncher().run(jobs, ended)


class Silent(Launcher):
    """It does not say why a job can't be started."""

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        def tell(job: Job, code: int) -> None:
            if code == 127:
                job.log.write_text("", encoding="utf-8")
            ended(job, code)

        LocalLauncher().run(jobs, tell)


class Swallows(Launcher):
    """It returns when it is interrupted."""

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            LocalLauncher().run(jobs, ended)


class Orphans(Launcher):
    """It leaves jobs running when it is interrupted."""

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        if len(jobs) != 2:  # not yet
            return LocalLauncher().run(jobs, ended)
        children = [(job, subprocess.Popen(job.command, stderr=subprocess.DEVNULL)) for job in jobs]
        try:
            while (code := children[0][1].poll()) is None:
                time.sleep(0.02)
            ended(jobs[0], code)
        finally:
            threading.Timer(1.0, children[1][1].kill).start()  # after the kit has looked
            threading.Timer(1.1, children[1][1].wait).start()


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (Talks, "without jobs nothing is told"),
        (Repeats, "each job is told once"),
        (Elsewhere, "jobs are told from the caller's thread"),
        (Unsigned, "exit codes are those of the processes"),
        (Overwrites, "output and errors are appended to the log"),
        (Silent, "a job that can't be started has failed, and its log says why"),
        (Swallows, "KeyboardInterrupt is raised again and stops the jobs that run': run\\(\\) returned"),
        (Orphans, "KeyboardInterrupt is raised again and stops the jobs that run': a job was still writing"),
    ],
)
def test_a_broken_law_is_named(broken: type[Launcher], law: str) -> None:
    with pytest.raises(AssertionError, match=f"launchers: '{broken.__name__}' breaks the law '{law}"):
        check_launcher(broken)
