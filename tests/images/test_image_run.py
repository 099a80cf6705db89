"""A run of images from recipe to numbers, and what another run may build upon it."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_digits import digits_run
from small_images import pixels, write_idx, write_picture

import calmkit
from calmkit.interfaces import DataError
from calmkit.registry import make_manager
from calmkit.sharing.export import export_run
from calmkit.training.errors import RunFailed
from calmkit.training.evaluate import evaluate
from calmkit.training.run import Run
from calmkit.training.snapshots import newest_snapshot, stage_folder


def numbers(path: Path) -> dict[str, float]:
    return {name: value for name, value in json.loads(path.read_text()).items() if name != "protocol"}


def test_a_run_ends_with_its_numbers_its_grid_and_its_lines(
    digits: Path, trained_digits: tuple[Path, list[str]]
) -> None:
    from PIL import Image

    run, said = Run(digits / "first"), trained_digits[1]
    found = numbers(run.folder / "evaluation.json")
    assert found["fd_low"] < found["fd"] < found["fd_high"]
    assert all(math.isfinite(value) for value in found.values())
    for name in ("fd_floor", "bar_gaussian_fd", "bar_copy_fd", "kd", "precision", "recall", "class_accuracy"):
        assert name in found
    assert found["fd_floor"] < found["fd"]  # two steps don't make a model as good as the data
    assert found["images_per_second"] > 0
    assert found["leaked_images"] == 0
    with Image.open(run.folder / "samples.png") as grid:  # 20 digits, a column for each label
        assert grid.size == (10 * 68 + 4, 2 * 68 + 4)
    assert "data: 1,442 training and 355 held-out images, 1 x 8 x 8 of 10 classes" in said
    assert f"Frechet distance {found['fd']:.3f} (95 % " in "\n".join(said)
    facts = run.facts
    assert facts["image_shape"] == [1, 8, 8]
    assert facts["lm_train_images"] == 2 * 8
    assert facts["label_names"] == [str(label) for label in range(10)]


@pytest.mark.parametrize(
    "transforms",
    [
        "[normalise,{name: patchify, patch: 2}]",  # a quarter of the units, of four times the width
        "[{name: adaptor, blocks: 2, width: 8}]",  # learned with the model, keeps no Gaussian
    ],
)
@pytest.mark.parametrize("order", ["any", "causal"])
def test_every_transform_is_trained_measured_and_undone(digits: Path, transforms: str, order: str) -> None:
    given = ["autoencoder.patch=2", f"transforms={transforms}", "evaluation.max_rows=20"]
    if order == "causal":
        given += ["backbone=transformer", "backbone.hidden_dim=16", "backbone.depth=1", "backbone.heads=2"]
        given += ["order=null", "head=mixture", "head.num_components=2", "sampler.guidance=1"]
    folder = f"{order}-{'patchify' if 'patchify' in transforms else 'adaptor'}"
    run = digits_run(digits, folder, *given)
    assert math.isfinite(run.evaluation["fd"])
    assert run.load(device="cpu").generate(3).shape == (3, 1, 8, 8)
    assert ("nats_per_dim" in run.evaluation) == (order == "causal")


def test_a_curve_is_kept_on_the_way(digits: Path) -> None:
    with (digits / "first" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["lm/val/fd"]]
    assert len(rows) == 1
    assert float(rows[0]["lm/val/fd"]) > 0


def test_a_second_evaluation_gives_the_same_numbers(digits: Path) -> None:
    before = numbers(digits / "first" / "evaluation.json")
    again = evaluate(digits / "first", manager=make_manager(guests=[]))
    for name in before:
        if name != "images_per_second":
            assert again[name] == pytest.approx(before[name], rel=1e-6), name
    assert numbers(digits / "first" / "evaluation.json").keys() == before.keys()


def test_the_drawn_images_do_not_depend_on_the_size_of_a_batch(digits: Path) -> None:
    before = numbers(digits / "first" / "evaluation.json")
    other = evaluate(digits / "first", ["evaluation.batch_size=7"], manager=make_manager(guests=[]))
    for name in ("fd", "fd_low", "kd", "precision", "recall", "class_accuracy", "nearest_ratio"):
        assert other[name] == pytest.approx(before[name], rel=1e-5), name


def test_the_saved_model_is_the_average_and_its_transform_is_fitted_to_the_training_split(
    digits: Path,
) -> None:
    """Of 40,000 values and more with a noise of 0.1, so the mean may be off by 0.002."""
    from safetensors.torch import load_file

    held = load_file(str(Run(digits / "first").weights))
    name = next(name for name in held if name.endswith("center"))
    from calmkit.images.corpora.digits import DigitsCorpus

    images = DigitsCorpus().images("train").pixels / 127.5 - 1  # [N, 1, 8, 8]
    patches = images.reshape(-1, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 16)
    np.testing.assert_allclose(held[name].numpy(), patches.mean(0), atol=0.02)
    kept = newest_snapshot(stage_folder(digits / "first", "lm"), print)
    assert kept is not None
    average = {key: value for key, value in kept.tensors.items() if key.startswith("average.model.")}
    for key, value in average.items():
        assert torch.equal(held[key.removeprefix("average.model.")], value), key
    trained = {key: kept.tensors[key.replace("average.model.", "weights.")] for key in average}
    assert average
    assert not all(torch.equal(trained[key], value) for key, value in average.items())


def test_an_export_draws_the_same_images_to_the_last_bit(digits: Path) -> None:
    export_run(Run(digits / "first"), digits / "exported", say=lambda line: None)
    mine, theirs = (calmkit.load(digits / name) for name in ("first", "exported"))
    asked: dict[str, Any] = {"condition": {"label": "3"}, "seed": 5}
    assert torch.equal(mine.generate(4, **asked), theirs.generate(4, **asked))
    assert (digits / "exported" / "images.json").is_file()
    found = numbers(digits / "first" / "evaluation.json")
    card = (digits / "exported" / "README.md").read_text()
    assert f"| fd | {found['fd']:.6g} | {found['fd_low']:.6g} | {found['fd_high']:.6g} |" in card


def test_another_run_goes_on_from_its_weights(digits: Path) -> None:
    said: list[str] = []
    start = ["stages.lm.init_from=first", "stages.lm.optimizer.lr=1e-30", "trainer.ema=null"]
    run = digits_run(digits, "second", *start, say=said.append)
    assert "stage 2 continues the weights of first" in said
    first, second = (numbers(digits / one / "evaluation.json") for one in ("first", "second"))
    assert second["fd"] == pytest.approx(first["fd"], rel=1e-4)  # steps of 1e-30 change nothing
    assert run.facts["lm_steps"] == 2


def test_a_run_of_other_images_or_other_units_is_refused_before_a_step(digits: Path) -> None:
    write_idx(digits / "images.idx", pixels(60, 12, 12))
    write_idx(digits / "labels.idx", np.arange(60, dtype=np.uint8) % 10)
    other = f"data={{name: idx, train_images: {digits}/images.idx, train_labels: {digits}/labels.idx}}"
    with pytest.raises(RunFailed, match=r"its image_shape is \[1, 8, 8\], this recipe's is \[1, 12, 12\]"):
        digits_run(digits, "third", other, "stages.lm.init_from=first")
    with pytest.raises(RunFailed, match=r"its event is \[16\], this recipe's is \[4\]"):
        digits_run(digits, "third", "autoencoder.patch=2", "stages.lm.init_from=first")
    assert not (digits / "third").exists()


def test_images_of_mixed_sizes_are_refused_with_the_cure(digits: Path) -> None:
    for number in range(12):
        side = 8 if number != 7 else 10
        values = pixels(1, side, side, seed=number)[0]
        write_picture(digits / "mixed" / "ab"[number % 2] / f"{number}.png", values)
    with pytest.raises(DataError, match=r"a/0\.png is 8 x 8, mixed/b/7\.png is 10 x 10; data\.size=32 makes"):
        digits_run(digits, "fourth", "data={name: folder, path: mixed, colour: grey}")
    assert not (digits / "fourth").exists()
