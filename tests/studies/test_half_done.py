"""A trial that did not end is gone on with where it stopped; one that can't be is set aside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from inline_launcher import InlineLauncher
from small_runs import TINY, differences, small_recipe, small_run, stopped, workshop

from calmkit.cli.main import cli
from calmkit.interfaces import Job
from calmkit.studies.failures import note_failure
from calmkit.studies.half_done import can_go_on, forget_going_on, mark_going_on
from calmkit.studies.run import resume_study, run_study
from calmkit.training.errors import RunFailed
from calmkit.training.run import Run

SMALL = """\
calmkit_study: 1
name: small
base: small.yaml
share: [autoencoder]
match: {by: steps}
set: {stages.autoencoder.max_steps: 6, stages.autoencoder.eval_every: 3, stages.lm.max_steps: 8,
  stages.lm.eval_every: 3, trainer.log_every: 2}
grid: {head: [regression, mixture]}
"""


@pytest.fixture(autouse=True)
def float32() -> None:
    """As users have it; `conftest.py` puts the default back."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("half_done")) as folder:
        (folder / "small-study.yaml").write_text(SMALL)
        yield folder


def stopping(*stops: tuple[str, str]) -> InlineLauncher:
    """A launcher that stops the jobs whose names begin so, each at a stage and step."""

    def instead(job: Job) -> int | None:
        for name, at in stops:
            if job.name.startswith(name):
                command = [*job.command[3:], "--stop-at", at]
                result = CliRunner().invoke(cli, command, prog_name="calmkit")
                job.log.write_text(result.output)
                return result.exit_code
        return None

    return InlineLauncher(instead=instead)


def runs(out: Path) -> list[Run]:
    found = [path.parent for path in out.rglob("resolved.yaml")]
    return [Run(path) for path in sorted(found, key=lambda path: path.name)]


def test_a_study_goes_on_with_what_is_half_done(folder: Path, tmp_path: Path) -> None:
    """Its shared autoencoder stops behind step 4 of 6, then a trial behind step 5 of 8."""
    whole, out, said = tmp_path / "whole", tmp_path / "out", list[str]()
    study = str(folder / "small-study.yaml")
    run_study(study, out=whole, say=said.append, launcher=InlineLauncher())
    with pytest.raises(RunFailed, match=r"2 of 2 trials failed: .*its autoencoder failed"):
        run_study(study, out=out, say=said.append, launcher=stopping(("autoencoder", "autoencoder:4")))
    with pytest.raises(RunFailed, match=r"1 of 2 trials failed: mixture, seed 1 \(.*Stopped at step 5"):
        resume_study(out, say=said.append, launcher=stopping(("mixture", "lm:5")))
    said.clear()
    launcher = InlineLauncher()
    resume_study(out, say=said.append, launcher=launcher)
    assert launcher.started == ["mixture, seed 1"]
    assert "mixture, seed 1: an earlier try did not end; this one goes on with it" in said
    assert [run.folder.name for run in runs(out)] == [run.folder.name for run in runs(whole)]
    assert len(runs(out)) == 3
    for one, other in zip(runs(whole), runs(out), strict=True):
        if "lm_steps" in one.facts:
            assert differences(one, other) == []
    logs = [path.read_text() for path in out.rglob("log.txt")]
    assert sum("goes on at step 4 of 6: resumed at unit 256" in log for log in logs) == 1
    assert sum("goes on at step 5 of 8: resumed at unit 320" in log for log in logs) == 1


@pytest.fixture
def half(folder: Path, tmp_path: Path) -> Path:
    """A run that stopped behind step 4 of 8 of stage 2."""
    run = tmp_path / "cells" / "key"
    stopped(small_run, "lm", 4, folder, str(run), *TINY)
    return run


def test_what_goes_on_is_of_the_same_recipe(folder: Path, half: Path, tmp_path: Path) -> None:
    assert can_go_on(half, small_recipe(folder, *TINY))
    elsewhere = ("description=else", "loggers=[]", "trainer.workers=2", "trainer.checkpoint.keep=3")
    assert can_go_on(half, small_recipe(folder, *TINY, *elsewhere))
    assert not can_go_on(half, small_recipe(folder, *TINY, "seed=2"))
    assert not can_go_on(tmp_path / "nowhere", small_recipe(folder, *TINY))
    (half / "resolved.yaml").write_text("half\n")
    assert not can_go_on(half, small_recipe(folder, *TINY))


@pytest.mark.parametrize(
    ("code", "again"), [(1, False), (2, False), (3, False), (75, True), (130, True), (-9, True)]
)
def test_what_failed_by_itself_goes_on_once_unless_it_came_further(
    folder: Path, half: Path, code: int, again: bool
) -> None:
    """A full disk is worth another try, a loss that is no number in the same step is not."""
    recipe = small_recipe(folder, *TINY)
    note_failure(half, code)
    assert can_go_on(half, recipe)
    mark_going_on(half)
    assert can_go_on(half, recipe) == again
    further = half / "checkpoints" / "lm" / "step-00000007.json"
    further.touch()
    assert can_go_on(half, recipe)
    further.unlink()
    forget_going_on(half)
    assert can_go_on(half, recipe)
