from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from calmkit.images.measures.bars import GaussianPerClass
from calmkit.images.measures.features import Features
from calmkit.images.measures.fit_network import random_network
from calmkit.images.measures.scores import ImageScores, Split
from calmkit.images.measures.words import WORDS

SMALL = {"resamples": 20}


def digits(classes: int = 4) -> tuple[Split, Split]:
    """Training and held-out images of scikit-learn's digits, of the first few classes."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    images, labels = torch.tensor(raw.images)[:, None] / 8 - 1, torch.tensor(raw.target).long()
    keep = labels < classes
    images, labels = images[keep].float(), labels[keep]
    held = torch.arange(len(labels)) % 4 == 0
    return Split(images[~held], labels[~held]), Split(images[held], labels[held])


def features_of(training: Split, accuracy: float | None = None) -> Features:
    """Random ones; with an accuracy they judge classes too, by chance."""
    network = random_network((1, 8, 8), 4, 0)
    made = Features(network, accuracy, "digits")
    network.normalise(made.of(training.images))
    return made


def scored(metric: ImageScores, images: Tensor, asked: Tensor | None) -> dict[str, float]:
    metric.reset()
    metric.update(images, asked)
    return {name: value.item() for name, value in metric.compute().items()}


def test_the_held_out_images_themselves_are_perfect() -> None:
    training, real = digits()
    found = scored(ImageScores(features_of(training), real, training, **SMALL), real.images, real.labels)
    assert found["fd"] == pytest.approx(0, abs=1e-4)
    assert found["precision"] == found["recall"] == found["nearest_ratio"] == 1
    assert found["kd"] < 0 < found["fd_floor"] < found["bar_gaussian_fd"]


def test_noise_is_worse_than_the_gaussians_and_copies_are_given_away_by_the_nearest_image_alone() -> None:
    training, real = digits()
    metric = ImageScores(features_of(training), real, training, **SMALL)
    noise = scored(metric, torch.rand_like(real.images) * 2 - 1, real.labels)
    assert noise["fd"] > noise["bar_gaussian_fd"] > noise["bar_copy_fd"]
    assert noise["kd"] > noise["bar_gaussian_kd"] > noise["bar_copy_kd"]
    assert noise["precision"] < noise["bar_gaussian_precision"] < noise["bar_copy_precision"]
    assert noise["recall"] < noise["bar_copy_recall"]
    assert noise["nearest_ratio"] > noise["bar_gaussian_nearest_ratio"] > 1
    some = torch.randperm(len(training.images))[: len(real.images)]
    copies = scored(metric, training.images[some], training.labels[some])
    assert copies["nearest_ratio"] == copies["bar_copy_nearest_ratio"] == 0
    assert copies["fd"] < 2 * copies["fd_floor"] < copies["bar_gaussian_fd"]


def test_a_model_that_draws_one_class_alone_is_precise_and_recalls_little() -> None:
    training, real = digits()
    metric = ImageScores(features_of(training), real, training, resamples=0, bars=False)
    found = scored(metric, training.images[training.labels == 0], None)
    assert found["precision"] > 0.8 > 0.6 > found["recall"]


def test_every_number_has_words_and_an_interval_around_it() -> None:
    training, real = digits()
    asked = ImageScores(features_of(training, 0.9), real, training, **SMALL)
    found = scored(asked, real.images.flip(0), real.labels.flip(0))
    assert {re.sub("_(low|high|se)$", "", name) for name in found} | {"nats_per_dim"} == set(WORDS)
    for name, value in found.items():
        if f"{name}_low" in found:
            assert found[f"{name}_low"] <= value <= found[f"{name}_high"], name
    assert {name for name in found if name in WORDS and f"{name}_low" not in found} == {
        "network_accuracy",
        "fd_floor",
    }
    assert found["network_accuracy"] == 0.9
    assert len({number.name for number in WORDS.values()}) == len(WORDS)


def test_classes_are_judged_only_where_they_were_asked_for_and_are_known() -> None:
    training, real = digits()
    knows = ImageScores(features_of(training, 0.9), real, training, resamples=0)
    assert "class_accuracy" in scored(knows, real.images, real.labels)
    free = scored(knows, real.images, None)
    assert not [name for name in free if "class_accuracy" in name]
    assert free["fd_floor"] > 0
    blind = ImageScores(features_of(training), real, training, resamples=0)
    assert not [n for n in scored(blind, real.images, real.labels) if "accuracy" in n]
    unlabelled = ImageScores(features_of(training), Split(real.images), Split(training.images), resamples=0)
    assert scored(unlabelled, real.images, None)["bar_gaussian_fd"] > 0


def test_without_resamples_and_bars_only_shares_keep_an_interval() -> None:
    training, real = digits()
    metric = ImageScores(features_of(training), real, training, resamples=0, bars=False)
    found = scored(metric, real.images, real.labels)
    assert {n for n in found if not n.startswith(("precision", "recall"))} == {
        "fd",
        "kd",
        "nearest_ratio",
        "fd_floor",
    }
    assert found["precision_low"] < 1


def test_the_same_seed_gives_the_same_numbers_however_the_images_come_in() -> None:
    training, real = digits()
    features, drawn = features_of(training), torch.rand_like(real.images)
    one = ImageScores(features, real, training, **SMALL)
    whole = scored(one, drawn, real.labels)
    parts = ImageScores(features, real, training, **SMALL)
    for part in (slice(30), slice(30, 31), slice(31, None)):
        parts.update(drawn[part], real.labels[part])
    torch.rand(3)  # the default generator plays no part
    again = {name: value.item() for name, value in parts.compute().items()}
    assert again == pytest.approx(whole, rel=1e-6, abs=1e-9)
    other = scored(ImageScores(features, real, training, **SMALL, seed=1), drawn, real.labels)
    assert other["fd"] == whole["fd"]
    assert other["fd_low"] != whole["fd_low"]
    assert other["bar_gaussian_fd"] != whole["bar_gaussian_fd"]


def test_bars_are_made_once_for_the_same_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    training, real = digits()
    metric, drawn = ImageScores(features_of(training), real, training, resamples=0), list[int]()
    draw = GaussianPerClass.draw

    def counted(self, labels, seed=0):
        drawn.append(len(labels))
        return draw(self, labels, seed)

    monkeypatch.setattr(GaussianPerClass, "draw", counted)
    first = scored(metric, real.images, real.labels)
    second = scored(metric, -real.images, real.labels)
    assert len(drawn) == 1
    assert first["bar_gaussian_fd"] == second["bar_gaussian_fd"]
    scored(metric, real.images[:50], real.labels[:50])
    assert drawn == [len(real.images), 50]


def test_what_a_model_draws_beyond_the_range_is_cut_as_showing_it_would() -> None:
    training, real = digits()
    metric = ImageScores(features_of(training), real, training, resamples=0, bars=False)
    beyond = torch.where(real.images == 1, 1.7, torch.where(real.images == -1, -3.0, real.images))
    assert scored(metric, beyond, real.labels)["fd"] == pytest.approx(0, abs=1e-4)


def test_draws_that_cannot_be_scored_are_refused() -> None:
    training, real = digits()
    metric = ImageScores(features_of(training), real, training, resamples=0)
    with (
        pytest.warns(UserWarning, match="before the ``update``"),  # torchmetrics' own
        pytest.raises(ValueError, match="there are no drawn images"),
    ):
        metric.compute()
    with pytest.raises(ValueError, match=r"drawn images are \[1, 8, 9\], the held-out ones \[1, 8, 8\]"):
        metric.update(torch.zeros(2, 1, 8, 9))
    with pytest.raises(ValueError, match="those for training"):
        ImageScores(features_of(training), real, Split(training.images.repeat(1, 1, 1, 2)))
    with pytest.raises(ValueError, match="2 of 2 drawn images hold values that are no numbers"):
        metric.update(torch.full((2, 1, 8, 8), torch.inf))
    with pytest.raises(ValueError, match="drawn labels are whole numbers"):
        metric.update(torch.zeros(2, 1, 8, 8), torch.zeros(3).long())
    metric.update(real.images[:9], real.labels[:9])
    metric.update(real.images[:5])
    with pytest.raises(ValueError, match="of 14 drawn images 5 were asked for no label"):
        metric.compute()
    with pytest.raises(ValueError, match="the label 7, which was asked for; there are 0, 1, 2, 3"):
        scored(metric, real.images[:9], torch.full((9,), 7))
    with pytest.raises(ValueError, match="give more images"):
        scored(metric, real.images[:3], real.labels[:3])
