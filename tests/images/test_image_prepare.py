from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_images import pixels, write_cifar, write_folder, write_idx

from calmkit.images.corpora.digits import DigitsCorpus
from calmkit.images.corpora.folder import FolderCorpus
from calmkit.images.corpora.idx import IdxCorpus
from calmkit.images.overlap import Overlap
from calmkit.images.prepare import prepare_images
from calmkit.recipe.load import load_recipe
from calmkit.recipe.parts import build_part, kind_of
from calmkit.registry import make_manager
from calmkit.training.progress import Progress


def test_digits(tmp_path):
    found = prepare_images(DigitsCorpus(), tmp_path)
    assert len(found.train) + len(found.valid) == 1797
    assert found.image_shape == (1, 8, 8)
    assert found.label_names[3] == "3"
    assert found.leaked == Overlap(0, len(found.valid))
    assert found.notes == ()
    assert found.fingerprint == prepare_images(DigitsCorpus(), tmp_path).fingerprint
    assert found.fingerprint != prepare_images(DigitsCorpus(valid_fraction=0.1), tmp_path).fingerprint


def test_what_both_sides_left_out_is_told_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_idx(Path("i"), pixels(20, 3, 3))
    write_idx(Path("l"), np.arange(20) % 5)
    corpus = IdxCorpus(train_images="i", train_labels="l", classes=4, on_bad="skip", max_bad=0.5)
    for _ in range(2):  # then from the cache
        [note] = prepare_images(corpus, tmp_path / "cache").notes
        assert note.startswith(
            "skipped 4 bad images of 20 in data.train_images=i (20 %): i: image 4 (label 4)"
        )


def test_what_leaks_and_what_each_side_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for side in ("train", "valid"):
        write_folder(Path("pets", side))
        Path("pets", side, "dog/0.png").write_bytes(b"none")
    found = prepare_images(FolderCorpus(path="pets", on_bad="skip", max_bad=0.5), tmp_path / "cache")
    assert [note[:50] for note in found.skipped_notes] == [
        "skipped 1 bad file of 10 in data.path=pets/train (",
        "skipped 1 bad file of 10 in data.path=pets/valid (",
    ]
    [leak] = found.leak_notes
    assert leak.startswith(
        "of the held-out images, 100 % (9 of 9) also stand among the training images (data.path"
    )
    assert found.notes == (*found.skipped_notes, leak)


MIRRORING = {"folder": "path: pets, size: 8", "cifar": "train: c.bin"}


def batches(corpus: str, flip: str) -> tuple[list[torch.Tensor], list[torch.Tensor], str]:
    """Of two epochs in training and of what is held out, as a recipe says; and the data's fingerprint."""
    manager = make_manager(guests=[])
    said = f"data={{name: {corpus}, {MIRRORING[corpus]}, valid_fraction: 0.4{flip}}}"
    recipe = load_recipe("tiny/mar", [said, "autoencoder={name: patches, patch: 4}"], manager)
    prepared = kind_of(recipe, manager).prepare(recipe, manager, Progress.silent())
    autoencoder = build_part(recipe, manager, "autoencoder", **prepared.sizes)
    data = prepared.rows(recipe, autoencoder, batch_size=3, max_rows=8)
    epoch = len(data.train_rows)
    trained = [data.trained_rows([place]).data[0] for place in range(2 * epoch)]
    held_out = [image for batch in data.all_val_dataloader() for image in batch.data]
    return trained, held_out, prepared.fingerprint


@pytest.mark.parametrize("corpus", MIRRORING)
def test_what_a_recipe_says_is_mirrored_in_training_and_nowhere_else(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALMKIT_CACHE", str(tmp_path / "cache"))
    write_folder(Path("pets"), size=8)
    write_cifar(Path("c.bin"), np.arange(12) % 3, pixels(12, 3, 32, 32))
    plain, mirrored = batches(corpus, ""), batches(corpus, ", flip: true")
    assert all(torch.equal(one, other) for one, other in zip(plain[1], mirrored[1], strict=True))
    assert plain[2] == mirrored[2]
    turned = [torch.equal(one.flip(-1), other) for one, other in zip(plain[0], mirrored[0], strict=True)]
    same = [torch.equal(one, other) for one, other in zip(plain[0], mirrored[0], strict=True)]
    assert all(a != b for a, b in zip(turned, same, strict=True))
    assert any(turned)
    assert any(same)
