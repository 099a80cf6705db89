"""The verbs on a run of images: a grid for a label, a table with the bars beside, costs by image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from calmkit.cli.main import cli


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as grid:
        assert grid.format == "PNG"
        return grid.size


def side(cells: int) -> int:
    """Digits are shown 8 times as large, with a line between and around them."""
    return cells * 68 + 4


def test_a_grid_of_a_label_is_written_the_same_for_the_same_seed(digits: Path) -> None:
    asked = ["generate", "first", "--condition", "label=3", "-n", "16", "--device", "cpu"]
    done = run(*asked, "--out", "one.png")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "16 images: one.png\n", "")
    assert size(digits / "one.png") == (side(8), side(2))
    run(*asked, "--out", "two.png")
    assert (digits / "one.png").read_bytes() == (digits / "two.png").read_bytes()
    run(*asked, "--out", "two.png", "--seed", "1")
    assert (digits / "one.png").read_bytes() != (digits / "two.png").read_bytes()  # and it is overwritten
    assert not list(digits.glob(".*.tmp"))
    run("generate", "first", "--condition", "label=4", "-n", "16", "--device", "cpu", "--out", "two.png")
    assert (digits / "one.png").read_bytes() != (digits / "two.png").read_bytes()


def test_json_says_what_was_drawn_and_where(digits: Path) -> None:
    asked = ["generate", "first", "-n", "3", "--device", "cpu", "--seed", "2", "--out", "one.png"]
    done = CliRunner().invoke(cli, [*asked, "--json"], input="a line that is no prompt\n")
    told = json.loads(done.stdout)
    seconds, settings = told.pop("seconds"), told.pop("settings")
    assert told == {"files": ["one.png"], "num": 3, "labels": ["0", "1", "2"], "seed": 2}
    assert seconds > 0
    assert settings["sampler"]["name"] == "rows"
    assert settings["order"]["name"] == "random"
    assert (settings["run"], settings["device"], settings["batch_size"]) == ("first", "cpu", 128)
    whole = (digits / "one.png").read_bytes()
    told = json.loads(run(*asked, "--json", "--condition", "label=7", "--batch-size", "2").stdout)
    assert (told["labels"], told["settings"]["batch_size"]) == (["7", "7", "7"], 2)
    run(*asked, "--batch-size", "3")
    assert (digits / "one.png").read_bytes() == whole
    run(*asked, "--batch-size", "2")  # images that are drawn together share their random numbers
    assert (digits / "one.png").read_bytes() != whole


def test_sixteen_images_are_drawn_into_grid_png_unless_something_else_is_asked(digits: Path) -> None:
    done = run("generate", "first", "--device", "cpu")
    assert (done.exit_code, done.stdout) == (0, "16 images: grid.png\n")
    assert size(digits / "grid.png") == (side(8), side(2))
    assert run("generate", "first", "-n", "3", "--device", "cpu").stdout == "3 images: grid.png\n"
    assert size(digits / "grid.png") == (side(3), side(1))
    assert run("generate", "first", "-n", "0").exit_code == 2


def test_overrides_change_sampler_and_order_and_nothing_else(digits: Path) -> None:
    asked = ["generate", "first", "-n", "2", "--device", "cpu"]
    run(*asked, "--out", "one.png")
    for word in ("sampler.guidance=1.0", "order.steps=4", "sampler.num_steps=1"):
        done = run(*asked, word, "--out", "two.png")
        assert done.exit_code == 0, done.stderr
        assert (digits / "one.png").read_bytes() != (digits / "two.png").read_bytes(), word
    done = run(*asked, "head.num_steps=3")
    assert done.exit_code == 2
    assert "sampler" in done.stderr
    done = run(*asked, "order.steps=5")
    assert done.exit_code != 0
    assert "steps is 5, yet only 4 units are to be drawn" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--condition", "label=12"],
            "there is no label '12'; there are 0 to 9: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        ),
        (["--condition", "label=-1"], "there is no label '-1'; there are 0 to 9"),
        (["--condition", "label=cat"], "there is no label 'cat'; there are 0 to 9"),
        (["--condition", "colour=red"], "there is no condition 'colour'; images have: label"),
        (["--condition", "label"], "--condition is NAME=VALUE, such as label=3; got 'label'"),
        (
            ["--prompt", "a seven"],
            "--prompt means nothing for images; --condition, -n, --out, --batch-size, --json and --seed do",
        ),
        (["a seven"], "--prompt means nothing for images"),
        (["--length", "9"], "--length means nothing for images"),
        (["--show-chunks"], "--show-chunks means nothing for images"),
        (["--no-stream"], "--no-stream means nothing for images"),
        (["--interactive"], "--interactive asks for prompts, which mean nothing for images"),
        (["-n", "2", "--batch-size", "0"], "0 is not in the range x>=1"),
        (
            ["--condition", "label=3", "--condition", "label=4"],
            "--condition names 'label' twice, 3 and 4; one run of generate has one",
        ),
    ],
)
def test_what_images_do_not_have_is_wrong_usage_with_the_cure(
    digits: Path, words: list[str], said: str
) -> None:
    done = run("generate", "first", "--device", "cpu", "--out", "never.png", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (digits / "never.png").exists()


@pytest.mark.parametrize(("out", "cure"), [("b.jpg", "b.png"), ("b", "b.png"), ("b.tar.gz", "b.tar.png")])
def test_a_file_that_is_not_called_png_is_refused_before_an_image_is_drawn(
    digits: Path, monkeypatch: pytest.MonkeyPatch, out: str, cure: str
) -> None:
    monkeypatch.delattr("calmkit.images.front.draw_rows")
    done = run("generate", "first", "-n", "1", "--device", "cpu", "--out", out)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"--out is written as PNG, got '{out}'; {cure} would do" in done.stderr
    assert not (digits / out).exists()


def test_capitals_in_png_are_the_same_format(digits: Path) -> None:
    assert run("generate", "first", "-n", "1", "--device", "cpu", "--out", "B.PNG").exit_code == 0
    assert size(digits / "B.PNG") == (side(1), side(1))


def test_a_place_that_cannot_be_written_is_told(digits: Path) -> None:
    (digits / "file").write_text("no folder")
    done = run("generate", "first", "-n", "1", "--device", "cpu", "--out", "file/grid.png")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "file/grid.png could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    (digits / "folder.png").mkdir(exist_ok=True)
    done = run("generate", "first", "-n", "1", "--device", "cpu", "--out", "folder.png")
    assert done.exit_code == 1
    assert "folder.png could not be written" in done.stderr
    assert not [path for path in digits.iterdir() if path.name.endswith(".tmp")]


def test_eval_prints_a_table_with_the_bars_beside(digits: Path) -> None:
    shutil.copytree(digits / "first", digits / "copy", dirs_exist_ok=True)
    done = run("eval", "copy")
    assert done.exit_code == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    beside = ["low", "high", "floor", "bar gaussian", "bar copy"]
    assert lines[0] == ["measure", "value", *beside]
    table = {line[0]: line[1:] for line in lines[1:]}
    kept = json.loads((digits / "copy" / "evaluation.json").read_text())
    bars = ("fd_floor", "bar_gaussian_fd", "bar_copy_fd")
    assert table["fd"] == [f"{kept[n]:.6g}" for n in ("fd", "fd_low", "fd_high", *bars)]
    assert table["kd"][3] == ""  # nobody measures the floor of that
    assert table["kd"][4] == f"{kept['bar_gaussian_kd']:.6g}"
    assert not [name for name in table if name.startswith("bar_") or name.endswith(("_low", "_high"))]
    assert table["leaked_images"][0] == "0"


def test_plan_counts_by_image(digits: Path) -> None:
    done = run("plan", "digits.yaml")
    assert done.exit_code == 0, done.stderr
    assert "FLOPs per image with one draw per unit" in done.stdout
    assert "images per step" in done.stdout
    assert "token" not in done.stdout
    counted = json.loads(run("plan", "first", "--json").stdout)
    assert counted["stages"]["lm"]["images"] == 16
    assert "inference_flops_per_image" in counted
