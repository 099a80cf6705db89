"""What `validate` refuses of the drawing is refused on a finished run too, in the same words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from calmkit.cli.main import cli
from calmkit.recipe.errors import RecipeError
from calmkit.training.run import Run


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def finished(digits: Path, name: str, **conditioner: object) -> Path:
    """The run `first` as if it had been trained with another conditioner, or with none."""
    folder = digits / name
    shutil.copytree(digits / "first", folder, dirs_exist_ok=True)
    (folder / "run.sha256").unlink()  # its recipe is changed on purpose
    said = yaml.safe_load((folder / "resolved.yaml").read_text())
    said["conditioner"] = {"name": "label", **conditioner} if conditioner else None
    said["sampler"]["guidance"] = 1.0  # as training would have asked for
    (folder / "resolved.yaml").write_text(yaml.safe_dump(said))
    return folder


@pytest.mark.parametrize(
    ("verb", "overrides", "said"),
    [
        (
            "eval",
            ["sampler=beam", "sampler.fan=2"],
            "error[CK143]: sampler 'beam' keeps the likeliest rows, and head 'diffusion' knows no density\n",
        ),
        (
            "eval",
            ["sampler=direct", "evaluation.max_rows=20"],
            "error[CK143]: sampler 'direct' chooses among draws of single units, and autoencoder "
            "'patches' decodes whole rows only\n",
        ),
        (
            "generate",
            ["sampler=vote", "sampler.temperature=1"],
            "error[CK143]: sampler 'vote' chooses among draws of single units, and autoencoder "
            "'patches' decodes whole rows only\n  --> command line (sampler=vote)\n",
        ),
    ],
)
def test_a_sampler_that_cannot_draw_these_rows_is_refused_by_name(
    digits: Path, verb: str, overrides: list[str], said: str
) -> None:
    refused(run(verb, "first", *overrides), said)


@pytest.mark.parametrize("verb", ["eval", "generate"])
def test_guidance_without_a_condition_is_refused(digits: Path, verb: str) -> None:
    finished(digits, "flat")
    said = "error[CK143]: sampler 'rows' asks for guidance 3, and the recipe has no conditioner\n"
    refused(run(verb, "flat", "sampler.guidance=3"), said)


@pytest.mark.parametrize("verb", ["eval", "generate"])
def test_guidance_by_a_null_condition_that_was_never_trained_is_refused(digits: Path, verb: str) -> None:
    finished(digits, "whole", drop=0.0)
    said = (
        "error[CK143]: guidance 3 pushes away from the null condition, which training never shows "
        "(conditioner.drop=0)\n  --> command line (sampler.guidance=3)\n"
    )
    refused(run(verb, "whole", "sampler.guidance=3"), said)


def test_a_run_whose_own_sampler_cannot_draw_is_refused_before_a_weight_is_read(digits: Path) -> None:
    folder = finished(digits, "bare", drop=0.0)
    (folder / "resolved.yaml").write_text(
        (folder / "resolved.yaml").read_text().replace("guidance: 1.0", "guidance: 2.0")
    )
    Run(folder).weights.unlink()
    with pytest.raises(RecipeError, match="guidance 2 pushes away from the null condition"):
        Run(folder).load(device="cpu")


def refused(done: Result, said: str) -> None:
    """Wrong usage, told in these words."""
    assert said in done.stderr, done.stderr
    assert (done.exit_code, done.stdout) == (2, "")
    assert "internal error" not in done.stderr
