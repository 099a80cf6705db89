"""A study of two systems of images: its table, its report with a grid for each, and what it can't ask for."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from inline_launcher import InlineLauncher
from small_digits import workshop_of_digits

from calmkit.recipe.errors import RecipeError
from calmkit.registry import make_manager
from calmkit.report.kind import words_of
from calmkit.report.reading import ranked
from calmkit.report.standing import standing_grid
from calmkit.report.table import costs_grid, main_grid, scores_grid
from calmkit.studies.compare import compare
from calmkit.studies.run import run_study
from calmkit.studies.schema import load_study
from calmkit.training.errors import RunFailed

STUDY = """\
calmkit_study: 1
name: pictures
base: digits.yaml
match: {by: images}
set: {evaluation.untrained: true}
grid:
  system:
  - {label: masked}
  - {label: causal, order: null, backbone: gru, head: mixture, head.num_components: 2, sampler.guidance: 1.0,
     sampler.guidance_schedule: constant}
relate: {x: step, y: fd}
"""
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def float32() -> None:
    """As users have it; `conftest.py` puts the default back."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop_of_digits(tmp_path_factory.mktemp("pictures")) as folder:
        (folder / "pictures.yaml").write_text(STUDY)
        yield folder


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    """Trained once, two steps each."""
    manager, launcher = make_manager(guests=[]), InlineLauncher()
    path = str(folder / "pictures.yaml")
    out = run_study(path, out=folder / "out", say=lambda line: None, manager=manager, launcher=launcher)
    return json.loads((out / "results.json").read_text())


def test_models_are_ranked_by_frechet_distance_and_less_is_better(results: dict[str, Any]) -> None:
    assert (results["primary"], results["higher_is_better"]) == ("fd", False)
    scores = [trial["evaluation"]["fd"] for cell in ranked(results) for trial in cell["trials"]]
    assert scores == sorted(scores)
    assert results["match"] == {"by": "images", "value": 16.0, "unit": "images"}  # 2 steps of 8
    head, *_ = (main_grid(results).heads[i] for i in (2,))
    assert head == "Frechet distance"


def test_the_tables_hold_what_images_are_told_by(results: dict[str, Any]) -> None:
    scores, costs, standing = scores_grid(results), costs_grid(results), standing_grid(results)
    assert scores.heads[1:6] == [
        "kernel distance", "precision %", "recall %", "class accuracy %", "network right %",
    ]  # fmt: skip
    nats = {row[0]: row[list(scores.heads).index("nats/dim")] for row in scores.rows}
    assert nats["masked"] == "-"  # its head knows no density
    float(nats["causal"])
    assert [*costs.heads[4:]] == ["FLOPs/image", "images/s"]
    assert standing is not None
    assert standing.heads == ["model", "untrained", "training images", "Gaussian per class", "floor"]


def test_an_interval_of_one_run_is_shown_and_settles_nothing(results: dict[str, Any]) -> None:
    """Frechet distances are no means over images, so nothing is paired by image."""
    grid = main_grid(results)
    for cell, row in zip(ranked(results), grid.rows, strict=True):
        found = cell["trials"][0]["evaluation"]
        assert row[4] == f"[{found['fd_low']:.2f}, {found['fd_high']:.2f}]"
        assert row[-1] == "-"
        assert "text_low" not in cell["summary"]["fd"] or cell["summary"]["fd"]["text_low"] is None
    assert any("of each run alone" in note for note in grid.notes)


def test_curves_begin_with_the_untrained_model_and_end_with_the_table(results: dict[str, Any]) -> None:
    for cell in results["cells"]:
        (trial,) = cell["trials"]
        curve, found = trial["curve"], trial["evaluation"]
        assert (curve[0]["step"], curve[0]["fd"]) == (0, found["untrained_fd"])
        assert (curve[-1]["step"], curve[-1]["fd"]) == (2, found["fd"])
    assert results["relation"]["y"] == "fd"


def test_the_report_shows_a_grid_for_each_model(folder: Path, results: dict[str, Any]) -> None:
    """The very bytes that the run wrote, the best model first."""
    page = (folder / "out" / "report.html").read_text()
    shown = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="Samples of (\w+)">', page)
    assert [label for _, label in shown] == [cell["label"] for cell in ranked(results)]
    for data, label in shown:
        (trial,) = next(cell["trials"] for cell in results["cells"] if cell["label"] == label)
        written = (Path(trial["run"]) / "samples.png").read_bytes()
        assert base64.b64decode(data) == written
        assert written.startswith(PNG)
    prose = re.sub(r"<svg.*?</svg>|<pre.*?</pre>|base64,[^\"]+", "", page, flags=re.S)
    assert not re.search(r"\btokens?\b|BrierLM|\bchunks?\b|held-out text|K=", prose)


def test_results_bring_their_words(results: dict[str, Any]) -> None:
    """Whoever shows them asks no plugin."""
    assert results["kind"]["name"] == "images"
    assert words_of({"kind": results["kind"], "cells": []}) == words_of(results)
    assert results["kind"]["numbers"]["fd"]["better"] == "lower"
    assert "brier_lm" not in results["kind"]["numbers"]


def test_runs_of_images_are_compared(results: dict[str, Any]) -> None:
    runs = [Path(trial["run"]) for cell in results["cells"] for trial in cell["trials"]]
    manager = make_manager(guests=[])
    found = compare(runs, manager=manager).results
    assert (found["primary"], found["command"].count("--primary")) == ("fd", 0)
    by_nats = compare(runs, primary="nats_per_dim", manager=manager).results
    assert [cell["label"] for cell in by_nats["cells"] if cell["summary"]] == ["causal"]
    with pytest.raises(RunFailed, match="can't be ranked by 'brier_lm'; they can by: bar_copy_"):
        compare(runs, primary="brier_lm", manager=manager)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("blocks: [64]", "blocks of lengths make no sense here: rows of images have a length of their own.*"
         "leave blocks out"),
        ("samplers: [rows]", "samplers of images are scored by no number.*leave samplers out"),
        ("primary: brier_lm", "no study can be ranked by 'brier_lm'.*measures: bar_copy"),
        ("match: {by: tokens}", "match says by what.*by: images, inference_flops"),
        ("relate: {x: step, y: brier_lm}", "relate.y is no measure of the points on the way.*fd"),
    ],
)  # fmt: skip
def test_what_images_do_not_have_is_refused_with_the_cure(folder: Path, more: str, told: str) -> None:
    key = more.partition(":")[0]
    kept = [line for line in STUDY.splitlines() if not line.startswith(f"{key}:")]
    (folder / "asks.yaml").write_text("\n".join([*kept, more]) + "\n")
    with pytest.raises(RecipeError, match=f"(?s)CK133.*{told}"):
        load_study(str(folder / "asks.yaml"), make_manager(guests=[]))


def test_cells_of_different_kinds_of_data_are_refused(folder: Path) -> None:
    text = """\
calmkit_study: 1
name: mixed
base: digits.yaml
grid:
  data:
  - {label: pictures}
  - {label: letters, data: stdlib, tokenizer: bytes, autoencoder: vae, transforms: [], conditioner: null,
     embedder: tokens, backbone: gru, order: null, head: energy, sampler: direct,
         evaluation.sample_rows: 64}
"""
    (folder / "mixed.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"(?s)CK133.*different kinds of data.*make a study of each"):
        load_study(str(folder / "mixed.yaml"), make_manager(guests=[]))
