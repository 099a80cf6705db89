"""Cells that begin with the run of another cell: order, keys, refusals, and what a failure does to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from inline_launcher import InlineLauncher
from small_runs import workshop

from calmkit.recipe.assemble import validate
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import load_recipe
from calmkit.registry import make_manager
from calmkit.studies.failures import failure, work_folder
from calmkit.studies.plan import StudyPlan, places, plan_study
from calmkit.studies.references import in_turns
from calmkit.studies.run import resume_study, run_study
from calmkit.studies.schema import load_study
from calmkit.training.errors import RunFailed
from calmkit.training.run import Run

STUDY = """\
calmkit_study: 1
name: after
base: small.yaml
share: [autoencoder]
match: {by: steps}
set:
  stages.autoencoder.max_steps: 1
  stages.lm.max_steps: 2
  evaluation: {untrained: false, max_rows: 1, sample_tokens: 4, draws: 2}
grid:
  run:
    - {label: last, stages.lm.init_from: 'cell:second one'}
    - {label: second one, stages.lm.init_from: cell:first, stages.lm.batch_size: 3}
    - {label: first, stages.lm.batch_size: 2}
baseline: first
"""


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("after")) as folder:
        yield folder


def silent(line: str) -> None:
    del line


def planned(text: str) -> StudyPlan:
    Path("after.yaml").write_text(text)
    manager = make_manager()
    study = load_study("after.yaml", manager)
    return plan_study(study, manager, places(study, Path("out")))


def keys(text: str) -> dict[str, str]:
    return {trial.cell: trial.key for trial in planned(text).trials}


def test_cells_are_trained_after_those_they_name_and_begin_with_their_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calmkit.studies.run.write_results", lambda *_: None)  # figures take seconds
    found = planned(STUDY)
    assert [[trial.cell for trial in turn] for turn in found.turns()] == [
        ["first"], ["second one"], ["last"],
    ]  # fmt: skip
    fails = InlineLauncher(instead=lambda job: 1 if "second one" in job.name else None)
    with pytest.raises(RunFailed, match="2 of 3 trials failed"):
        run_study("after.yaml", out=folder / "out", say=silent, launcher=fails)
    assert [name.partition(",")[0] for name in fails.started[1:]] == ["first", "second one"]
    where = {trial.cell: (folder / "out" / "cells" / trial.key) for trial in found.trials}
    assert failure(where["last"]).startswith("its cell 'second one' failed: ")
    launcher = InlineLauncher(instead=lambda job: 1 if "last" in job.name else None)
    with pytest.raises(RunFailed, match="1 of 3 trials failed"):
        resume_study(folder / "out", say=silent, launcher=launcher)
    assert [name.partition(",")[0] for name in launcher.started] == ["second one", "last"]
    for cell, before in (("second one", "first"), ("last", "second one")):
        told = yaml.safe_load((work_folder(where[cell]) / "recipe.yaml").read_text())
        assert told["stages"]["lm"]["init_from"] == str(where[before].resolve())
    log = (work_folder(where["second one"]) / "log.txt").read_text()
    assert f"stage 2 continues the weights of {where['first'].resolve()}" in log
    assert Run(where["second one"]).facts["lm_steps"] == 2


def test_a_key_is_made_of_the_key_of_the_cell_that_is_named(folder: Path) -> None:
    """Another label of the first cell changes no key; another recipe of it changes those that follow."""
    before = keys(STUDY)
    renamed = keys(STUDY.replace("first", "start"))
    assert (renamed["last"], renamed["start"]) == (before["last"], before["first"])
    changed = keys(STUDY.replace("lm.batch_size: 2", "lm.batch_size: 4"))
    assert all(changed[cell] != before[cell] for cell in before)
    alone = keys(STUDY.replace("cell:first", "null").replace("lm.batch_size: 2", "lm.batch_size: 4"))
    assert alone["second one"] == keys(STUDY.replace("cell:first", "null"))["second one"]


def test_a_cell_that_is_not_there_and_a_ring_are_refused(folder: Path) -> None:
    with pytest.raises(RecipeError, match="names the cell 'frst', which this study has not"):
        planned(STUDY.replace("cell:first", "cell:frst"))
    ring = STUDY.replace("{label: first,", "{label: first, stages.lm.init_from: cell:last,")
    with pytest.raises(RecipeError, match="last -> second one -> first -> last"):
        planned(ring)
    with pytest.raises(RecipeError, match="first -> first"):
        planned(STUDY.replace("{label: first,", "{label: first, stages.lm.init_from: cell:first,"))


def test_outside_of_a_study_a_cell_is_no_run(folder: Path) -> None:
    manager = make_manager()
    recipe = load_recipe("small.yaml", ["stages.lm.init_from=cell:first"], manager)
    with pytest.raises(RecipeError, match="names a cell of a study, and this recipe is no part of one"):
        validate(recipe, manager)


def test_turns_by_hand() -> None:
    """d waits for b and c, c for a; who rests on what is done already waits for nothing."""
    assert in_turns({"d": ["b", "c"], "c": ["a"], "b": ["done"], "a": []}) == [["b", "a"], ["c"], ["d"]]
    assert in_turns({}) == []
