"""`calmkit resume-check`: what it says of runs that are equal, and of runs that are not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from small_runs import TINY, small_recipe, small_run, workshop

from calmkit.cli.main import cli
from calmkit.training import resume_check
from calmkit.training.errors import RunFailed
from calmkit.training.resume_check import Checked, Compared, compare_runs, shortened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("check")) as folder:
        yield folder


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


def test_a_small_recipe_goes_on_exactly(folder: Path) -> None:
    """Four processes: one undisturbed, and three starts of the other run, each really made."""
    done = CliRunner().invoke(cli, ["resume-check", "small.yaml", *TINY[2:], "--steps", "4", "--at", "3"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line.split()[0] for line in lines if line.rstrip().endswith("equal")] == [
        "weights", "metrics.csv", "samples.txt",
    ]  # fmt: skip
    assert lines[-1].startswith(
        "resume is exact: stopped behind step 3 of stage autoencoder and step 3 of stage lm; "
    )
    assert not (folder / "runs").exists()


def test_what_differs_is_named_and_it_ends_with_1(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = [Compared("weights", "2 tensors, 9 numbers", "1 tensors, by up to 0.5, such as a"),
                Compared("metrics.csv", "8 lines")]  # fmt: skip
    seeds: list[int] = []

    def check(recipe: object, where: Path, *, seed: int, **given: object) -> Checked:
        seeds.append(seed)
        assert where.is_dir()
        return Checked({"lm": 2}, (1.0, 2.0), compared)

    monkeypatch.setattr(resume_check, "resume_check", check)
    done = CliRunner().invoke(cli, ["resume-check", "small.yaml"])
    assert done.exit_code == 1, done.output
    assert "DIFFER: 1 tensors, by up to 0.5, such as a" in done.output
    assert "RESUME IS NOT EXACT: stopped behind step 2 of stage lm; 1 s undisturbed, 2 s" in done.output
    assert f"seed {seeds[0]} (--seed {seeds[0]} stops behind the same steps)" in done.output


def test_a_step_that_is_none_of_the_stage_is_refused() -> None:
    done = CliRunner().invoke(cli, ["resume-check", "small.yaml", "--steps", "4", "--at", "4"])
    assert done.exit_code == 2
    assert "--at 4 is not below the 4 steps of a stage" in done.output


def test_each_kind_of_difference_is_found(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    run = small_run(folder, str(tmp_path / "one"), *TINY, "stages.lm.max_steps=1")
    other = tmp_path / "other"
    shutil.copytree(run.folder, other)
    assert [one.what for one in compare_runs(run.folder, other)] == ["weights", "metrics.csv", "samples.txt"]
    assert not any(one.differs for one in compare_runs(run.folder, other))
    tensors = load_file(str(run.weights))
    name = min(tensors)
    tensors[name].flatten()[0] += 0.25
    save_file(tensors, str(other / "model" / "model.safetensors"))
    lines = (other / "metrics.csv").read_text().splitlines(keepends=True)
    (other / "metrics.csv").write_text("".join([*lines[:2], "0\n", *lines[3:]]))
    (other / "samples.txt").unlink()
    found = {one.what: one.differs for one in compare_runs(run.folder, other)}
    assert found == {
        "weights": f"1 tensors, by up to 0.25, such as {name}",
        "metrics.csv": "from line 3 on",
        "samples.txt": "there in one of them alone",
    }
    (other / "model" / "model.safetensors").unlink()
    with pytest.raises(RunFailed, match=f"{other} holds no weights"):
        compare_runs(run.folder, other)


def test_a_recipe_is_shortened_and_stays_what_it_is(folder: Path) -> None:
    recipe = small_recipe(
        folder, "stages.autoencoder.gate.min=0.5", "trainer.ema=0.9", "evaluation.max_rows=900"
    )
    short = shortened(recipe, 12)
    first, second = short.stages.autoencoder, short.stages.lm
    assert first is not None
    assert second is not None
    assert (first.max_steps, first.eval_every, first.gate) == (12, 4, None)
    assert (second.max_steps, second.eval_every, second.batch_size) == (12, 4, 8)
    assert (short.evaluation.max_rows, short.trainer.ema, short.trainer.log_every) == (64, 0.9, 1)
    assert shortened(small_recipe(folder, "stages.lm=null"), 2).stages.lm is None
