from __future__ import annotations

from pathlib import Path

import numpy as np
from small_images import pixels, write_folder, write_idx

from calmkit.images.corpora.digits import DigitsCorpus
from calmkit.images.corpora.folder import FolderCorpus
from calmkit.images.corpora.idx import IdxCorpus
from calmkit.images.overlap import Overlap
from calmkit.images.prepare import prepare_images


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
