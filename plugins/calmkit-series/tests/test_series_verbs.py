"""The guest at the door, its contracts, and every verb on it, calmkit as it is."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch
from calmkit_series import SeriesUnits
from calmkit_series.measures import Crps, NatsPerValue, SeriesEnergy
from click.testing import CliRunner

import calmkit
from calmkit.cli.main import cli
from calmkit.interfaces import Measure
from calmkit.recipe.assemble import validate
from calmkit.recipe.errors import RecipeError
from calmkit.registry import Manager, make_manager
from calmkit.sharing.export import export_run
from calmkit.testing import check_autoencoder, check_data_kind, check_measure
from calmkit.training.errors import RunFailed
from calmkit.training.run import Run, load_run

PLUGIN = Path(__file__).parents[1]
RECIPE = PLUGIN / "recipes" / "waves.yaml"
SMALL = (
    "data.train_series=48",
    "data.valid_series=12",
    "data.length=16",
    "data.sequence_length=16",
    "autoencoder.width=2",
    "backbone={name: gru, hidden_dim: 16, depth: 1}",
    "head.depth=1",
    "stages.lm.max_steps=6",
    "stages.lm.eval_every=3",
    "stages.lm.eval_rows=8",
    "stages.lm.batch_size=8",
    "evaluation.max_rows=12",
    "evaluation.batch_size=5",
    "evaluation.draws=4",
    "evaluation.sample_rows=2",
)


def entry_point() -> EntryPoint:
    """The one that pyproject states."""
    text = (PLUGIN / "pyproject.toml").read_text(encoding="utf-8")
    ((name, value),) = tomllib.loads(text)["project"]["entry-points"]["calmkit"].items()
    return EntryPoint(name, value, "calmkit")


def installed() -> Manager:
    """The house with this guest."""
    return make_manager([entry_point()])


def at_the_door(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """What an installed plugin leaves, for this process and its children, where it isn't installed."""
    try:
        distribution("calmkit-series")
        return
    except PackageNotFoundError:
        pass
    left, one = folder / "calmkit_series-0.1.0.dist-info", entry_point()
    left.mkdir(parents=True)
    (left / "METADATA").write_text("Metadata-Version: 2.1\nName: calmkit-series\nVersion: 0.1.0\n")
    (left / "entry_points.txt").write_text(f"[calmkit]\n{one.name} = {one.value}\n")
    patch.syspath_prepend(folder)
    patch.setenv("PYTHONPATH", os.pathsep.join(map(str, sys.path)))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder and a cache of their own, the guest at the door, float32 as users have it."""
    folder = tmp_path_factory.mktemp("series")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALMKIT_CACHE", str(folder / "cache"))
        at_the_door(folder / "door", patch)
        patch.chdir(folder)
        yield folder
    torch.set_default_dtype(before)


def trained(folder: Path, name: str, *overrides: str) -> Run:
    manager = installed()
    recipe = calmkit.load_recipe(RECIPE, [*SMALL, *overrides], manager)
    return calmkit.train(recipe, out=folder / name, say=lambda line: None, manager=manager)


@pytest.fixture(scope="module")
def mixture(workshop: Path) -> Run:
    return trained(workshop, "mixture")


@pytest.fixture(scope="module")
def energy(workshop: Path) -> Run:
    return trained(workshop, "energy", "head={name: energy, num_draws: 4, num_targets: 1, depth: 1}")


def command(*arguments: str) -> str:
    answer = CliRunner().invoke(cli, list(arguments), prog_name="calmkit")
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_the_entry_point_opens_the_door() -> None:
    manager = installed()
    assert manager.rejected == []
    assert manager.find("data_kinds", "series").plugin
    assert {"crps", "crps_best", "nats_per_value", "series_energy"} <= manager.numbers().keys()


@pytest.mark.parametrize("settings", [{}, {"width": 3, "noise": 0.1}, {"width": 1}])
def test_units_keep_their_contract(settings: dict[str, float]) -> None:
    check_autoencoder(SeriesUnits, sizes={"series_length": 12}, **settings)


@pytest.mark.parametrize("measure", [Crps, NatsPerValue, SeriesEnergy])
def test_measures_keep_their_contract(measure: type[Measure]) -> None:
    check_measure(measure)


@pytest.mark.parametrize("overrides", [(), ("autoencoder.noise=0.1", "transforms=[]")])
def test_the_kind_of_data_keeps_its_contract(overrides: tuple[str, ...]) -> None:
    manager = installed()
    check_data_kind("series", calmkit.load_recipe(RECIPE, [*SMALL, *overrides], manager), manager)


def test_your_own_numbers_keep_it_too(tmp_path: Path) -> None:
    lines = [f"{0.1 * time},{(time * 7) % 5}" for time in range(400)]
    (tmp_path / "table.csv").write_text("\n".join(["a,b", *lines]) + "\n", encoding="utf-8")
    data = f"data={{name: series_csv, train: {tmp_path / 'table.csv'}, sequence_length: 16}}"
    mine = [one for one in SMALL if not one.startswith("data.")]
    manager = installed()
    check_data_kind("series", calmkit.load_recipe(RECIPE, [data, *mine], manager), manager)


def test_training_measures_between_the_ceiling_and_the_bars(mixture: Run) -> None:
    found = mixture.evaluation
    assert 0 < found["crps_best"] < found["crps_normal"]
    assert found["crps_low"] < found["crps"] < found["crps_high"]
    assert found["series_energy"] > 0
    assert found["nats_per_value"] > found["nats_per_value_best"]
    assert found["untrained_crps"] > 0
    assert mixture.facts["lm_train_values"] == 6 * 8 * 16
    header, *lines = (mixture.folder / "samples.csv").read_text().splitlines()
    assert header == "row_1,row_2"
    assert len(lines) == 16
    table = (mixture.folder / "evaluation-recordings.csv").read_text().splitlines()
    assert table[0] == "recording,crps,nats_per_value,units"


def test_nats_are_of_the_data_and_not_of_the_scaled_values(mixture: Run) -> None:
    """log p(x) = log p(z) - log scale: the same numbers, whichever road."""
    model = load_run(mixture.folder, installed(), device="cpu").model
    x = torch.randn(3, 8, 2)
    scale = model.transform.transforms[0].scale
    z = model.encode(x).mean
    assert torch.allclose(model.transform(x)[1], -scale.log().sum().expand(3, 8))
    assert torch.allclose(z * scale + model.transform.transforms[0].center, x, atol=1e-5)


def test_a_head_without_a_density_has_no_nats(energy: Run) -> None:
    assert "crps" in energy.evaluation
    assert "nats_per_value" not in energy.evaluation


def test_eval_measures_anew_and_tells_another_protocol(mixture: Run) -> None:
    again = calmkit.evaluate(mixture.folder, ["evaluation.metrics=[]"], installed())
    assert again["crps"] == pytest.approx(mixture.evaluation["crps"])
    assert "crps" in command("eval", str(mixture.folder), "evaluation.draws=3")
    assert len(list(mixture.folder.glob("evaluation-rows*.json"))) == 1


def test_generate_goes_on_from_numbers(mixture: Run) -> None:
    folder = str(mixture.folder)
    first = command("generate", folder, "-p", "0.5,0.4,0.3", "--length", "5")
    assert "the first 1 values of the prompt fill no unit" in first
    numbers = command("generate", folder, "-p", "0.4,0.3", "--length", "5").strip().split(",")
    assert len([float(number) for number in numbers]) == 5
    assert numbers == first.strip().splitlines()[-1].split(",")


def test_generate_writes_a_file_and_reads_one(mixture: Run, tmp_path: Path) -> None:
    out, folder = tmp_path / "made.csv", str(mixture.folder)
    answer = command("generate", folder, "-n", "3", "--length", "4", "--out", str(out))
    assert "3 rows of 4 values" in answer
    header, *lines = out.read_text().splitlines()
    assert header == "row_1,row_2,row_3"
    assert [len(line.split(",")) for line in lines] == [3, 3, 3, 3]
    rows = command("generate", folder, "-p", str(out), "-n", "2", "--length", "4")
    assert [len(row.split(",")) for row in rows.strip().splitlines()] == [4, 4]


def test_an_export_is_a_model_where_the_plugin_is_and_names_it_where_it_is_not(
    mixture: Run, tmp_path: Path
) -> None:
    export_run(mixture, tmp_path / "out", manager=installed(), say=lambda line: None)
    mine, theirs = (calmkit.load(folder, installed()) for folder in (mixture.folder, tmp_path / "out"))
    asked = {"length": 8, "num": 2, "seed": 3}
    assert torch.equal(mine.generate([0.4, 0.3], **asked), theirs.generate([0.4, 0.3], **asked))
    assert "| crps | " in (tmp_path / "out" / "README.md").read_text()
    told = "was made with 'autoencoders/series_units' of the plugin '.*series.*', which is not installed here"
    with pytest.raises(RunFailed, match=told):
        calmkit.load(tmp_path / "out", make_manager([]))


def test_json_is_a_row_a_line_each_that_of_its_seed(mixture: Run, tmp_path: Path) -> None:
    asked = ["generate", str(mixture.folder), "0.4,0.3", "--length", "4", "--json", "--device", "cpu"]
    rows = [json.loads(line) for line in command(*asked, "-n", "3", "--seed", "5").splitlines()]
    assert [(row["index"], row["seed"], row["units"]) for row in rows] == [(0, 5, 2), (1, 6, 2), (2, 7, 2)]
    assert rows[0]["prompt"] == [0.4, 0.3]
    assert rows[0]["settings"]["batch_size"] == 128
    assert rows[0]["settings"]["sampler"]["name"] == "direct"
    batches = command(*asked, "-n", "3", "--seed", "5", "--batch-size", "2").splitlines()
    for row, line in zip(rows, batches, strict=True):
        assert json.loads(line)["values"] == pytest.approx(row["values"], rel=1e-5)
        alone = json.loads(command(*asked, "--seed", str(row["seed"])))
        assert alone["values"] == pytest.approx(row["values"], rel=1e-5)
    out = tmp_path / "made.csv"
    told = json.loads(command(*asked, "--out", str(out)))
    assert told["files"] == [str(out)]
    made = [float(value) for value in out.read_text().split()[1:]]
    assert made == pytest.approx(told["values"], rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "0.1,two"], "'two' is no number"),
        (["-p", "0.1"], "a prompt of 1 values fills no unit; give 2 or more"),
        (["-p", "nowhere.csv"], "nowhere.csv can't be read"),
        (["--condition", "label=3"], "--condition means nothing for series; --prompt, --length, -n, --out,"),
        (["1,2", "-p", "3,4"], "more than one prompt means nothing for series"),
        (["1,2", "--show-units"], "--show-chunks means nothing for series"),
    ],
)
def test_what_series_do_not_have_is_refused(mixture: Run, arguments: list[str], message: str) -> None:
    answer = CliRunner().invoke(cli, ["generate", str(mixture.folder), *arguments], prog_name="calmkit")
    assert answer.exit_code == 2
    assert message in " ".join(answer.output.replace("│", " ").split())


def test_rows_begin_as_those_of_the_data_do(mixture: Run) -> None:
    """An empty prompt gives the first unit the condition that training gave it."""
    model = load_run(mixture.folder, installed(), device="cpu").model
    nothing = torch.zeros(1, 1, 2)
    _, state = model.causal.start(1, 2)
    context, _ = model.causal.step(
        model.embedder(nothing, nothing), torch.zeros(1, 1, dtype=torch.bool), state
    )
    torch.testing.assert_close(context.h[:, -1], model.context(torch.randn(1, 2, 2)).h[:, 0])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("autoencoder.width=3",), "width must divide a row of 16 values"),
        (("autoencoder=token_chunks",), "is built with vocab_size, which data 'series_waves'"),
        (
            ("sampler={name: vote}",),
            "asks which draws of a unit are equal, and the units of autoencoder 'series_",
        ),
        (("sampler={name: rows}",), "draws rows of a fixed number of units"),
        (("tokenizer={name: bytes}",), "which have no tokenizer"),
    ],
)
def test_parts_of_other_kinds_are_refused(overrides: tuple[str, ...], message: str) -> None:
    swapped = {one.partition("=")[0] for one in overrides}
    mine, manager = [one for one in SMALL if one.partition(".")[0] not in swapped], installed()
    with pytest.raises(RecipeError, match=message):
        validate(calmkit.load_recipe(RECIPE, [*mine, *overrides], manager), manager)


def test_compare_ranks_by_the_crps(mixture: Run, energy: Run) -> None:
    found = calmkit.compare([mixture, energy], manager=installed())
    assert found.results["primary"] == "crps"
    for cell in found.results["cells"]:  # by series, from the table beside each evaluation
        assert cell["summary"]["crps"]["text_low"] < cell["summary"]["crps"]["text_high"]
    assert "CRPS" in found.text()


STUDY = """\
calmkit_study: 1
name: heads
description: Two heads on oscillators.
base: {base}
match: {{by: train_flops}}
set: {{{settings}}}
grid:
  head:
    - {{label: mixture, head: mixture}}
    - {{label: energy, head: energy, head.num_targets: 1}}
baseline: mixture
"""


def test_a_study_runs_and_reports(workshop: Path) -> None:
    settings = ", ".join(one.replace("=", ": ", 1) for one in SMALL if not one.startswith("head."))
    text = STUDY.format(base=RECIPE, settings=settings)
    (workshop / "heads.yaml").write_text(text, encoding="utf-8")
    answer = command("study", "run", "heads.yaml")
    assert "CRPS" in answer
    assert (workshop / "runs" / "studies" / "heads" / "report.html").is_file()
