"""Kinds of data through the public conformance kit, and each of its laws seen to fail on a broken kind.

The broken ones are images whose one answer is another than it should be. A guest's kind goes through the same
kit in its own suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_images import pixels, write_idx
from small_runs import small_recipe, workshop
from torch import Tensor

from calmkit.images.kind import ImagesKind
from calmkit.interfaces import Batch, Scores
from calmkit.recipe.load import load_recipe
from calmkit.recipe.schema import Recipe
from calmkit.testing import check_data_kind

SMALL_IMAGES = (
    "autoencoder={name: patches, patch: 4, noise: 0.1}",
    "stages.autoencoder=null",
    "backbone={name: gru, hidden_dim: 16, depth: 1}",
    "head={name: mixture, num_components: 2, depth: 1}",
    "stages.lm.batch_size=8",
    "evaluation.max_rows=9",
    "evaluation.batch_size=5",
    "evaluation.sample_rows=2",
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("kinds")) as folder:
        yield folder


@pytest.fixture(scope="module")
def image_recipe(shop: Path) -> Recipe:
    files = {}
    for split, count in (("train", 40), ("valid", 12)):
        labels = np.arange(count) % 2
        files[f"{split}_images"] = write_idx(shop / f"{split}-images", pixels(count, 8, 8, seed=count))
        files[f"{split}_labels"] = write_idx(shop / f"{split}-labels", labels)
    told = ", ".join(f"{name}: {path}" for name, path in files.items())
    return load_recipe("tiny/givt_causal", [f"data={{name: idx, {told}}}", *SMALL_IMAGES])


def test_text_keeps_its_contract(shop: Path) -> None:
    small = ("evaluation.max_rows=5", "stages.lm.batch_size=4", "evaluation.draws=3")
    check_data_kind("text", small_recipe(shop, *small))


def test_images_keep_their_contract(image_recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calmkit.images.measures.fit_network.STEPS", 3)
    check_data_kind("images", image_recipe)


class Level(Scores):
    """The mean of what is held out, under the name of the primary number."""

    name, noise, forgets, touches, awake = "fd", 0.0, True, False, False
    columns: tuple[str, ...] = ("image", "level")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def update(self, measured: Any, batch: Batch) -> None:
        self.seen.append(batch.data[batch.valid.all(1)].mean())
        if self.touches:
            next(measured.parameters()).data.add_(1.0)
        measured.train(self.awake)

    def compute(self) -> Mapping[str, Tensor]:
        return {self.name: torch.stack(self.seen).sum() + self.noise}

    def reset(self) -> None:
        if self.forgets:
            self.seen.clear()

    def table(self) -> tuple[tuple[str, ...], Tensor]:
        return self.columns, torch.zeros(3, 2)


class Cheap(ImagesKind):  # type: ignore[misc]
    """Images without a judging network: each subclass breaks one law."""

    changed: Mapping[str, Any] = {}

    def coding_scores(self, autoencoder: Any) -> Scores:
        return Level()

    def scores(self, *asked: Any, final: bool = True) -> Scores:
        found = Level()
        for name, value in self.changed.items():
            setattr(found, name, value)
        return found

    def beside(self, *asked: Any) -> dict[str, Any]:
        return {"images_per_second": 1.0}


def of(**changed: Any) -> type[Cheap]:
    """One whose scores have other facts."""
    return type("Scored", (Cheap,), {"changed": changed, "__doc__": "Other scores."})


def told(**changed: Any) -> type[Cheap]:
    """One in other words."""
    return type("Told", (Cheap,), {"words": replace(Cheap.words, **changed), "__doc__": "Other words."})


def prepared_as(change: Callable[[Any], Any]) -> type[Cheap]:
    """One whose prepared data are changed."""

    def prepare(self: Cheap, *asked: Any, **keywords: Any) -> Any:
        return change(ImagesKind.prepare(self, *asked, **keywords))

    return type("Prepared", (Cheap,), {"prepare": prepare, "__doc__": "Other data."})


def batches_as(change: Callable[[Batch], Any], only: str = "train_dataloader") -> type[Cheap]:
    """One whose batches are changed."""

    def wrapped(prepared: Any) -> Any:
        whole = prepared.rows

        def rows(*asked: Any, **keywords: Any) -> Any:
            data = whole(*asked, **keywords)
            loader = getattr(data, only)
            setattr(data, only, lambda: (change(batch) for batch in loader()))  # training never ends
            return data

        object.__setattr__(prepared, "rows", rows)  # of this one alone
        return prepared

    return prepared_as(wrapped)


def answers(**methods: Any) -> type[Cheap]:
    """One with other methods."""
    return type("Answering", (Cheap,), {**methods, "__doc__": "Other answers."})


def other_shape(self: Any, recipe: Any, manager: Any) -> dict[str, Any]:
    return ImagesKind.known_sizes(self, recipe, manager) | {"image_shape": (1, 9, 9)}


def never_the_same(self: Any, front: Any, asked: Any, note: Any) -> Iterator[dict[str, Any]]:
    yield {"value": float(torch.rand(()))}


def not_plain(self: Any, front: Any, asked: Any, note: Any) -> Iterator[dict[str, Any]]:
    yield {"value": torch.zeros(2)}


def refuses_nothing(self: Any, front: Any, asked: Any, note: Any) -> Iterator[str]:
    yield "an image"


def never_twice(self: Any, front: Any, asked: Any, note: Any) -> Iterator[str]:
    if asked.condition:
        raise ValueError("--condition is unknown")
    yield str(torch.rand(()).item())


def half(batch: Batch) -> Batch:
    return Batch(batch.data, batch.valid[:, :2], None, batch.condition)


def unchecked(batch: Batch, **changed: Any) -> Batch:
    """Shapes are checked where a batch is made, in tests only."""
    for name, value in changed.items():
        setattr(batch, name, value)
    return batch


BROKEN = [
    (told(element="An Image"), "its words name what there is': element is 'An Image'"),
    (told(primary="nothing"), "no measure describes its primary number 'nothing'"),
    (told(evaluation=("draws", "steps")), r"evaluation names \['steps'\], and "),
    (told(kept="../data"), "kept is '../data', which names no folder of its own"),
    (told(lineage=("event", "colour")), r"facts are plain values, and hold the lineage': .*'colour'"),
    (answers(known_sizes=other_shape), "sizes are the same before the data are read, after, and when"),
    (
        prepared_as(lambda data: replace(data, fingerprint=str(torch.rand(())))),
        "the same recipe gives the same",
    ),
    (answers(num_units=lambda self, recipe, autoencoder: 7), "a row has num_units units"),
    (answers(elements_per_row=lambda self, recipe: 0.0), "a row has 0.0 elements"),
    (batches_as(lambda batch: batch.data), "rows come as batches, and none is empty': one is a Tensor"),
    (batches_as(lambda batch: batch.rows(slice(3))), r"batch_size is 8, and batches have \[3\] rows"),
    (batches_as(half), "a row has num_units units': valid has shape"),
    (batches_as(lambda b: unchecked(b, predict=b.valid.float())), "valid and predict are true or false"),
    (batches_as(lambda b: replace(b, predict=~b.valid)), "no unit of a batch counts"),
    (batches_as(lambda b: replace(b, group=-1 - b.group)), "groups are whole numbers for each unit"),
    (
        batches_as(lambda b: unchecked(b, condition={"label": torch.zeros(2)})),
        "a condition has one value for each row",
    ),
    (
        batches_as(lambda b: replace(b, condition={})),
        r"the conditioner reads \['label'\], which batches lack",
    ),
    (batches_as(lambda b: replace(b, data=b.data + torch.rand(()))), "the same seed gives the same batches"),
    (batches_as(lambda b: replace(b, data=-b.data), "all_val_dataloader"), "held-out rows are those of all"),
    (of(name="level"), "'fd' is not among"),
    (of(noise=float("nan")), "scores are finite numbers"),
    (of(forgets=False), "scores follow from model, rows and seed': of equal rows after reset"),
    (of(touches=True), "measuring changed the model"),
    (of(awake=True), "measuring left the model in train mode"),
    (of(columns=("image",)), "a table has a column for each of its names"),
    (of(columns=("document", "level")), "the first column of a table is called as what units come from"),
    (answers(generate=never_twice), "a front makes the same of the same seed"),
    (answers(generate=refuses_nothing), "a condition that there is not is refused"),
    (answers(takes=("condition", "colour")), r"it takes options that there are': takes names \['colour'\]"),
    (answers(records=never_the_same), "records are plain values, the same of the same seed': of one seed"),
    (answers(records=not_plain), "records are plain values, the same of the same seed': .*TypeError"),
    (answers(sample=lambda self, front, recipe, folder: None), "a sample is written"),
    (answers(beside=lambda self, *asked: {"speed": [1.0]}), "what stands beside scores are plain values"),
    (answers(beside=lambda self, *asked: {"fd": 1.0}), "'fd' is a score already"),
    (answers(tell=lambda self, scores: []), r"tell gives \[\]"),
]


@pytest.mark.parametrize(("kind", "law"), BROKEN, ids=[law[:40] for _, law in BROKEN])
def test_a_broken_kind_is_seen(kind: type[Cheap], law: str, image_recipe: Recipe) -> None:
    with pytest.raises(AssertionError, match=law):
        check_data_kind(kind, image_recipe)


def test_the_cheap_kind_keeps_every_law(image_recipe: Recipe) -> None:
    check_data_kind(Cheap, image_recipe)


def test_what_is_read_back_has_the_same_sizes(image_recipe: Recipe) -> None:
    def restore(self: Any, recipe: Any, manager: Any, folder: Path) -> Any:
        return replace(ImagesKind.restore(self, recipe, manager, folder), label_names=())

    with pytest.raises(AssertionError, match=r"sizes are the same before .* read back"):
        check_data_kind(answers(restore=restore), image_recipe)
