"""Runs side by side: grouped by recipe, named by what differs, refused with one clear sentence each."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_runs import made_evaluation, made_run

from calmkit.cli.main import cli
from calmkit.registry import make_manager
from calmkit.studies.compare import Comparison, compare
from calmkit.studies.compared_runs import grouped, read_runs
from calmkit.studies.kinds import ToldKind
from calmkit.studies.labels import described
from calmkit.studies.rankable import rankable
from calmkit.studies.results import results
from calmkit.studies.run_labels import labelled
from calmkit.studies.schema import read_study
from calmkit.studies.trial_results import TrialRun
from calmkit.text.words import WORDS
from calmkit.training.errors import RunFailed
from calmkit.training.protocol import SCORED, Protocol
from calmkit.training.run import Run

TEXT = ToldKind("text", WORDS)


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two heads, two seeds each."""
    return [
        made_run(tmp_path / f"{head}{seed}", score + seed / 10, seed, head=head)
        for head, score in (("energy", 3.0), ("flow", 7.0))
        for seed in (1, 2)
    ]


def labels(runs: list[Path]) -> list[str]:
    return [model.label for model in labelled(grouped(read_runs(runs)[0]))]


def test_seeds_of_a_recipe_are_one_model(runs: list[Path]) -> None:
    found = compare(runs)
    cells = {cell["label"]: cell for cell in found.results["cells"]}
    assert list(cells) == ["energy", "flow"]
    assert [[t["seed"] for t in cell["trials"]] for cell in cells.values()] == [[1, 2], [1, 2]]
    assert cells["flow"]["difference"]["mean"] == pytest.approx(4.0)
    assert cells["flow"]["difference"]["text_low"] == pytest.approx(4.0)  # all documents are alike
    assert [cell["rank"] for cell in cells.values()] == [[2, 2], [1, 1]]
    assert cells["flow"]["settings"] == {"head.name": "flow"}


def test_runs_may_come_in_any_form_and_order(runs: list[Path]) -> None:
    one = compare([Run(runs[3]), str(runs[0]), runs[2], runs[1]])
    assert [cell["label"] for cell in one.results["cells"]] == ["flow", "energy"]
    assert one.results["baseline"] == "flow"


@pytest.mark.parametrize(
    ("recipes", "expected"),
    [
        ([{"lr": 0.1}, {"lr": 0.2}], ["lr=0.1", "lr=0.2"]),
        ([{"head": "flow"}, {"depth": 4}], ["flow", "energy"]),
        (
            [{"lr": 0.1}, {"steps": 5}, {}],
            ["max_steps=400 lr=0.1", "max_steps=5 lr=0.001", "max_steps=400 lr=0.001"],
        ),
        ([{"name": "alone"}], ["alone"]),
        ([{"name": "a", "loggers": "wandb", "lr": 1}, {"name": "b", "lr": 2}], ["a", "b"]),
        ([{"name": "a", "lr": 1}, {"name": "a", "lr": 2}, {"name": "b", "lr": 3}], ["lr=1", "lr=2", "lr=3"]),
    ],
)
def test_labels_are_short_and_differ(
    tmp_path: Path, recipes: list[dict[str, Any]], expected: list[str]
) -> None:
    found = labels([made_run(tmp_path / str(i), **recipe) for i, recipe in enumerate(recipes)])
    assert sorted(map(sorted, map(str.split, found))) == sorted(map(sorted, map(str.split, expected)))
    assert len(set(found)) == len(recipes)


NORMALISE = "{name: normalise, method: standard, per: dimension, reservoir: 65536}"
ADAPTOR = "{name: adaptor, layers: 4, width: 32}"


def test_a_list_of_parts_is_told_by_their_names(tmp_path: Path) -> None:
    def transformed(**lists: str) -> list[str]:
        made = [made_run(tmp_path / name, float(i)) for i, name in enumerate(lists)]
        for folder, parts in zip(made, lists.values(), strict=True):
            with (folder / "resolved.yaml").open("a") as file:
                file.write(f"transforms: {parts}\n")
        return labels(made)

    found = transformed(a=f"[{NORMALISE}]", b=f"[{NORMALISE}, {ADAPTOR}]", c="[]")
    assert found == ["transforms=normalise", "transforms=normalise,adaptor", "transforms=[]"]
    wider = ADAPTOR.replace("32", "64")
    found = transformed(d=f"[{ADAPTOR}]", e=f"[{wider}]")  # their names alone would tell them not apart
    assert found == [f"transforms=[{ADAPTOR}]", f"transforms=[{wider}]"]


def test_a_key_that_came_after_a_run_has_its_default_there(tmp_path: Path) -> None:
    """Of the corpus, of a section, and of a stage; what it never had, or stands otherwise, stays apart."""
    older, newer = made_run(tmp_path / "a", seed=1), made_run(tmp_path / "b", seed=2)
    text = (newer / "resolved.yaml").read_text()
    text = text.replace("name: text,", "name: text, on_bad: refuse, max_bad: 0.05,")
    text = text.replace("{lr: 0.001}", "{lr: 0.001, betas: [0.9, 0.95]}, eval_rows: 16")
    text += "trainer: {num_nodes: 1}\nsampler: {name: direct}\npredict_first: true\n"
    (newer / "resolved.yaml").write_text(text)
    (model,) = compare([older, newer]).results["cells"]
    assert [trial["seed"] for trial in model["trials"]] == [1, 2]
    (newer / "resolved.yaml").write_text(text.replace("eval_rows: 16", "eval_rows: 8"))
    assert labels([older, newer]) == ["eval_rows=16", "eval_rows=8"]
    (newer / "resolved.yaml").write_text(text + "guest: {strength: 2}\n")
    assert labels([older, newer]) == ["strength=none", "strength=2"]


def told(label: str, seed: int = 1) -> dict[str, Any]:
    """A run that a study trained as this."""
    return {"seed": seed, "description": described("A [small] recipe.", f"{label}, seed {seed}")}


def test_a_run_is_called_as_its_study_called_it(tmp_path: Path) -> None:
    """Whatever sets the recipes apart: `softmax` is a local_ar head of another chunk size."""
    made = [
        made_run(tmp_path / f"{head}{seed}", seed * 1.0, head=head, **told(label, seed))
        for head, label in (("energy", "ours [2]"), ("local_ar", "softmax"))
        for seed in (1, 2)
    ]
    found = compare(made)
    assert labels(made) == ["ours [2]", "softmax"] == [cell["label"] for cell in found.results["cells"]]
    assert [line.split(",")[0] for line in found.csv().splitlines()[1:]] == ["ours [2]", "softmax"]
    for text in (found.text(), found.latex(), found.plot().axes[0].get_yticklabels()[0].get_text()):
        assert "softmax" in text
    own = made_run(tmp_path / "own", head="flow", description="Mine.")  # not of a study: one rule for all
    assert labels([*made, own]) == ["energy", "local_ar", "flow"]


def test_labels_of_studies_that_tell_nothing_apart_are_not_taken(tmp_path: Path) -> None:
    """A cell's recipe that was changed by hand and trained again still says whose it was."""
    made = [made_run(tmp_path / str(lr), lr=lr, **told("energy")) for lr in (0.1, 0.2)]
    assert labels(made) == ["lr=0.1", "lr=0.2"]


def test_a_study_without_labels_and_compare_call_the_same_runs_the_same(tmp_path: Path) -> None:
    """One rule: a head by its name, all else by the shortest key that no other one ends like."""
    text = (
        "calmkit_study: 1\nname: s\nbase: tiny/energy\ngrid:\n  head: [energy, flow]\n"
        "  stages.lm.optimizer.lr: [0.1, 0.2]\n"
    )
    cells = read_study(text, Path("s.yaml"), make_manager(guests=[])).cells
    made = [
        made_run(tmp_path / f"{head}{lr}", head=head, lr=lr)
        for head in ("energy", "flow")
        for lr in (0.1, 0.2)
    ]
    assert labels(made) == ["energy lr=0.1", "energy lr=0.2", "flow lr=0.1", "flow lr=0.2"]
    assert labels(made) == [cell.label for cell in cells]


def test_seeds_built_on_autoencoders_of_their_own_are_one_model(tmp_path: Path) -> None:
    made = [
        made_run(tmp_path / f"{seed}", seed=seed, built_on=f"runs/autoencoders/{seed}") for seed in (1, 2)
    ]
    assert labels(made) == ["mine"]


def test_unequal_cost_and_differing_keys_are_said(tmp_path: Path) -> None:
    """3 TFLOPs of the autoencoder on top of 8 and 4."""
    made = [made_run(tmp_path / "a"), made_run(tmp_path / "b", head="flow", steps=200, flops=4e12)]
    told = compare(made).text().replace("\n  ", " ")
    assert "no comparison at equal cost: training took from 7 TFLOPs (flow) to 11 TFLOPs (energy)" in told
    assert "The recipes differ in head and stages.lm.max_steps." in told
    equal = [made_run(tmp_path / "c", head="flow", flops=8.1e12)]
    assert "training cost the same" in compare([made[0], *equal]).text().replace("\n  ", " ")


def test_other_text_is_warned_of_first(tmp_path: Path) -> None:
    here = made_run(tmp_path / "a")
    there = made_run(tmp_path / "b", data="b.txt", text="beef")
    told = compare([here, there], any_protocol=True).results["warnings"][0]
    assert told == "Not on the same text (data.train): no difference between these scores means anything."
    unseen = made_run(tmp_path / "c", head="flow", text="beef")  # the same file name, another content
    told = compare([here, unseen], any_protocol=True).results["warnings"][0]
    assert "Not on the same text:" in told
    assert compare([here]).results["warnings"] == []
    for folder in (here, there):
        made_evaluation(folder, "evaluation-x.json", 4.0, Protocol("cafe", 256, 128, 2))
    told = compare([here, there]).results["warnings"]
    assert told == ["Measured on the same text, but not trained on the same (data.train)."]


SHARED = Protocol("f00d", 256, 8, 2, "direct()", "32-true", "cpu", length="tokens")


def test_unequal_protocols_are_refused_with_the_cure(tmp_path: Path) -> None:
    """An 8-row score never stands beside 128-row scores by itself."""
    many = [made_run(tmp_path / name, 5.0, head=name) for name in ("energy", "flow")]
    few = made_run(tmp_path / "few", 9.0, head="mixture", rows=8, draws=4)
    with pytest.raises(RunFailed) as refused:
        compare([few, *many])
    first, *lines, last = str(refused.value).split("\n")
    assert first == "These runs were not measured alike, so their scores can't be ranked together:"
    assert lines == [
        f"  max_rows 8, draws 4: {few}",
        f"  max_rows 128, draws 2: {many[0]}, {many[1]}",
        "Measure them alike first:",
        f"  calmkit eval {few} evaluation.max_rows=128 evaluation.draws=2",
    ]
    assert last.startswith("Or compare them all the same with --any-protocol")


def test_other_data_are_refused_with_the_cure_where_there_is_one(tmp_path: Path) -> None:
    here = made_run(tmp_path / "a")
    there = made_run(tmp_path / "b", data="b.txt", text="beef")
    with pytest.raises(RunFailed, match=rf"  calmkit eval {there} data=text data.train=a.txt\nOr"):
        compare([here, there])
    facts = json.loads((there / "model" / "config.json").read_text())
    (there / "model" / "config.json").write_text(json.dumps(facts | {"tokenizer": "another"}))
    with pytest.raises(RunFailed, match="Their tokenizers are not the same, so no evaluation makes"):
        compare([here, there])


def test_a_protocol_that_all_were_measured_by_is_taken(tmp_path: Path) -> None:
    """Own scores 5 on 128 rows and 9 on 8; the first was measured on 8 rows too, and scored 6 there."""
    many = made_run(tmp_path / "many", 5.0, head="energy")
    few = made_run(tmp_path / "few", 9.0, head="flow", rows=8)
    made_evaluation(many, f"evaluation-{SHARED.name}.json", 6.0, SHARED)
    found = compare([many, few]).results
    cells = {cell["label"]: cell for cell in found["cells"]}
    assert list(cells) == ["energy", "flow"]
    assert cells["flow"]["difference"]["mean"] == pytest.approx(9.0 - 6.0)
    assert cells["flow"]["difference"]["text_low"] == pytest.approx(9.0 - 6.0)  # of its own documents
    assert [one["name"] for one in found["protocols"]] == [SHARED.scores]
    assert f"Protocol {SHARED.scores}: at most 8 rows of 256 tokens, 2 draws" in compare([many, few]).text()
    assert f"--protocol={SHARED.scores}" in found["command"]
    assert found["warnings"] == []


def test_a_protocol_by_name(tmp_path: Path) -> None:
    made = [made_run(tmp_path / head, 5.0, head=head) for head in ("energy", "flow")]
    for folder in made:
        made_evaluation(folder, f"evaluation-{SHARED.name}.json", 6.0, SHARED)
    assert compare(made).results["cells"][0]["summary"]["brier_lm"]["mean"] == 5.0  # their own is the first
    for name in (SHARED.name, SHARED.scores, "rows8"):
        found = compare(made, protocol=name).results
        assert found["cells"][0]["summary"]["brier_lm"]["mean"] == 6.0
    with pytest.raises(RunFailed, match=r"Several protocols begin with 'rows': rows128-.*, rows8-.*in full"):
        compare(made, protocol="rows")
    with pytest.raises(RunFailed, match="was not measured by a protocol 'rows9', but by rows128-tokens256-"):
        compare(made, protocol="rows9")


def test_unequal_protocols_all_the_same_are_marked_and_not_ranked_together(tmp_path: Path) -> None:
    many = [made_run(tmp_path / f"{h}{s}", score + s / 10, s, head=h)
            for h, score in (("energy", 3.0), ("flow", 7.0)) for s in (1, 2)]  # fmt: skip
    few = [made_run(tmp_path / f"few{s}", 9.0, s, head="mixture", rows=8) for s in (1, 2)]
    found = compare([*few, *many], any_protocol=True, baseline=many[0])
    cells = {cell["settings"]["head.name"]: cell for cell in found.results["cells"]}
    assert {name: cell["rank"] for name, cell in cells.items()} == {
        "mixture": None, "energy": [2, 2], "flow": [1, 1],
    }  # fmt: skip
    assert cells["mixture"]["difference"] is None
    assert cells["flow"]["difference"]["mean"] == pytest.approx(4.0)
    lines = found.text().splitlines()
    assert [line.split("]")[0] for line in lines[2:5]] == [
        "mixture [a",
        "flow [b",
        "energy [b",
    ]
    assert any(line.startswith("[a] rows8-tokens256-draws2-") for line in lines)
    assert "no model leads" in found.text().replace("\n  ", " ")
    assert found.results["command"].endswith("--any-protocol")
    told = found.csv().splitlines()
    assert told[0].endswith(",protocol")
    assert told[1].rpartition(",")[2].startswith("rows8-tokens256-draws2-")


def test_the_same_model_measured_in_two_ways_is_told_apart_or_refused(tmp_path: Path) -> None:
    first, second = made_run(tmp_path / "a", seed=1), made_run(tmp_path / "b", seed=2, rows=8)
    labels = [cell["label"] for cell in compare([first, second], any_protocol=True).results["cells"]]
    assert [label.partition("-")[0] for label in labels] == ["protocol=rows128", "protocol=rows8"]
    made_evaluation(first, f"evaluation-{SHARED.name}.json", 6.0, SHARED)
    (cell,) = compare([first, second]).results["cells"]  # two seeds of one model, measured alike
    assert [trial["seed"] for trial in cell["trials"]] == [1, 2]


@pytest.mark.parametrize(
    ("recipe", "numbers", "expected"),
    [
        ({}, {}, Protocol("f00d", 256, 128, 2)),  # measured in another way, it would have no untrained score
        ({}, {"untrained_brier_lm": None}, Protocol("f00d", 256, 128, None)),  # so many rows, whatever draws
        ({"rows": 256}, {"untrained_brier_lm": None}, Protocol("f00d", 256, None, None)),
        ({"text": "none: imported"}, {"block_tokens": 64.0}, Protocol(None, 64, 128, 2)),
    ],
)
def test_of_an_older_evaluation_is_known_what_its_numbers_leave_no_doubt_of(
    tmp_path: Path, recipe: dict[str, Any], numbers: dict[str, Any], expected: Protocol
) -> None:
    run = made_run(tmp_path / "a", **recipe)
    evaluation = json.loads((run / "evaluation.json").read_text()) | numbers
    del evaluation["protocol"]
    evaluation = {name: value for name, value in evaluation.items() if value is not None}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    ((read,), _) = read_runs([run])
    assert read.candidate.own == expected
    newer = made_run(tmp_path / "b", head="flow", **recipe)
    told = compare([run, newer], any_protocol=True).results["warnings"]
    assert any(f"How {run} was measured is known in part" in one for one in told) == (
        not expected.known(SCORED)
    )


def test_cells_of_a_study_that_vary_the_protocol_are_marked_and_not_ranked_together(tmp_path: Path) -> None:
    """A grid over evaluation.max_rows does it on purpose; a longer row alone would win."""
    runs = [
        TrialRun(label, seed, made_run(tmp_path / f"{label}{seed}", score + seed / 10, seed, rows=rows), {})
        for label, score, rows in (("short", 3.0, 8), ("long", 5.0, 128), ("longer", 7.0, 128))
        for seed in (1, 2)
    ]
    head = {"study": "rows", "path": "", "description": "", "base": "", "overrides": [],
            "machine_train_flops": 0}  # fmt: skip
    found = results(head, runs, {}, "long", "brier_lm", None, None, known=rankable(make_manager()), kind=TEXT)
    assert [one["cells"] for one in found["protocols"]] == [["short"], ["long", "longer"]]
    short, long, longer = found["cells"]
    assert (short["rank"], long["rank"], longer["rank"]) == (None, [2, 2], [1, 1])
    assert (short["difference"], longer["difference"]["mean"]) == (None, pytest.approx(2.0))
    lines = Comparison(found).text().splitlines()
    assert [line.split()[:2] for line in lines[2:5]] == [["short", "[a]"], ["longer", "[b]"], ["long", "[b]"]]


def test_a_study_says_of_which_trial_it_is_not_known_how_it_was_measured(tmp_path: Path) -> None:
    """Eight rows of a recipe that asks for 96, from before evaluations said how they were measured."""
    folders = [made_run(tmp_path / label, 5.0, head=label, rows=96) for label in ("energy", "flow")]
    old = json.loads((folders[0] / "evaluation.json").read_text())
    old = {k: v for k, v in old.items() if k not in ("protocol", "untrained_brier_lm")} | {"rows": 8.0}
    (folders[0] / "evaluation.json").write_text(json.dumps(old))
    head = {"study": "rows", "path": "", "description": "", "base": "", "overrides": [],
            "machine_train_flops": 0}  # fmt: skip
    runs = [TrialRun(folder.name, 1, folder, {}) for folder in folders]
    known = rankable(make_manager())
    found = results(head, runs, {}, "energy", "brier_lm", None, None, known=known, kind=TEXT)
    (warning,) = found["warnings"]
    assert warning.startswith(f"How {folders[0]} was measured is known in part only")
    assert "warnings" not in results(
        head, runs[1:], {}, "flow", "brier_lm", None, None, known=known, kind=TEXT
    )


def test_what_may_move_numbers_a_little_is_said(tmp_path: Path) -> None:
    here, there = made_run(tmp_path / "a"), made_run(tmp_path / "b", head="flow")
    protocol = Protocol("f00d", 256, 128, 2, "vote()", "bf16-mixed", "cuda")
    made_evaluation(there, "evaluation.json", 5.0, protocol)
    assert compare([here, there]).results["warnings"] == [
        "Scores were computed in different precisions (32-true, bf16-mixed), which may move them a little.",
        "Speeds were measured on different kinds of device (cpu, cuda) and don't compare.",
    ]


def test_another_baseline_by_label_or_by_run(runs: list[Path]) -> None:
    for wished in ("flow", runs[3], str(runs[2])):
        found = compare(runs, baseline=wished)
        assert found.results["baseline"] == "flow"
        assert found.results["cells"][0]["difference"]["mean"] == pytest.approx(-4.0)


def test_the_table_is_a_frame_or_without_pandas_a_list(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    found = compare(runs)
    assert isinstance(found.table, pandas.DataFrame)
    assert found.table.set_index("cell").loc["flow", "difference"] == pytest.approx(4.0)
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert found.table[1]["cell"] == "flow"
    assert found.table[1]["difference"] == pytest.approx(4.0)


def test_every_form_of_it(runs: list[Path], tmp_path: Path) -> None:
    found = compare(runs)
    assert str(found) == found.text()
    for text in (found.text(), found.markdown(), found.latex(), found.csv(), found._repr_html_()):
        assert "flow" in text
    assert len(found.csv().splitlines()) == 3
    assert len(found.csv(per_trial=True).splitlines()) == 5
    assert found._repr_html_().count("<svg") == found._repr_html_().count("<table") == 1
    assert found.report(tmp_path / "page" / "r.html").read_text().count("<h2") == 5
    assert "calmkit compare" in (tmp_path / "page" / "r.html").read_text()


def test_plots_by_name(runs: list[Path]) -> None:
    found = compare(runs)
    assert found.plot().axes[0].get_xlabel() == "BrierLM"
    assert found.plot("cost").axes[0].get_xscale() == "log"
    told = found.plot().get_suptitle().replace("\n", " ")
    assert "rows of 256 tokens, 126 tokens of context on average, 8,128 units" in told
    with pytest.raises(ValueError, match=r"no figure is called 'pie'; there are scores, curves, "):
        found.plot("pie")
    with pytest.raises(ValueError, match=r"hold nothing for the figure 'blocks'; they do for scores, "):
        found.plot("blocks")


def test_what_is_refused(runs: list[Path], tmp_path: Path) -> None:
    unfinished = tmp_path / "unfinished"
    shutil.copytree(runs[0], unfinished)
    (unfinished / "evaluation.json").unlink()
    again = made_run(tmp_path / "again", seed=1)
    for named, told in [
        ([], "nothing to compare"),
        ([tmp_path / "nowhere"], r"no run folder .*nowhere. `calmkit ls runs`"),
        ([runs[0], tmp_path], "is no run folder: it has no resolved.yaml"),
        ([runs[0], unfinished], r"unfinished is not finished: .* Leave it out"),
        ([runs[0], runs[0].parent / "x" / ".." / runs[0].name], "is named twice"),
        ([runs[0], again], r"same recipe with the same seed \(1\)"),
    ]:
        with pytest.raises(RunFailed, match=told):
            compare(named)
    with pytest.raises(RunFailed, match="No model here is called 'mixture'; the baseline is one of energy"):
        compare(runs, baseline="mixture")
    with pytest.raises(RunFailed, match=r"can't be ranked by 'beauty'; they can by: brier_1, .*, tokens_per"):
        compare(runs, primary="beauty")


@pytest.fixture
def study(runs: list[Path], tmp_path: Path) -> Path:
    """The folder of a study that these runs are the trials of."""
    folder = tmp_path / "study"
    folder.mkdir()
    results = compare(runs).results | {
        "study": "heads",
        "match": {"by": "train_flops", "value": 11e12, "unit": "FLOPs"},
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_a_study_is_compared_as_it_is(study: Path) -> None:
    for found in (compare([study]), compare(study)):
        assert isinstance(found, Comparison)
        assert found.results == json.loads((study / "results.json").read_text())


def test_a_study_by_another_measure_or_against_another_cell(study: Path) -> None:
    found = compare([study], baseline="flow").results
    assert (found["study"], found["match"]["by"], found["baseline"]) == ("heads", "train_flops", "flow")
    assert found["cells"][0]["difference"]["mean"] == pytest.approx(-4.0)
    found = compare([study], primary="tokens_per_second").results
    assert found["cells"][0]["summary"]["tokens_per_second"]["mean"] == 900.0


def test_what_is_refused_of_a_study(study: Path, runs: list[Path]) -> None:
    with pytest.raises(RunFailed, match="the folder of a study, which is compared alone"):
        compare([study, runs[0]])
    with pytest.raises(RunFailed, match="which is compared by its own protocol"):
        compare([study], any_protocol=True)
    with pytest.raises(RunFailed, match="No model here is called 'x'"):
        compare([study], baseline="x")
    shutil.rmtree(runs[0])
    with pytest.raises(RunFailed, match=r"is not here\. Call from the folder in which the study ran"):
        compare([study], baseline="flow")
    (study / "results.json").write_text('{"cells": []}')
    with pytest.raises(RunFailed, match="another version of calmkit"):
        compare([study])


@pytest.mark.parametrize(
    ("options", "begins"),
    [
        ([], "comparison: BrierLM as the runs were set up, and the difference to energy"),
        (
            ["--baseline", "flow"],
            "comparison: BrierLM as the runs were set up, and the difference to flow",
        ),
        (["--format", "csv"], "cell,chunk_size,seeds_done"),
        (["--format", "md"], "# comparison"),
        (["--format", "latex"], "% \\usepackage{booktabs} in the preamble"),
        (["--protocol", "rows128"], "comparison: BrierLM as the runs were set up"),
        (["--any-protocol"], "comparison: BrierLM as the runs were set up"),
        (["--primary", "tokens_per_second"], "comparison: tokens/s as the runs were set up"),
    ],
)
def test_the_verb_prints_every_form(runs: list[Path], options: list[str], begins: str) -> None:
    result = CliRunner().invoke(cli, ["compare", *map(str, runs), *options])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(begins)


def test_the_verb_writes_a_page_and_json(runs: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    words = [*map(str, runs), "--json", "--report", str(page)]
    result = CliRunner().invoke(cli, ["compare", *words])
    assert json.loads(result.stdout)["baseline"] == "energy"
    assert page.read_text().startswith("<!doctype html>")


def test_the_verb_needs_a_run() -> None:
    assert CliRunner().invoke(cli, ["compare"]).exit_code == 2
