"""Ranking by any number that a measure describes: its direction, its words, its intervals over the text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_runs import made_run

from calmkit.cli.main import cli
from calmkit.interfaces import HeldOutMeasure, MeasureInfo, Number
from calmkit.registry import Manager, Part, make_manager
from calmkit.report.measures import asked_measures, measure
from calmkit.report.words import in_words
from calmkit.studies.compare import compare
from calmkit.studies.rankable import rankable
from calmkit.studies.schema import load_study
from calmkit.training.errors import RunFailed

NAME = "warmth"


class Warmth(HeldOutMeasure):
    """Of draws."""

    info = MeasureInfo(
        {
            "": Number(
                "warmth", better="lower", meaning="How warm draws are.", unit="K", digits=2, proper=True
            ),
            "light": Number("light", better="higher", meaning="How bright.", unit="%", factor=100.0),
        }
    )

    def metric(self) -> Any:
        raise AssertionError("never called")

    def update(self, metric: Any, held: Any) -> None:
        raise AssertionError("never called")


def house() -> Manager:
    manager = make_manager([])
    manager.parts["metrics"][NAME] = Part("metrics", NAME, Warmth, "guest")
    return manager


MANAGER = house()


def measured(folder: Path, warmth: float, seed: int = 1, settings: str = "a=1", **recipe: Any) -> Path:
    """A run with its warmth, the same in each of twelve documents."""
    run = made_run(folder, 5.0, seed, **recipe)
    path = run / "evaluation.json"
    found = json.loads(path.read_text()) | {
        NAME: warmth, f"{NAME}_low": warmth, f"{NAME}_high": warmth, f"{NAME}_light": warmth / 100,
        f"{NAME}_settings": settings,
    }  # fmt: skip
    path.write_text(json.dumps(found))
    rows = [f"{number},{4 * warmth},{warmth / 25},4" for number in range(12)]
    table = "\n".join([f"document,{NAME},{NAME}_light,units", *rows])
    (run / f"evaluation-documents-{NAME}.csv").write_text(table + "\n")
    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two heads, two seeds each; flow is the colder one."""
    return [
        measured(tmp_path / f"{head}{seed}", warmth + seed / 10, seed, head=head)
        for head, warmth in (("energy", 7.0), ("flow", 3.0))
        for seed in (1, 2)
    ]


def test_lower_is_better_where_the_measure_says_so(runs: list[Path]) -> None:
    found = compare(runs, primary=NAME, manager=MANAGER).results
    cells = {cell["label"]: cell for cell in found["cells"]}
    assert found["higher_is_better"] is False
    assert [cell["rank"] for cell in cells.values()] == [[2, 2], [1, 1]]
    apart = cells["flow"]["difference"]
    assert (apart["mean"], apart["text_low"], apart["text_high"]) == pytest.approx((-4.0, -4.0, -4.0))
    assert cells["flow"]["summary"][NAME]["text_low"] == pytest.approx(3.15)
    light = compare(runs, primary=f"{NAME}_light", manager=MANAGER).results
    assert [cell["rank"] for cell in light["cells"]] == [[1, 1], [2, 2]]


def test_a_number_that_an_older_file_holds_as_nan_is_as_good_as_none(runs: list[Path]) -> None:
    path = runs[0] / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), NAME: float("nan")}))
    cells = compare(runs, primary=NAME, manager=MANAGER).results["cells"]
    assert [cell["summary"][NAME]["seeds"] for cell in cells] == [1, 2]
    assert cells[0]["summary"][NAME]["mean"] == 7.2


def test_its_words_stand_wherever_it_is_shown(runs: list[Path], tmp_path: Path) -> None:
    found = compare(runs, primary=NAME, manager=MANAGER)
    text = found.text().replace("\n  ", " ")
    assert "comparison: warmth, K as the runs were set up" in text
    assert "warmth, K: How warm draws are. It is a proper score" in text
    assert "flow leads with warmth 3.15 K: it is ahead of every other model" in text
    assert "light %: How bright. Higher is better." in text  # asked for too, a column of the scores
    assert "less is better" in text
    for told in (found.latex(), found.markdown(), found.report(tmp_path / "r.html").read_text()):
        assert "warmth, K" in told
    head = found.csv().split("\n", 1)[0].split(",")
    assert {NAME, f"{NAME}_text_low", f"{NAME}_light"} <= set(head)
    assert found.plot("scores").axes[0].get_xlabel() == "warmth, K"


def test_results_bring_their_words_to_whoever_lacks_the_plugin(runs: list[Path]) -> None:
    found = compare(runs, primary=NAME, manager=MANAGER).results
    again = json.loads(json.dumps(found))
    assert (measure(NAME, again).name, measure(NAME, again).digits) == ("warmth, K", 2)
    assert asked_measures(again) == [f"{NAME}_light"]
    assert measure("brier_1", again).name == "Brier-1 %"
    assert measure("nobody_knows", again).name == "nobody knows"


def test_what_the_house_measures_needs_no_words_of_the_results(runs: list[Path]) -> None:
    found = compare(runs, manager=MANAGER).results
    assert list(found["measures"]) == ["brier_lm", NAME, f"{NAME}_light"]
    assert "Brier-n in percent" in compare(runs, manager=MANAGER).text()


def test_a_metric_does_not_part_the_seeds_of_a_model(runs: list[Path]) -> None:
    """Whether a metric was asked for changes neither what was trained nor the other numbers."""
    recipe = runs[0] / "resolved.yaml"
    recipe.write_text(recipe.read_text().replace("{draws: 2}", f"{{draws: 2, metrics: [{{name: {NAME}}}]}}"))
    found = compare(runs, manager=MANAGER).results
    assert len(found["cells"]) == 2
    assert found["warnings"] == []


def test_who_lacks_it_and_who_took_it_otherwise_is_said(runs: list[Path], tmp_path: Path) -> None:
    bare = made_run(tmp_path / "bare", 5.0, head="mixture")
    other = measured(tmp_path / "other", 1.0, settings="a=2", head="diffusion")
    warnings = compare([*runs, bare, other], primary=NAME, manager=MANAGER).results["warnings"]
    assert warnings == [
        f"Without warmth, so without a rank: mixture; `calmkit eval RUN evaluation.metrics=[{NAME}]` "
        "measures a run.",
        "Not measured alike: warmth was taken with different settings (a=1; a=2).",
    ]
    with pytest.raises(RunFailed, match=f"No run here was measured by '{NAME}'.*evaluation.metrics="):
        compare([bare], primary=NAME, manager=MANAGER)
    with pytest.raises(RunFailed, match=r"ranked by 'warmt'; did you mean 'warmth'\?  they can by: brier_1"):
        compare(runs, primary="warmt", manager=MANAGER)


def test_few_documents_are_told_as_such(runs: list[Path]) -> None:
    for run in runs:
        table = run / f"evaluation-documents-{NAME}.csv"
        table.write_text("\n".join(table.read_text().splitlines()[:5]) + "\n")
    told = " ".join(in_words(compare(runs, primary=NAME, manager=MANAGER).results))
    assert "no interval over the text (too few documents are common to all)" in told


def test_the_house_comes_by_the_same_door() -> None:
    known = rankable(make_manager([]))
    assert known["brier_lm"].sign == 1
    assert known["nll_per_token"].sign == -1
    assert not any(known[name].asked for name in ("brier_lm", "nll_per_token", "tokens_per_second"))
    assert known["draw_nats"].asked
    assert rankable(MANAGER)[NAME].asked


STUDY = """\
calmkit_study: 1
name: s
base: tiny/energy
grid: {head: [energy, flow]}
seeds: [1]
"""


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            "primary: warmt",
            "CK133.*study can be ranked by 'warmt'.*did you mean 'warmth'.*measures: brier_1",
        ),
        (
            "primary: warmth_light",
            "CK133.*ranked by 'warmth_light', and 'tiny/energy' is not measured by it.*"
            r"write set: \{evaluation.metrics: \[warmth\]\}",
        ),
    ],
)
def test_a_study_that_cannot_be_ranked_is_refused_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(STUDY + more + "\n")
    with pytest.raises(Exception, match=f"(?s){told}"):
        load_study("s.yaml", MANAGER)


def test_a_study_asks_for_a_metric_and_is_ranked_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(STUDY + f"primary: {NAME}\nset: {{evaluation.metrics: [{NAME}]}}\n")
    study = load_study("s.yaml", MANAGER)
    assert study.primary == NAME
    assert [spec.name for spec in study.cells[1].recipes[0].evaluation.metrics] == [NAME]


def test_compare_of_the_command_line_names_what_there_is(runs: list[Path]) -> None:
    answer = CliRunner().invoke(cli, ["compare", *map(str, runs), "--primary", "beauty"])
    assert answer.exit_code != 0
    assert "Runs can't be ranked by 'beauty'" in answer.stderr
    assert "reconstruction_token_accuracy" in answer.stderr
