"""A study of small models from end to end, its budgets by hand, and what a failing cell leaves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import pytest
import torch
from small_runs import column, workshop
from torch import Tensor

from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import Context, GenerativeHead, HeadInfo, Posterior, SampleOptions
from calmkit.recipe.errors import RecipeError
from calmkit.registry import Manager, Part, make_manager
from calmkit.studies import budget as budget_module
from calmkit.studies import run as run_module
from calmkit.studies.run import run_study
from calmkit.studies.schema import load_study
from calmkit.training.errors import RunFailed
from calmkit.training.run import Run

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
"""


@final
class Broken(GenerativeHead):
    """A guest's head with a mistake in it: it can be counted, but not trained."""

    info = HeadInfo(sampling="one_step")

    def __init__(self, hidden_dim: int, event) -> None:
        super().__init__()
        self.inner = RegressionHead(hidden_dim, event)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        if len(context.h) > 8:  # one row is 8 units
            raise ZeroDivisionError("in the guest")
        return self.inner.loss(context, target)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return self.inner.sample(context, num, options)


def manager_with_broken() -> Manager:
    manager = make_manager()
    manager.parts["heads"]["broken"] = Part("heads", "broken", Broken, "tests")
    return manager


@pytest.fixture(autouse=True)
def float32() -> None:
    """As users have it; `conftest.py` puts the default back."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("study")) as folder:
        (folder / "s.yaml").write_text(STUDY + ASKED)
        yield folder


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def results(folder: Path, said: list[str]) -> dict[str, Any]:
    given = ["evaluation.draws=3"]
    out = run_study(str(folder / "s.yaml"), overrides=given, out=folder / "out", say=said.append)
    return json.loads((out / "results.json").read_text())


def test_every_cell_is_there(folder: Path, results: dict[str, Any]) -> None:
    assert [cell["label"] for cell in results["cells"]] == ["energy", "flow head", "softmax"]
    assert results["failed"] == []
    assert [cell["run"] for cell in results["cells"]] == ["energy", "flow-head", "softmax"]
    for cell in results["cells"]:
        run = Run(folder / "out" / cell["run"])
        assert cell["evaluation"] == run.evaluation
        assert cell["sample"] == (run.folder / "samples.txt").read_text()
        assert run.recipe().evaluation.draws == 3  # the override
    assert results["overrides"] == ["evaluation.draws=3"]
    assert (folder / "out" / "study.yaml").read_text() == STUDY + ASKED


def test_the_autoencoder_is_trained_once(folder: Path, results: dict[str, Any], said: list[str]) -> None:
    (shared,) = (folder / "out").glob("autoencoder-*")
    assert said.count("[shared] autoencoder vae") == 1
    for cell in results["cells"][:2]:
        assert cell["facts"]["autoencoder_from"] == str(shared)
        assert cell["facts"]["autoencoder_train_flops"] == Run(shared).facts["autoencoder_train_flops"]
    assert "autoencoder_from" not in results["cells"][2]["facts"]


def test_budgets_are_equal(results: dict[str, Any]) -> None:
    """Each cell's total lies within half a step of the baseline's; softmax has no autoencoder to pay."""
    facts = [cell["facts"] for cell in results["cells"]]
    totals = [f["lm_train_flops"] + f.get("autoencoder_train_flops", 0) for f in facts]
    assert facts[0]["lm_steps"] == 16
    for f, total in zip(facts, totals, strict=True):
        assert abs(total - totals[0]) <= 0.5 * f["lm_train_flops"] / f["lm_steps"] + 1


def test_curves(folder: Path, results: dict[str, Any]) -> None:
    """16 steps, measured every 2, after the untrained model."""
    cell = results["cells"][0]
    steps = [point["step"] for point in cell["curve"]]
    assert steps == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    per_step = cell["facts"]["lm_train_flops"] / 16
    assert [point["flops"] for point in cell["curve"]] == pytest.approx([s * per_step for s in steps])
    scores = [point["brier_lm"] for point in cell["curve"]]
    assert scores[0] == cell["evaluation"]["untrained_brier_lm"]
    assert scores[1:] == column(Run(folder / "out" / "energy"), "lm/val/brier_lm")
    assert not any(name.startswith("nll") for point in cell["curve"] for name in point)


def test_curves_carry_the_likelihood_where_it_is_known(folder: Path, results: dict[str, Any]) -> None:
    softmax = results["cells"][2]
    nats = [point["nll_per_token"] for point in softmax["curve"]]
    assert nats[0] == softmax["evaluation"]["untrained_nll_per_token"]
    assert nats[1:] == column(Run(folder / "out" / "softmax"), "lm/val/nll_per_token")
    # one token per unit: the loss is the likelihood
    assert softmax["evaluation"]["nll_per_token"] == pytest.approx(softmax["evaluation"]["loss"], rel=1e-6)


def test_the_relation_is_over_the_points_that_know_both(folder: Path, results: dict[str, Any]) -> None:
    """Two cells without a density, each measured eight times after the untrained model."""
    points = results["cells"][2]["curve"][1:]
    relation = results["relation"]
    assert relation["series"] == [
        {"label": "softmax", "exact": True, "points": [[p["step"], p["nll_per_token"]] for p in points]}
    ]
    unknown = sum(len(cell["curve"]) - 1 for cell in results["cells"][:2])
    assert relation["left_out"] == {"untrained": 3, "unknown": unknown, "zero": 0}
    assert f"{len(points)} points on the way" in (folder / "out" / "table.txt").read_text()


def test_every_cell_is_measured_under_the_samplers_that_its_head_can_serve(
    folder: Path, results: dict[str, Any], said: list[str]
) -> None:
    sampling = results["sampling"]
    measured = [(row["cell"], row["sampler"]) for row in sampling["rows"]]
    every = {"direct", "direct num_steps=2", "vote candidates=3", "direct head_temperature=0.5"}
    for cell in results["cells"]:
        served = {sampler for label, sampler in measured if label == cell["label"]}
        left = {one["sampler"] for one in sampling["left_out"] if one["cell"] == cell["label"]}
        assert served | left == every
        assert not served & left
    assert ("flow head", "direct num_steps=2") in measured
    assert ("softmax", "direct head_temperature=0.5") in measured
    without_steps = [one for one in sampling["left_out"] if one["sampler"] == "direct num_steps=2"]
    assert {one["cell"] for one in without_steps} == {"energy", "softmax"}
    assert "left out: direct num_steps=2 for energy: its head does not offer num_steps" in said
    for row in sampling["rows"]:
        assert row["units"] == 6
        assert row["draws_per_unit"] == (3 if row["name"] == "vote" else 1)


def test_what_the_grid_varies_is_not_overridden(folder: Path, tmp_path: Path) -> None:
    for override in ("head=flow", "autoencoder.chunk_size=2"):
        with pytest.raises(RecipeError, match="what the cells of this study vary"):
            run_study(str(folder / "s.yaml"), overrides=[override], out=tmp_path / "out")


def test_the_report_needs_no_network(folder: Path, results: dict[str, Any]) -> None:
    page = (folder / "out" / "report.html").read_text()
    for cell in results["cells"]:
        assert f"<h3>{cell['label']}</h3>" in page
    assert not re.search(r"""(src|href|action)\s*=\s*["']?\s*(https?:)?//""", page)
    assert not re.search(r"<(script|iframe|object|embed|link\s+rel=.stylesheet)", page)
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", page)
    assert page.count("<svg") == 4
    assert "calmkit study run &#39;two heads&#39; evaluation.draws=3" in page
    assert "&lt;b&gt;not markup&lt;/b&gt;" in page


def test_the_table_lists_every_cell(folder: Path, results: dict[str, Any], said: list[str]) -> None:
    table = (folder / "out" / "table.txt").read_text()
    assert table in said
    for cell in results["cells"]:
        assert re.search(rf"^{cell['label']}\s+{cell['chunk_size']}\s", table, re.MULTILINE)


def test_two_studies_of_one_second_get_a_folder_each(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.strftime", lambda _: "20260101-000000")
    study = load_study(str(folder / "s.yaml"), make_manager())
    monkeypatch.chdir(tmp_path)
    folders = [str(run_module._open_folder(study, None)) for _ in range(2)]
    stem = f"runs/studies/{study.name}/20260101-000000"
    assert folders == [stem, f"{stem}-2"]


def test_a_study_is_not_written_over(folder: Path, results: dict[str, Any]) -> None:
    with pytest.raises(RunFailed, match="already holds a study"):
        run_study(str(folder / "s.yaml"), out=folder / "out", say=lambda line: None)


def test_matched_steps_by_hand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Budget 10 * 16 + 40 = 200: flow gets (200 - 40) / 25 = 6.4 -> 6 steps, softmax 200 / 3 = 66.7 -> 67."""
    costs = {"energy": (10, 40), "flow": (25, 40), "local_ar": (3, 0)}
    monkeypatch.setattr(budget_module, "_cost", lambda recipe, manager: costs[recipe.head.name])
    manager = make_manager()
    study = load_study(str(folder / "s.yaml"), manager)
    matched = budget_module.match_budgets(study, list(study.cells), manager, lambda line: None)
    stages = [cell.recipe.stages.lm for cell in matched]
    assert [(s.max_steps, s.eval_every) for s in stages if s] == [(16, 2), (6, 1), (67, 8)]
    by_steps = budget_module.match_budgets(
        replace(study, match_by="steps"), list(study.cells), manager, print
    )
    assert [cell.recipe for cell in by_steps] == [cell.recipe for cell in study.cells]
    costs["flow"] = (25, 190)
    with pytest.raises(RunFailed, match="'flow head' can't be matched"):
        budget_module.match_budgets(study, list(study.cells), manager, lambda line: None)


def test_which_cells_share_an_autoencoder(folder: Path) -> None:
    energy, flow, _ = load_study(str(folder / "s.yaml"), make_manager()).cells
    key = run_module._autoencoder_key
    assert key(energy.recipe) == key(flow.recipe)
    assert key(energy.recipe) != key(replace(energy.recipe, seed=2))
    assert key(energy.recipe) != key(
        replace(energy.recipe, data=replace(energy.recipe.data, sequence_length=16))
    )


def test_a_failing_cell_stops_no_other_and_is_named(folder: Path, tmp_path: Path) -> None:
    grid = "grid: {model: [{label: bad, head: broken}, {label: good, head: regression}]}\n"
    short = "set: {stages.autoencoder.max_steps: 2, stages.lm.max_steps: 2, evaluation.untrained: false}\n"
    (folder / "bad.yaml").write_text(
        f"calmkit_study: 1\nname: bad\nbase: small.yaml\nshare: [autoencoder]\n{grid}{short}"
    )
    out = tmp_path / "out"
    with pytest.raises(RunFailed, match=r"1 of 2 cells .*bad \(ZeroDivisionError: in the guest\)") as raised:
        run_study(str(folder / "bad.yaml"), out=out, say=lambda line: None, manager=manager_with_broken())
    assert isinstance(raised.value.__cause__, ZeroDivisionError)  # for --debug
    summary = json.loads((out / "results.json").read_text())
    assert (summary["failed"], [cell["label"] for cell in summary["cells"]]) == (["bad"], ["good"])
    assert "bad" in (out / "report.html").read_text().partition("Failed:")[2][:40]


def test_cells_whose_shared_autoencoder_failed_are_named_and_others_run(folder: Path, tmp_path: Path) -> None:
    gate = "stages.autoencoder.gate.min: 1.0, stages.autoencoder.max_steps: 2, stages.lm.max_steps: 2"
    grid = STUDY[STUDY.index("grid:") :]
    (folder / "gated.yaml").write_text(
        "calmkit_study: 1\nname: gated\nbase: small.yaml\nshare: [autoencoder]\nmatch: {by: steps}\n"
        + f"set: {{{gate}}}\n"
        + grid
    )
    out, said = tmp_path / "out", list[str]()
    with pytest.raises(RunFailed, match=r"2 of 3 cells .*energy \(Stage 1 reaches .* flow head \(Stage"):
        run_study(str(folder / "gated.yaml"), out=out, say=said.append)
    assert said.count("[shared] autoencoder vae") == 1
    summary = json.loads((out / "results.json").read_text())
    assert [cell["label"] for cell in summary["cells"]] == ["softmax"]


def test_a_wrong_cell_is_refused_before_any_is_trained(folder: Path, tmp_path: Path) -> None:
    (folder / "wrong.yaml").write_text(
        "calmkit_study: 1\nname: w\nbase: small.yaml\ngrid: {data.sequence_length: [32, 33]}\n"
    )
    with pytest.raises(RecipeError, match="CK140"):
        run_study(str(folder / "wrong.yaml"), out=tmp_path / "out", say=lambda line: None)
    assert not (tmp_path / "out").exists()
