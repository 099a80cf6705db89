"""A study of small models from end to end: what is done once, what a failure leaves, what is done again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from inline_launcher import InlineLauncher
from small_runs import column, workshop

from calmkit.cli.main import cli
from calmkit.interfaces import Job
from calmkit.recipe.errors import RecipeError
from calmkit.registry import make_manager
from calmkit.studies.failures import failure, work_folder
from calmkit.studies.kinds import ToldKind
from calmkit.studies.rankable import rankable
from calmkit.studies.results import study_results
from calmkit.studies.run import report_study, resume_study, run_study
from calmkit.studies.snapshot import planned_in
from calmkit.studies.status import status_rows
from calmkit.studies.store import claimed
from calmkit.studies.timing import StepClock
from calmkit.text.words import WORDS
from calmkit.training.errors import RunFailed
from calmkit.training.run import Run
from calmkit.training.standing import read_standing

TEXT = ToldKind("text", WORDS)
STUDY = """\
calmkit_study: 1
name: two heads
description: <b>not markup</b>
base: small.yaml
share: [autoencoder]
set: {stages.autoencoder.max_steps: 6, stages.lm.max_steps: 16, evaluation.max_rows: 3}
grid:
  model:
    - {label: energy, head: energy}
    - {label: flow head, head: flow}
    - label: softmax
      head: local_ar
      autoencoder: token_chunks
      autoencoder.chunk_size: 1
      stages.autoencoder: null
seeds: [1, 2]
baseline: energy
"""
ASKED = """\
relate: {x: step, y: nats_per_token}
samplers:
  - direct
  - {name: direct, num_steps: 2}
  - {name: vote, candidates: 3}
  - {name: direct, head_temperature: 0.5}
sampling_units: 6
blocks: [32, 64]
"""
SMALL = """\
calmkit_study: 1
name: small
base: small.yaml
share: [autoencoder]
match: {by: steps}
set: {stages.autoencoder.max_steps: 2, stages.lm.max_steps: 2, evaluation.untrained: false}
grid: {head: [regression, mixture]}
"""


def silent(line: str) -> None:
    del line


@pytest.fixture(autouse=True)
def float32() -> None:
    """As users have it; `conftest.py` puts the default back."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("study")) as folder:
        (folder / "s.yaml").write_text(STUDY + ASKED)
        (folder / "small-study.yaml").write_text(SMALL)
        yield folder


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def launcher() -> InlineLauncher:
    return InlineLauncher()


@pytest.fixture(scope="module")
def results(folder: Path, said: list[str], launcher: InlineLauncher) -> dict[str, Any]:
    given = ["evaluation.draws=3"]
    path = str(folder / "s.yaml")
    out = run_study(path, overrides=given, out=folder / "out", say=said.append, launcher=launcher)
    return json.loads((out / "results.json").read_text())


def trials(results: dict[str, Any]) -> list[dict[str, Any]]:
    return [trial for cell in results["cells"] for trial in cell["trials"]]


def test_every_trial_is_there(folder: Path, results: dict[str, Any]) -> None:
    assert [cell["label"] for cell in results["cells"]] == ["energy", "flow head", "softmax"]
    assert [trial["seed"] for trial in trials(results)] == [1, 2, 1, 2, 1, 2]
    for trial in trials(results):
        run = Run(folder / "out" / "cells" / trial["key"])
        assert trial["state"] == "done"
        assert trial["evaluation"] == run.evaluation
        assert trial["sample"] == (run.folder / "samples.txt").read_text()
        assert run.recipe().evaluation.draws == 3  # the override
        assert run.recipe().seed == trial["seed"]
    assert results["overrides"] == ["evaluation.draws=3"]
    assert (folder / "out" / "study.yaml").read_text() == STUDY + ASKED


def test_an_autoencoder_is_trained_once_per_seed(
    folder: Path, results: dict[str, Any], launcher: InlineLauncher
) -> None:
    shared = sorted(path for path in (folder / "out" / "autoencoders").iterdir() if path.suffix != ".work")
    assert len(shared) == 2
    assert sum(name.startswith("autoencoder ") for name in launcher.started) == 2
    by_seed = {Run(path).recipe().seed: path for path in shared}
    for trial in trials(results):
        if trial["chunk_size"] == 1:
            assert "autoencoder_from" not in trial["facts"]
            continue
        source = by_seed[trial["seed"]]
        assert trial["facts"]["autoencoder_from"] == str(source.resolve())
        flops = Run(source).facts["autoencoder_train_flops"]
        assert trial["facts"]["autoencoder_train_flops"] == flops


def test_budgets_are_equal(results: dict[str, Any]) -> None:
    """Each total lies within half a step of the baseline's; softmax has no autoencoder to pay."""
    facts = [trial["facts"] for trial in trials(results)]
    assert facts[0]["lm_steps"] == 16
    for f in facts:
        total = f["lm_train_flops"] + f.get("autoencoder_train_flops", 0)
        assert abs(total - results["match"]["value"]) <= 0.5 * f["lm_train_flops"] / f["lm_steps"] + 1
    assert results["match"]["unit"] == "FLOPs"


def test_curves(folder: Path, results: dict[str, Any]) -> None:
    """16 steps, measured every 2, after the untrained model."""
    trial = trials(results)[0]
    assert [point["step"] for point in trial["curve"]] == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    per_step = trial["facts"]["lm_train_flops"] / 16
    assert [p["flops"] for p in trial["curve"]] == pytest.approx(
        [p["step"] * per_step for p in trial["curve"]]
    )
    assert trial["curve"][-1]["seconds"] == pytest.approx(trial["facts"]["lm_seconds"])
    scores = [point["brier_lm"] for point in trial["curve"]]
    assert scores[0] == trial["evaluation"]["untrained_brier_lm"]
    on_the_way = column(Run(folder / "out" / "cells" / trial["key"]), "lm/val/brier_lm")
    assert scores[1:] == [*on_the_way[:-1], trial["evaluation"]["brier_lm"]]
    assert not any(name.startswith("nll") for point in trial["curve"] for name in point)


def test_the_relation_is_over_the_points_that_know_both(results: dict[str, Any]) -> None:
    """Two cells without a density, and softmax of two seeds, each measured eight times on its way."""
    softmax = results["cells"][2]["trials"]
    points = [p for trial in softmax for p in trial["curve"] if p["step"]]
    assert results["relation"]["series"] == [
        {"label": "softmax", "exact": True, "points": [[p["step"], p["nll_per_token"]] for p in points]}
    ]
    assert results["relation"]["left_out"]["untrained"] == 6


def between(mean: float, low: float | None, high: float | None) -> bool:
    """Whether ends are those of an interval over seeds; there is none where all of them are clamped at 0."""
    return mean == 0 if low is None or high is None else low <= mean <= high


def test_every_trial_is_measured_under_the_samplers_that_its_head_can_serve(results: dict[str, Any]) -> None:
    sampling = results["sampling"]
    every = {"direct", "direct num_steps=2", "vote candidates=3", "direct head_temperature=0.5"}
    for cell in results["cells"]:
        served = {row["sampler"] for row in sampling["rows"] if row["cell"] == cell["label"]}
        left = {one["sampler"] for one in sampling["left_out"] if one["cell"] == cell["label"]}
        assert served | left == every
        assert not served & left
    without = {one["cell"] for one in sampling["left_out"] if one["sampler"] == "direct num_steps=2"}
    assert without == {"energy", "softmax"}
    for row in sampling["rows"]:
        assert (row["units"], row["seeds"]) == (6, 2)
        assert between(row["brier_lm"], row["brier_lm_seed_low"], row["brier_lm_seed_high"])
        assert row["draws_per_unit"] == (3 if row["name"] == "vote" else 1)


def test_every_trial_is_measured_on_every_block_length(results: dict[str, Any]) -> None:
    assert [(row["cell"], row["block_tokens"]) for row in results["blocks"]] == [
        ("energy", 32), ("energy", 64), ("flow head", 32), ("flow head", 64),
        ("softmax", 32), ("softmax", 64),
    ]  # fmt: skip
    for row in results["blocks"]:
        assert between(row["brier_lm"], row["seed_low"], row["seed_high"])  # two seeds
    short, long = results["blocks"][:2]
    # 8 chunks of 4: 0 to 28 tokens before them, and 16 chunks: 0 to 60; a row of fill is shorter
    assert (short["context_tokens"], long["context_tokens"]) == (14, 30)


def test_a_process_that_measures_tells_what_it_measures(folder: Path, results: dict[str, Any]) -> None:
    softmax = folder / "out" / "cells" / f"{trials(results)[4]['key']}.work"
    told = read_standing(softmax / "measure-progress.json")
    assert told is not None
    samplers = ("direct", "direct num_steps=2", "vote candidates=3", "direct head_temperature=0.5")
    phases = [
        *(f"sampler {label}" for label in samplers),
        "evaluation, blocks of 32",
        "evaluation, blocks of 64",
    ]
    assert [*told.over, told.phase] == ["starting", *phases]


def test_latents_are_those_of_the_shared_autoencoder(folder: Path, results: dict[str, Any]) -> None:
    first, _, flow, _, softmax, _ = trials(results)
    source = Path(first["facts"]["autoencoder_from"])
    assert first["latents"] == json.loads((source / "latents.json").read_text()) == flow["latents"]
    assert softmax["latents"] is None
    assert all(isinstance(one["text"], str) for one in first["latents"]["projection"])


def test_a_trial_that_missed_its_budget_is_marked_and_in_no_mean(
    folder: Path, results: dict[str, Any]
) -> None:
    """Against a budget that one seed of energy kept and the other did not, as if it had been stopped."""
    manager = make_manager()
    planned = planned_in(folder / "out", manager)
    facts = folder / "out" / "cells" / trials(results)[1]["key"] / "model" / "config.json"
    before, sums = facts.read_text(), facts.parents[1] / "run.sha256"
    sums.rename(sums.with_suffix(".away"))  # the file is changed on purpose
    try:
        stopped = json.loads(before)
        stopped |= {"lm_steps": 8, "lm_train_flops": stopped["lm_train_flops"] / 2}
        facts.write_text(json.dumps(stopped))
        energy = study_results(planned, {}, rankable(manager), TEXT)["cells"][0]
    finally:
        facts.write_text(before)
        sums.with_suffix(".away").rename(sums)
    kept, short = energy["trials"]
    assert (kept["state"], short["state"]) == ("done", "short")
    assert short["why"] == "it took 8 of 16 steps"
    assert energy["summary"]["brier_lm"]["seeds"] == 1
    assert energy["summary"]["brier_lm"]["mean"] == kept["evaluation"]["brier_lm"]
    assert energy["summary"]["tokens_per_second"]["mean"] == kept["evaluation"]["tokens_per_second"]


def test_a_second_call_trains_nothing(folder: Path, results: dict[str, Any]) -> None:
    again = InlineLauncher()
    out = folder / "out"
    run_study(str(folder / "s.yaml"), overrides=["evaluation.draws=3"], out=out, say=silent, launcher=again)
    assert again.started == []
    assert json.loads((out / "results.json").read_text())["cells"] == results["cells"]


def test_a_wider_grid_keeps_what_is_done(folder: Path, results: dict[str, Any]) -> None:
    wide = STUDY.replace("  model:\n", "  model:\n    - {label: point, head: regression}\n") + ASKED
    (folder / "wide.yaml").write_text(wide)
    again = InlineLauncher()
    given = ["evaluation.draws=3"]
    out = run_study(
        str(folder / "wide.yaml"), overrides=given, out=folder / "out", say=silent, launcher=again
    )
    assert sorted(again.started) == [
        "measure point, seed 1",
        "measure point, seed 2",
        "point, seed 1",
        "point, seed 2",
    ]
    found = json.loads((out / "results.json").read_text())
    assert found["cells"][1:] == [
        cell | {"rank": new["rank"]} for cell, new in zip(results["cells"], found["cells"][1:], strict=True)
    ]
    run_study(str(folder / "s.yaml"), overrides=given, out=folder / "out", say=silent, launcher=again)


def test_other_text_is_another_study_under_the_same_name(folder: Path, results: dict[str, Any]) -> None:
    """The same path with other content: nothing that was trained on the old text is taken for the new."""
    (folder / "small-study.yaml").write_text(SMALL)
    first = InlineLauncher()
    run_study(str(folder / "small-study.yaml"), out=folder / "text", say=silent, launcher=first)
    corpus = folder / "corpus.jsonl"
    before = corpus.read_text()
    try:
        corpus.write_text(before.replace("cat", "dog"))
        with pytest.raises(
            RunFailed, match="have changed since it was begun: 'regression, seed 1' and 1 more"
        ):
            report_study(folder / "text", say=silent)
        second = InlineLauncher()
        run_study(str(folder / "small-study.yaml"), out=folder / "text", say=silent, launcher=second)
        assert len(first.started) == len(second.started) == 3
    finally:
        corpus.write_text(before)


def killed_once(name: str) -> InlineLauncher:
    """Its first job of that name is killed."""
    return InlineLauncher(instead=lambda job: -9 if job.name == name and not job.log.exists() else None)


def test_a_killed_trial_is_named_stops_no_other_and_is_tried_again_alone(
    folder: Path, tmp_path: Path
) -> None:
    out, said = tmp_path / "out", list[str]()
    with pytest.raises(RunFailed, match=r"1 of 2 trials failed: mixture, seed 1 \(its process was killed"):
        run_study(
            str(folder / "small-study.yaml"),
            out=out,
            say=said.append,
            launcher=killed_once("mixture, seed 1"),
        )
    found = json.loads((out / "results.json").read_text())
    assert [trial["state"] for trial in trials(found)] == ["done", "failed"]
    assert found["cells"][1]["summary"] == {}
    manager = make_manager()
    states = {row[0]: row[1] for row in status_rows(planned_in(out, manager))}
    assert states == {"regression, seed 1": "done", "mixture, seed 1": "failed"}
    again = InlineLauncher()
    resume_study(out, say=silent, launcher=again)
    assert again.started == ["mixture, seed 1"]
    found = json.loads((out / "results.json").read_text())
    assert [trial["state"] for trial in trials(found)] == ["done", "done"]
    assert [row[1] for row in status_rows(planned_in(out, manager))] == ["done", "done"]


def test_what_an_earlier_try_left_and_nobody_can_read_is_set_aside(folder: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "out", list[str]()

    def halfway(job: Job) -> int | None:
        """Interrupted in its second stage: its run folder exists and holds no evaluation."""
        if job.name != "mixture, seed 1":
            return None
        run = Path(job.command[-1])
        run.mkdir(parents=True)
        (run / "resolved.yaml").write_text("half\n")
        (run / "metrics.csv").write_text("step\n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(
            str(folder / "small-study.yaml"), out=out, say=silent, launcher=InlineLauncher(instead=halfway)
        )
    assert not list(out.rglob("running.json"))
    resume_study(out, say=said.append, launcher=InlineLauncher())
    (aside,) = (out / "cells").glob("*.stopped-1")
    assert (aside / "resolved.yaml").read_text() == "half\n"
    assert any("an earlier try did not end and can't go on" in line for line in said)


def test_trials_whose_autoencoder_failed_are_not_started(folder: Path, tmp_path: Path) -> None:
    launcher = InlineLauncher(instead=lambda job: 1 if job.name.startswith("autoencoder") else None)
    with pytest.raises(RunFailed, match=r"2 of 2 trials failed: regression, seed 1 .its autoencoder failed"):
        run_study(str(folder / "small-study.yaml"), out=tmp_path, say=silent, launcher=launcher)
    assert len(launcher.started) == 1


def test_a_gate_is_asked_by_each_trial_and_keeps_the_autoencoder(folder: Path, tmp_path: Path) -> None:
    launcher = InlineLauncher()
    given = ["stages.autoencoder.gate.min=1.0"]
    with pytest.raises(RunFailed, match=r"regression, seed 1 \(The autoencoder of .* reaches"):
        run_study(
            str(folder / "small-study.yaml"), overrides=given, out=tmp_path, say=silent, launcher=launcher
        )
    assert len(launcher.started) == 3
    again = InlineLauncher()
    run_study(str(folder / "small-study.yaml"), out=tmp_path, say=silent, launcher=again)
    assert sorted(again.started) == ["mixture, seed 1", "regression, seed 1"]  # the autoencoder is the same


def test_a_trial_that_diverges_says_so_in_one_line(folder: Path, tmp_path: Path) -> None:
    wild = SMALL.replace(
        "mixture]}", "mixture]}\nwhen: [{if: {head: mixture}, set: {stages.lm.optimizer.lr: 1e30}}]"
    )
    (folder / "wild.yaml").write_text(wild.replace("stages.lm.max_steps: 2", "stages.lm.max_steps: 9"))
    with pytest.raises(
        RunFailed, match=r"1 of 2 trials failed: mixture, seed 1 \(The (loss|gradient) became"
    ):
        run_study(str(folder / "wild.yaml"), out=tmp_path, say=silent, launcher=InlineLauncher())


def test_a_study_that_runs_is_not_begun_again(folder: Path, tmp_path: Path) -> None:
    with (
        claimed(tmp_path, "it"),
        pytest.raises(RunFailed, match=f"already being run by process {os.getpid()}"),
    ):
        run_study(str(folder / "small-study.yaml"), out=tmp_path, say=silent, launcher=InlineLauncher())


def test_an_edit_while_it_runs_is_told_and_changes_nothing(folder: Path, tmp_path: Path) -> None:
    study, said = tmp_path / "edited.yaml", list[str]()
    (tmp_path / "small.yaml").write_text((folder / "small.yaml").read_text())
    study.write_text(SMALL)

    def edit(job: Job) -> None:
        del job
        study.write_text(SMALL.replace("mixture", "flow"))

    out = run_study(str(study), out=tmp_path / "out", say=said.append, launcher=InlineLauncher(instead=edit))
    found = json.loads((out / "results.json").read_text())
    assert [cell["label"] for cell in found["cells"]] == ["regression", "mixture"]
    assert any("was edited while it ran" in line for line in said)
    assert (out / "study.yaml").read_text() == SMALL
    report_study(out, say=silent)  # of the study as it was begun
    study.unlink()
    report_study(out, say=silent)


def test_the_verbs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """plan, then run, then status and report, as a person types them."""
    planned = CliRunner().invoke(
        cli, ["study", "plan", str(folder / "small-study.yaml"), "--out", str(tmp_path)]
    )
    assert planned.exit_code == 0, planned.output
    assert "2 cells, 1 seed each, 2 trials, equal steps" in planned.output
    assert "shared autoencoders: 1, 0 of them done" in planned.output
    run_study(str(folder / "small-study.yaml"), out=tmp_path, say=silent, launcher=InlineLauncher())
    told = CliRunner().invoke(cli, ["study", "status", str(tmp_path)])
    assert "2 of 2 done" in told.output
    (tmp_path / "report.html").unlink()
    told = CliRunner().invoke(cli, ["study", "report", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert (tmp_path / "report.html").is_file()
    nothing = CliRunner().invoke(cli, ["study", "status", str(tmp_path / "cells")])
    assert nothing.exit_code == 1
    assert "is no folder of a study" in nothing.output


def test_a_study_by_the_clock_goes_on_with_the_times_it_began_with(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is three times as slow at the second call, and the steps stay those of the first."""
    clocked = SMALL.replace("{by: steps}", "{by: wall_clock, value: 1.0}")
    (folder / "clock.yaml").write_text(clocked)
    pace = [0.1]
    monkeypatch.setattr(StepClock, "_timed", lambda self, recipe: (pace[0], 0.0))
    first, second = InlineLauncher(), InlineLauncher()
    path = str(folder / "clock.yaml")
    out = run_study(path, out=tmp_path / "out", say=silent, launcher=first)
    pace[0] = 0.3
    run_study(path, out=out, say=silent, launcher=second)
    report_study(out, say=silent)
    assert len(first.started) == 3
    assert second.started == []
    found = json.loads((out / "results.json").read_text())
    assert [trial["facts"]["lm_steps"] for trial in trials(found)] == [10, 10]


def test_what_was_never_begun_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="is no folder of a study"):
        resume_study(tmp_path / "nowhere", say=silent)
    assert not (tmp_path / "nowhere").exists()


def test_nothing_is_begun_for_a_wrong_cell(folder: Path, tmp_path: Path) -> None:
    (folder / "wrong.yaml").write_text(
        "calmkit_study: 1\nname: w\nbase: small.yaml\ngrid: {data.sequence_length: [32, 33]}\n"
    )
    with pytest.raises(RecipeError, match=r"CK140.*cell 'sequence_length=33'"):
        run_study(str(folder / "wrong.yaml"), out=tmp_path / "out", say=silent, launcher=InlineLauncher())
    assert not (tmp_path / "out").exists()


def test_two_cells_of_one_recipe_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "twins.yaml").write_text(
        SMALL.replace(
            "head: [regression, mixture]", "m: [{label: a, head: flow}, {label: b, head.name: flow}]"
        )
    )
    with pytest.raises(RecipeError, match=r"CK133.*'a' and 'b' are the same recipe"):
        run_study(str(folder / "twins.yaml"), out=tmp_path / "out", say=silent, launcher=InlineLauncher())


def test_missing_data_names_the_cell(folder: Path, tmp_path: Path) -> None:
    with pytest.raises((RecipeError, Exception), match="nowhere"):
        run_study(
            str(folder / "small-study.yaml"),
            overrides=["data.train=nowhere.jsonl"],
            out=tmp_path / "out",
            say=silent,
            launcher=InlineLauncher(),
        )


def test_why_a_trial_failed_is_kept_beside_it(tmp_path: Path) -> None:
    from calmkit.studies.failures import forget, note_failure

    run = tmp_path / "abc"
    work_folder(run).mkdir()
    (work_folder(run) / "log.txt").write_text("run: abc\nerror: The gate was missed.\n  kept: abc\nbye\n")
    assert note_failure(run, 1).startswith("The gate was missed.; ")
    assert failure(run).startswith("The gate was missed.")
    assert "SIGKILL" in note_failure(run, -9)
    forget(run)
    assert failure(run) == ""
