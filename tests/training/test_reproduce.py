"""A run is trained again from its own recipe and compared to the last bit; what differs is named."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from small_runs import SHORT, small_run, workshop

from calmkit.cli.main import cli
from calmkit.training import reproduce as reproduce_module
from calmkit.training.errors import RunFailed
from calmkit.training.outcome import Outcome, measures_time, outcomes
from calmkit.training.reproduce import reproduce
from calmkit.training.run import Run

DEFAULT_DTYPE = torch.float32


@pytest.fixture(autouse=True)
def float32() -> None:
    """As users have it; `conftest.py` puts the default back."""
    torch.set_default_dtype(DEFAULT_DTYPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("reproduce")) as folder:
        small_run(folder, "first", *SHORT, "trainer.log_every=1")
        yield folder


@pytest.fixture
def copy(folder: Path) -> Iterator[Run]:
    shutil.copytree(folder / "first", folder / "copy")
    (folder / "copy" / "run.sha256").unlink()  # its files are changed on purpose
    yield Run(folder / "copy")
    shutil.rmtree(folder / "copy")


@pytest.fixture
def again() -> Iterator[Path]:
    yield Path("again")
    shutil.rmtree("again", ignore_errors=True)


def test_a_run_comes_out_the_same_to_the_last_bit(folder: Path, again: Path) -> None:
    result = CliRunner().invoke(cli, ["reproduce", "first", "--out", "again"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "made with the same versions, plugins, commits, data and machine"
    assert lines[-1] == "reproduced: again is the same to the last bit"
    table = [line.split("\t") for line in lines if "\t" in line]
    assert table[0] == ["what", "compared", "the same", "largest difference", "at"]
    assert [row[0] for row in table[1:]] == ["metrics.csv", "weights", "evaluation.json, config.json"]
    for row in table[1:]:
        assert row[1] == row[2] != "0"
        assert row[3] == "0"
    numbers = sum(tensor.numel() for tensor in load_file("first/model/model.safetensors").values())
    assert table[2][1] == f"{numbers:,}"
    assert Run(again).recipe() == Run(Path("first")).recipe()


def test_what_was_made_otherwise_and_came_out_otherwise_is_told(copy: Run, again: Path) -> None:
    text = (copy.folder / "resolved.yaml").read_text()
    assert "seed: 1\n" in text
    (copy.folder / "resolved.yaml").write_text(text.replace("seed: 1\n", "seed: 2\n", 1))
    lock = (copy.folder / "lock.yaml").read_text()
    version = copy.lock["versions"]["torch"]
    (copy.folder / "lock.yaml").write_text(lock.replace(f'torch: "{version}"', 'torch: "1.0"'))
    result = CliRunner().invoke(cli, ["reproduce", "copy", "--out", "again"])
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == f"made otherwise: versions.torch: 1.0 then, {version} now"
    assert lines[-1] == (
        "not reproduced: metrics.csv, weights, evaluation.json, config.json differ; "
        "made otherwise: versions.torch"
    )


def test_other_data_are_told_before_training(copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = (copy.folder / "lock.yaml").read_text()
    (copy.folder / "lock.yaml").write_text(lock.replace(copy.lock["data"], "f00d"))
    said: list[str] = []

    def stopped(*args: object, **kwargs: object) -> None:
        raise RunFailed("enough")

    monkeypatch.setattr(reproduce_module, "train_again", stopped)
    with pytest.raises(RunFailed, match="enough"):
        reproduce(copy.folder, say=said.append)
    assert [line.partition(" then")[0] for line in said] == ["made otherwise: data: f00d"]


def test_the_threads_of_the_run_are_taken_and_given_back(copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = (copy.folder / "lock.yaml").read_text()
    assert "threads: 1\n" in lock
    (copy.folder / "lock.yaml").write_text(lock.replace("threads: 1\n", "threads: 2\n"))
    seen: list[int] = []

    def watched(*args: object, **kwargs: object) -> None:
        seen.append(torch.get_num_threads())
        raise RunFailed("enough")

    monkeypatch.setattr(reproduce_module, "train_again", watched)
    with pytest.raises(RunFailed, match="enough"):
        reproduce(copy.folder, say=lambda line: None)
    assert (seen, torch.get_num_threads()) == ([2], 1)


def test_what_did_not_end_or_was_imported_is_refused(copy: Run) -> None:
    weights = copy.weights.read_bytes()
    copy.weights.unlink()
    with pytest.raises(RunFailed, match=r"did not end.*`calmkit train .*copy` goes on"):
        reproduce(copy.folder)
    copy.weights.write_bytes(weights)
    (copy.folder / "lock.yaml").write_text('data: "none: imported"\n')
    with pytest.raises(RunFailed, match="was imported, not trained"):
        reproduce(copy.folder)
    (copy.folder / "lock.yaml").unlink()
    with pytest.raises(RunFailed, match=r"has no lock\.yaml"):
        reproduce(copy.folder)


def found(run: Run, again: Run) -> dict[str, Outcome]:
    return {one.what: one for one in outcomes(run, again)}


def test_one_changed_weight_is_found_with_its_size_and_place(folder: Path, copy: Run) -> None:
    first = Run(folder / "first")
    tensors = load_file(str(copy.weights))
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.dim() == 2)
    tensors[name][0, 0] += 0.5
    save_file(tensors, str(copy.weights))
    outcome = found(first, copy)["weights"]
    assert outcome.compared - outcome.equal == 1
    assert outcome.at == name
    assert outcome.largest == pytest.approx(0.5, abs=1e-6)
    assert not outcome.same
    assert found(first, copy)["metrics.csv"].same


def test_a_tensor_that_one_lacks_is_as_far_as_can_be(folder: Path, copy: Run) -> None:
    tensors = load_file(str(copy.weights))
    name, gone = tensors.popitem()
    save_file(tensors, str(copy.weights))
    outcome = found(Run(folder / "first"), copy)["weights"]
    assert (outcome.largest, outcome.at) == (math.inf, name)
    assert outcome.compared - outcome.equal == gone.numel()


def test_a_metric_and_a_number_of_the_evaluation_are_compared_and_times_are_not(
    folder: Path, copy: Run
) -> None:
    path = copy.folder / "metrics.csv"
    lines = path.read_text().splitlines()
    column = lines[0].split(",").index("lm/train/loss")
    row = next(n for n, line in enumerate(lines[1:], 1) if line.split(",")[column])
    cells = lines[row].split(",")
    cells[column] = str(float(cells[column]) + 0.25)
    path.write_text("\n".join([*lines[:row], ",".join(cells), *lines[row + 1 :]]) + "\n")
    evaluation = json.loads((copy.folder / "evaluation.json").read_text())
    evaluation |= {"tokens_per_second": -1.0, "loss": evaluation["loss"] + 3}
    (copy.folder / "evaluation.json").write_text(json.dumps(evaluation))
    outcome = found(Run(folder / "first"), copy)
    metrics, results = outcome["metrics.csv"], outcome["evaluation.json, config.json"]
    assert (metrics.compared - metrics.equal, metrics.at) == (1, f"line {row + 1} lm/train/loss")
    assert metrics.largest == pytest.approx(0.25)
    assert (results.compared - results.equal, results.largest, results.at) == (1, pytest.approx(3), "loss")


def test_lines_that_one_lacks_count(folder: Path, copy: Run) -> None:
    path = copy.folder / "metrics.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    metrics = found(Run(folder / "first"), copy)["metrics.csv"]
    assert metrics.compared - metrics.equal == sum(map(bool, lines[-1].split(",")))
    assert metrics.largest == math.inf


@pytest.mark.parametrize(
    ("name", "is_time"),
    [
        ("tokens_per_second", True),
        ("plain_images_per_second", True),
        ("model.lm_seconds", True),
        ("loss", False),
        ("model.parameters.head", False),
        ("second_best", False),
    ],
)
def test_numbers_of_the_clock_are_known_by_name(name: str, is_time: bool) -> None:
    assert measures_time(name) is is_time
