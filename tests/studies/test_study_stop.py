"""A study on its way: what it says when it is stopped, what it ends of an earlier try, what status tells."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import final

import pytest
from click.testing import CliRunner
from inline_launcher import InlineLauncher
from small_runs import workshop

from calmkit.cli.failures import explain
from calmkit.cli.main import cli
from calmkit.interfaces import Ended, Job, LastingLauncher
from calmkit.registry import make_manager
from calmkit.studies.failures import work_folder
from calmkit.studies.plan import StudyPlan
from calmkit.studies.run import resume_study, run_study
from calmkit.studies.snapshot import planned_in
from calmkit.studies.status import status_rows, status_summary
from calmkit.studies.stopping import told_where_it_stopped
from calmkit.studies.store import claimed
from calmkit.studies.works import trial_work
from calmkit.training.errors import RunFailed
from calmkit.training.standing import Standing, StandingFile

STUDY = """\
calmkit_study: 1
name: stopped
base: small.yaml
match: {by: steps}
set: {stages.lm.max_steps: 20}
grid: {head: [regression, mixture]}
seeds: [1, 2]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("stop")) as folder:
        (folder / "s.yaml").write_text(STUDY)
        yield folder


def silent(line: str) -> None:
    del line


def begun(folder: Path, out: Path, instead: Callable[[Job], int | None] = lambda job: 1) -> None:
    """Run the study with launched processes replaced."""
    launcher = InlineLauncher(instead=instead)
    run_study(str(folder / "s.yaml"), out=out, say=silent, launcher=launcher)


def done(run: Path) -> None:
    """What a trial that has ended leaves, as far as a study asks whether it is done."""
    run.mkdir(parents=True)
    (run / "samples.txt").write_text("")
    (run / "evaluation.json").write_text("{}")


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_stopped_study_says_how_much_is_done_and_how_to_go_on(
    number: signal.Signals,
    raised: type[BaseException],
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop_at_the_second(job: Job) -> int:
        if job.name == "regression, seed 2":
            os.kill(os.getpid(), number)
            signal.pause()
        done(Path(job.command[-1]))
        return 0

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    try:
        with pytest.raises(raised) as stopped:
            begun(folder, tmp_path, stop_at_the_second)
    finally:
        signal.signal(signal.SIGINT, before)
    told = f"1 of 4 trials done; go on with: calmkit study resume {tmp_path}"
    if number == signal.SIGINT:  # the program says it, as its last line
        assert explain(stopped.value) == (f"interrupted: {told}", 130)
        assert capsys.readouterr().err == ""
    else:
        assert str(stopped.value) == "143"
        assert capsys.readouterr().err == f"{told}\n"
    assert not list(tmp_path.rglob("running.json"))


def test_a_study_stopped_while_it_is_planned_says_that_nothing_began(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("calmkit.studies.run.plan_study", stop)
    ran = CliRunner().invoke(cli, ["study", "run", str(folder / "s.yaml"), "--out", str(tmp_path / "out")])
    assert ran.exit_code == 130
    assert ran.stderr == "interrupted: nothing was begun by this call; the same call begins it\n"
    assert not (tmp_path / "out").exists()


def test_a_study_that_fails_by_itself_says_nothing_of_that(folder: Path, tmp_path: Path) -> None:
    begin = planned(folder, tmp_path)
    told: list[str] = []
    with pytest.raises(RunFailed), told_where_it_stopped(begin, told.append):
        raise RunFailed("for another reason")
    assert told == []


def planned(folder: Path, out: Path) -> StudyPlan:
    """The plan of a study whose trials have all failed."""
    with pytest.raises(RunFailed):
        begun(folder, out)
    return planned_in(out, make_manager())


def test_every_job_is_told_how_many_there_ever_are(folder: Path, tmp_path: Path) -> None:
    """Of four trials one is done: the other three get the threads that they would have had beside it."""
    peers = dict[str, int | None]()

    def note(job: Job) -> int:
        peers[job.name] = job.peers
        return 1

    begin = planned(folder, tmp_path)
    done(begin.places.trial(begin.trials[0].key))
    with pytest.raises(RunFailed):
        resume_study(tmp_path, say=silent, launcher=InlineLauncher(instead=note))
    assert peers == {"regression, seed 2": 4, "mixture, seed 1": 4, "mixture, seed 2": 4}


@final
class Lasting(LastingLauncher):
    """Its jobs all fail; one of an earlier launcher still writes into the first run folder."""

    def __init__(self, earlier: Path) -> None:
        self.earlier, self.asked = earlier, list[Path]()

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        for job in jobs:
            ended(job, 1)

    def stop_left(self, logs: Sequence[Path]) -> list[Path]:
        assert (self.earlier / "resolved.yaml").exists()  # nothing was moved under its hands
        self.asked += logs
        return [log for log in logs if log.parent == work_folder(self.earlier)]


def test_what_an_earlier_try_left_running_is_ended_before_its_folder_is_moved(
    folder: Path, tmp_path: Path
) -> None:
    begin, said = planned(folder, tmp_path), list[str]()
    run = begin.places.trial(begin.trials[0].key)
    run.mkdir()
    for name in ("resolved.yaml", "metrics.csv"):  # it had begun to train
        (run / name).write_text("step\n1\n")
    launcher = Lasting(run)
    with pytest.raises(RunFailed):
        resume_study(tmp_path, say=said.append, launcher=launcher)
    logs = [work_folder(begin.places.trial(trial.key)) / "log.txt" for trial in begin.trials]
    assert sorted(launcher.asked) == sorted(logs)
    assert f"a job of an earlier try still ran, and was cancelled; its log is {logs[0]}" in said
    assert not run.exists()


def test_status_tells_what_a_process_does_and_how_to_go_on(folder: Path, tmp_path: Path) -> None:
    begin = planned(folder, tmp_path)
    first, second, third, fourth = begin.trials
    done(begin.places.trial(first.key))
    held = [work_folder(begin.places.trial(trial.key)) for trial in (second, third)]
    standing = Standing(
        "lm", "step", 10, 20, 1.25, {"brier_lm": 2.0}, phase_seconds=4.0, over=["autoencoder"]
    )
    StandingFile(trial_work(begin, second).progress).write(standing)
    with claimed(held[0], "it"), claimed(held[1], "it"):
        rows = status_rows(begin)
    assert [row[:3] for row in rows] == [
        [first.label, "done", "20/20"],
        [second.label, "running", "10/20"],
        [third.label, "waiting", "0/20"],
        [fourth.label, "failed", "0/20"],
    ]
    assert rows[1][3].startswith("lm step 10/20, loss 1.25, held out brier_lm 2")
    resume = f"1 of 4 done; go on with: calmkit study resume {tmp_path}"
    assert status_summary(begin) == resume
    assert CliRunner().invoke(cli, ["study", "status", str(tmp_path)]).output.endswith(f"{resume}\n")
    with claimed(begin.places.study, "it"):
        assert status_summary(begin) == "1 of 4 done"


@pytest.mark.parametrize("verb", ["run", "resume", "report", "plan"])
def test_the_first_line_comes_before_anything_slow(verb: str, tmp_path: Path) -> None:
    """Also where there is nothing to be read."""
    seen = CliRunner().invoke(cli, ["study", verb, str(tmp_path / "nowhere")])
    assert seen.exit_code != 0
    assert seen.output.startswith(f"reading {tmp_path / 'nowhere'}; ")
