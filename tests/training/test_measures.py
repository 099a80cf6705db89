"""Metrics that a recipe asks for: measured beside everything else, and changing none of it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from small_runs import SHORT, column, rows_of, small_recipe, small_run, tensors, workshop
from torch import Tensor

from calmkit.data.cache import default_cache
from calmkit.interfaces import DensityHead, HeldOut, HeldOutMeasure, Measure, MeasureInfo, Number, stored_name
from calmkit.metrics.unit_means import UnitMeans
from calmkit.recipe.assemble import assemble, validate
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.parts import build_corpus
from calmkit.registry import Manager, Part, make_manager
from calmkit.studies.trial_results import curve
from calmkit.text.prepare import prepare_data
from calmkit.text.words import WORDS
from calmkit.training.evaluate import evaluate
from calmkit.training.measures import Asked, asked_measures
from calmkit.training.progress import Progress
from calmkit.training.run import Run, load_run
from calmkit.training.standing import StandingFile, read_standing

TIMED = ("tokens_per_second", "plain_tokens_per_second")
WIDTH = Number("width", better="lower", meaning="Of draws.")


class Width(HeldOutMeasure):
    """Mean squared distance of draws from their mean, and how much randomness it used up.

    Args:
        factor: Of the distance.
    """

    info = MeasureInfo({"": WIDTH, "noise": WIDTH})

    def __init__(self, *, factor: float = 1.0) -> None:
        if factor <= 0:
            raise ValueError(f"width: factor must be above 0, got {factor}")
        self.factor = factor

    def metric(self) -> torchmetrics.Metric:
        return UnitMeans("", "noise")

    def update(self, metric: torchmetrics.Metric, held: HeldOut) -> None:
        metric.update(held, self.factor * self.width(held), torch.rand(len(held.data)))

    def width(self, held: HeldOut) -> Tensor:
        return held.draws().double().var(0).flatten(1).sum(-1)


class Density(Width):
    """Needs a density."""

    info = MeasureInfo({"": WIDTH, "noise": WIDTH}, needs=(DensityHead,))


class Fails(Width):
    """Raises."""

    def width(self, held: HeldOut) -> Tensor:
        raise RuntimeError(f"no such thing in {len(held.data)} units\nand more")


class Silent(Width):
    """Computes less than it says."""

    def metric(self) -> torchmetrics.Metric:
        return UnitMeans("other", "noise")


class NotFinite(Width):
    """Its noise is NaN."""

    def update(self, metric: torchmetrics.Metric, held: HeldOut) -> None:
        metric.update(held, self.width(held), torch.full((len(held.data),), float("nan")))


class Loss(Width):
    """Yields a number that every evaluation holds."""

    info = MeasureInfo(WIDTH)

    def __init__(self) -> None:
        super().__init__()

    def metric(self) -> torchmetrics.Metric:
        return torchmetrics.MeanMetric()

    def update(self, metric: torchmetrics.Metric, held: HeldOut) -> None:
        metric.update(self.width(held))


class OnTheWay(Width):
    """Cheap enough for every validation."""

    info = MeasureInfo({"": WIDTH, "noise": WIDTH}, on_the_way=True)


class FailsOnTheWay(Fails):
    """Raises there too."""

    info = MeasureInfo({"": WIDTH, "noise": WIDTH}, on_the_way=True)


GUESTS: dict[str, type[Measure]] = {
    "width": Width, "density": Density, "fails": Fails, "silent": Silent, "loss": Loss,
    "not_finite": NotFinite, "other": Width, "on_the_way": OnTheWay, "fails_on_the_way": FailsOnTheWay,
}  # fmt: skip


def house() -> Manager:
    manager = make_manager([])
    manager.parts["metrics"] |= {name: Part("metrics", name, cls, "guest") for name, cls in GUESTS.items()}
    return manager


MANAGER = house()


@pytest.fixture(autouse=True)
def float32() -> None:
    """As users have it; `conftest.py` puts the default back."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("measures")) as folder:
        yield folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """Measured at its end, without a metric."""
    made = small_run(folder, "run", *SHORT, "evaluation.max_rows=12", manager=MANAGER)
    (made.folder / "run.sha256").unlink()  # files of it are changed on purpose
    return made


def untimed(scores: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scores.items() if name not in TIMED}


def measured(run: Run, metrics: str) -> tuple[dict[str, Any], list[str]]:
    """The evaluation with these metrics, and what was said."""
    said: list[str] = []
    kept = (run.folder / "evaluation.json").read_text()
    scores = evaluate(run.folder, [f"evaluation.metrics={metrics}"], MANAGER, said.append)
    (run.folder / "evaluation.json").write_text(kept)
    return scores, said


def test_asking_for_a_metric_changes_no_other_number(run: Run) -> None:
    before = untimed(run.evaluation)
    scores, said = measured(run, "[width, loss]")
    added = [name for name in scores if name not in run.evaluation]
    assert {name: value for name, value in untimed(scores).items() if name not in added} == before
    ends = ["", "_se", "_low", "_high", "_noise", "_noise_se", "_noise_low", "_noise_high", "_units"]
    assert added == [f"width{end}" for end in [*ends, "_blocks", "_settings"]]
    assert said[:-1] == ["'loss' of a metric is left out: every evaluation holds a number of that name"]
    assert scores["width_settings"] == "factor=1.0"
    assert scores["width_low"] <= scores["width"] <= scores["width_high"]


def test_a_metric_has_the_same_number_whatever_else_is_asked_for(run: Run) -> None:
    alone = measured(run, "[width]")[0]
    among = measured(run, "[loss, {name: width, factor: 1}, fails]")[0]
    names = [name for name in alone if name.startswith("width")]
    assert {name: among[name] for name in names} == {name: alone[name] for name in names}
    twice = measured(run, "[{name: width, factor: 2}]")[0]
    assert twice["width"] == pytest.approx(2 * alone["width"])
    assert twice["width_noise"] == alone["width_noise"]


def test_the_end_of_training_measures_as_eval_does(folder: Path, run: Run) -> None:
    lines: list[str] = []
    asked = "evaluation.metrics=[width, density]"
    again = small_run(
        folder, "asked", *SHORT, "evaluation.max_rows=12", asked, manager=MANAGER, say=lines.append
    )
    names = [name for name in again.evaluation if name.startswith("width")]
    scores = measured(run, "width")[0]
    assert {name: again.evaluation[name] for name in names} == {name: scores[name] for name in names}
    assert untimed(run.evaluation).items() <= untimed(again.evaluation).items()
    assert "metric 'density' is left out: the head is no DensityHead" in lines


def test_what_fails_is_left_out_with_a_sentence_and_the_rest_stays(run: Run) -> None:
    scores, said = measured(run, "[fails, width, silent]")
    assert "width" in scores
    assert not any(name.startswith(("fails", "silent")) for name in scores)
    assert any(line.startswith("metric 'fails' is left out: RuntimeError: no such thing in") for line in said)
    assert "and more" not in "".join(said)
    assert any("'silent' is left out: ValueError: its metric computes" in line for line in said)


def test_a_number_that_is_not_finite_is_left_out_with_a_sentence(run: Run) -> None:
    scores, said = measured(run, "[not_finite, width]")
    assert "width" in scores
    assert not any(name.startswith("not_finite") for name in scores)
    line = (
        "metric 'not_finite' is left out: ValueError: not_finite_noise is nan, which is no number to rank by"
    )
    assert line in said


def test_an_interval_that_nobody_knows_is_not_stored(run: Run) -> None:
    scores = evaluate(run.folder, ["evaluation.max_rows=1", "evaluation.metrics=[width]"], MANAGER)
    assert scores["width_blocks"] == 1
    assert scores["width"] > 0
    assert not any(f"width{end}" in scores for end in ("_se", "_low", "_high", "_noise_se"))


def test_the_table_by_document_adds_up_and_does_not_outlive_its_evaluation(run: Run) -> None:
    scores, _ = measured(run, "[width]")
    path = run.folder / "evaluation-documents-width.csv"
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["document", "width", "width_noise", "units"]
    units = sum(float(line["units"]) for line in lines)
    assert units == scores["width_units"]
    assert sum(float(line["width"]) for line in lines) / units == pytest.approx(scores["width"], rel=1e-6)
    evaluate(run.folder, (), MANAGER)
    assert not path.exists()
    assert (run.folder / "evaluation-documents.csv").exists()


@pytest.mark.parametrize("protocol", [[], ["evaluation.draws=3"]])
def test_asking_for_one_metric_loses_no_other(run: Run, tmp_path: Path, protocol: list[str]) -> None:
    copy = Run(shutil.copytree(run.folder, tmp_path / "copy"))
    said: list[str] = []

    def numbers(name: str, metrics: str) -> dict[str, Any]:
        said.clear()
        scores = evaluate(copy.folder, [f"evaluation.metrics={metrics}", *protocol], MANAGER, said.append)
        return {key: value for key, value in scores.items() if key.startswith(name)}

    width = numbers("width", "[width]")
    path = Path(said[-1].removeprefix("written to ").partition(":")[0])
    table = path.with_name(f"{path.stem}-documents-width.csv")
    before = table.read_text()
    for metrics in ("[other, fails]", "[]"):
        assert numbers("width", metrics) == width
        assert table.read_text() == before
        assert "metric 'width' is not measured anew: its earlier numbers stay" in said
    assert "other_noise" in numbers("other", "[]")
    again = numbers("width", "[{name: width, factor: 2}]")
    assert list(again) == list(width)
    assert again["width"] == pytest.approx(2 * width["width"])
    assert table.read_text() != before
    evaluate(copy.folder, protocol, make_manager([]))  # whose plugin has gone
    assert json.loads(path.read_text())["width"] == again["width"]
    old = json.loads(path.read_text())
    path.write_text(json.dumps({**old, "protocol": {**old["protocol"], "name": "another"}}))
    assert numbers("width", "[]") == {}
    assert not table.exists()


def test_a_run_is_read_without_the_plugin_of_its_metric(run: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(run.folder, tmp_path / "copy"))
    path = copy.folder / "resolved.yaml"
    told = path.read_text()
    path.write_text(told.replace("metrics: []", "metrics: [{name: width, factor: 1.0}]"))
    assert path.read_text() != told
    assert copy.recipe(MANAGER).evaluation.metrics[0].name == "width"
    bare = make_manager([])
    assert load_run(copy.folder, bare, device="cpu").generate("the", max_tokens=4)
    cure = "install the plugin that has it, or leave it out: evaluation.metrics=[]"
    with pytest.raises(RecipeError, match=r"CK120.*unknown metric 'width'") as caught:
        evaluate(copy.folder, (), bare)
    assert cure in str(caught.value)
    assert "brier_lm" in evaluate(copy.folder, ["evaluation.metrics=[]"], bare)


def test_measuring_leaves_randomness_and_weights(folder: Path) -> None:
    recipe = small_recipe(folder, "evaluation.metrics=[width]", manager=MANAGER)
    model = assemble(recipe, MANAGER, {"vocab_size": 257}).eval()
    tokenizer = MANAGER.build("tokenizers", "bytes", {})
    prepared = prepare_data(build_corpus(recipe, MANAGER), tokenizer, default_cache())
    data = rows_of(recipe, prepared, model, 1, 6)
    before, weights = torch.get_rng_state(), [p.clone() for p in model.parameters()]
    told = StandingFile(Path("told.json"))
    first = asked_measures(recipe, MANAGER, model, data, Progress(file=told, terminal=False)).scores
    standing = read_standing(Path("told.json"))
    assert standing is not None
    assert standing.phase == "metrics"
    assert torch.equal(torch.get_rng_state(), before)
    assert str(asked_measures(recipe, MANAGER, model, data).scores) == str(first)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


def test_another_metric_keeps_what_was_measured_before_the_first_step(folder: Path) -> None:
    whole = small_run(folder, "untrained", *SHORT[:2], manager=MANAGER)
    assert "untrained_brier_lm" in evaluate(whole.folder, ["evaluation.metrics=[width]"], MANAGER)


def test_impossible_settings_are_refused_before_anything_is_read(folder: Path) -> None:
    for metrics, told in [
        ("[{name: width, factor: -1}]", r"CK145.*metric 'width': factor must be above 0, got -1"),
        ("[brier]", r"CK133.*'brier' is in every evaluation .*no recipe asks for it"),
    ]:
        recipe = small_recipe(folder, f"evaluation.metrics={metrics}", manager=MANAGER)
        with pytest.raises(RecipeError, match=told):
            validate(recipe, MANAGER)


def test_names_that_are_taken_are_told_once() -> None:
    asked = Asked({"a": 1.0, "b": 2.0})
    assert asked.beside({"a": 3.0, "c": 4.0}) == {"a": 3.0, "c": 4.0, "b": 2.0}
    assert asked.notes == ["'a' of a metric is left out: every evaluation holds a number of that name"]


def test_a_cheap_metric_is_taken_at_every_validation_and_changes_nothing_there(folder: Path) -> None:
    few = [*SHORT[:1], "stages.lm.max_steps=4", "stages.lm.eval_every=2", "evaluation.untrained=false"]
    plain = small_run(folder, "plain", *few, manager=MANAGER)
    asked = "evaluation.metrics=[on_the_way, width, fails_on_the_way, latent_energy]"
    run = small_run(folder, "way", *few, asked, manager=MANAGER)
    assert len(column(run, "lm/val/on_the_way")) == 2
    assert len(column(run, "lm/val/latent_energy_relative")) == 2
    columns = (run.folder / "metrics.csv").read_text().split("\n", 1)[0].split(",")
    own = {"on_the_way", "on_the_way_noise"}
    own |= {stored_name("latent_energy", key) for key in ("", "relative", "spread", "within", "gaussian")}
    before = (plain.folder / "metrics.csv").read_text().split("\n", 1)[0].split(",")
    assert set(columns) - set(before) == {f"lm/val/{name}" for name in own}
    for name in before:
        assert column(run, name) == column(plain, name)
    assert all(torch.equal(a, b) for a, b in zip(tensors(run).values(), tensors(plain).values(), strict=True))
    found = run.evaluation
    share = found["latent_energy"] / found["latent_energy_spread"]
    assert found["latent_energy_relative"] == pytest.approx(share)
    points = curve(run, run.facts, found, WORDS, ["latent_energy_relative", "width"])
    assert [point["latent_energy_relative"] for point in points] == [
        column(run, "lm/val/latent_energy_relative")[0], found["latent_energy_relative"],
    ]  # fmt: skip
    assert not any("width" in point for point in points)  # measured at the end alone
