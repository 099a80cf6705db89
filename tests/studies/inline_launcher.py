"""A launcher without processes: every command line is run in this one, so a study takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

from click.testing import CliRunner

from calmkit.cli.main import cli
from calmkit.interfaces import Ended, Job, Launcher


@final
class InlineLauncher(Launcher):
    """Runs jobs one after the other; remembers their names.

    Args:
        instead: Asked before each job: an exit code ends it without a start, None lets it run.
    """

    def __init__(self, *, instead: Callable[[Job], int | None] = lambda job: None) -> None:
        self.instead = instead
        self.started: list[str] = []

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        for job in jobs:
            self.started.append(job.name)
            code = self.instead(job)
            if code is None:
                assert job.command[1:3] == ("-m", "calmkit.cli.main")
                result = CliRunner().invoke(cli, list(job.command[3:]), prog_name="calmkit")
                job.log.parent.mkdir(parents=True, exist_ok=True)
                job.log.write_text(result.output)
                code = result.exit_code
            ended(job, code)
