"""A study that this machine can't train is refused before anything of it begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from inline_launcher import InlineLauncher
from small_runs import workshop

from calmkit.cli.main import cli
from calmkit.launchers.local import LocalLauncher
from calmkit.launchers.slurm import SlurmLauncher
from calmkit.recipe.errors import RecipeError
from calmkit.registry import make_manager
from calmkit.studies.environment import check_study
from calmkit.studies.plan import StudyPlan, places, plan_study
from calmkit.studies.run import run_study
from calmkit.studies.schema import load_study
from calmkit.studies.timing import StepClock
from calmkit.training import environment

STUDY = """\
calmkit_study: 1
name: s
base: small.yaml
match: {by: steps}
grid: {head: [regression, mixture]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(environment, "usable_cores", lambda: 2)
    monkeypatch.setattr(environment, "is_installed", lambda module: module != "wandb")
    monkeypatch.delenv("CALMKIT_MORE_PROCESSES", raising=False)
    with workshop(tmp_path):
        Path("s.yaml").write_text(STUDY)
        yield tmp_path


def planned(*overrides: str) -> StudyPlan:
    manager = make_manager()
    study = load_study("s.yaml", manager, overrides)
    return plan_study(study, manager, places(study, Path("out")))


def test_what_several_cells_lack_is_told_once_by_the_first() -> None:
    with pytest.raises(RecipeError) as caught:
        check_study(planned("loggers=[csv,wandb]", "trainer.devices=9"), make_manager())
    assert [problem.message for problem in caught.value.problems] == [
        "cell 'regression': the logger 'wandb' needs 'wandb', which is not installed",
        "cell 'regression': trainer.devices=9 would start 9 processes on 2 usable cores",
    ]


def test_devices_count_where_the_processes_run_here() -> None:
    nine = planned("trainer.devices=9")
    check_study(nine, make_manager(), SlurmLauncher())
    with pytest.raises(RecipeError, match="9 processes on 2 usable cores"):
        check_study(nine, make_manager(), LocalLauncher())
    with pytest.raises(RecipeError, match="needs 'wandb'"):
        check_study(planned("loggers=[wandb]"), make_manager(), SlurmLauncher())


def test_a_study_is_refused_before_it_begins() -> None:
    launcher = InlineLauncher()
    with pytest.raises(RecipeError, match="needs 'wandb'"):
        run_study("s.yaml", overrides=["loggers=[wandb]"], out=Path("out"), launcher=launcher)
    assert launcher.started == []
    assert not Path("out").exists()


def test_the_plan_of_a_study_says_what_this_machine_lacks() -> None:
    refused = CliRunner().invoke(cli, ["study", "plan", "s.yaml", "loggers=[wandb]"])
    assert refused.exit_code == 2
    assert "error[CK150]: cell 'regression': the logger 'wandb' needs 'wandb'" in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize("override", ["loggers=[wandb]", "trainer.accelerator=mps"])
def test_nothing_is_timed_before_the_machine_is_checked(
    override: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where equal cost is equal time, which only steps can tell."""
    monkeypatch.setattr(StepClock, "_timed", lambda self, recipe: pytest.fail("a step was timed"))
    monkeypatch.setattr(environment, "_kind_here", lambda: "cpu")
    Path("s.yaml").write_text(STUDY.replace("by: steps", "by: wall_clock"))
    with pytest.raises(RecipeError, match=r"CK150.*cell 'regression'"):
        run_study("s.yaml", overrides=[override], out=Path("out"), launcher=LocalLauncher())
    refused = CliRunner().invoke(cli, ["study", "plan", "s.yaml", override])
    assert refused.exit_code == 2
    assert "error[CK150]: cell 'regression'" in refused.stderr


def test_a_step_of_what_runs_elsewhere_is_timed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is told plainly that it can't be, though the processes may well find their device."""
    monkeypatch.setattr(environment, "_kind_here", lambda: "cpu")
    recipe = load_study("s.yaml", make_manager(), ["trainer.accelerator=tpu"]).cells[0].recipes[0]
    with pytest.raises(RecipeError, match="CK150"):
        StepClock(make_manager()).seconds(recipe)
