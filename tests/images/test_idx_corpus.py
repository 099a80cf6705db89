from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from small_images import pixels, write_idx

from calmkit.data.bad_records import Skipped
from calmkit.images.corpora.idx import IdxCorpus
from calmkit.interfaces import DataError

IMAGES, LABELS = pixels(12, 4, 5), np.arange(12) % 3


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_idx(Path("images"), IMAGES)
    write_idx(Path("labels"), LABELS)
    return {"train_images": "images", "train_labels": "labels"}


def test_the_files_of_two_splits(files):
    write_idx(Path("vi.gz"), IMAGES[:5] + 1, packed=True)
    write_idx(Path("vl.gz"), LABELS[:5], packed=True)
    corpus = IdxCorpus(**files, valid_images="vi.gz", valid_labels="vl.gz")
    train, valid = corpus.images("train"), corpus.images("valid")
    assert np.array_equal(train.pixels, IMAGES[:, None])
    assert train.labels.tolist() == LABELS.tolist()
    assert np.array_equal(valid.pixels, IMAGES[:5, None] + 1)
    assert valid.labels.tolist() == [0, 1, 2, 0, 1]
    assert corpus.image_shape == (1, 4, 5)
    assert corpus.label_names == tuple("0123456789")
    assert corpus.source("valid") == "data.valid_images=vi.gz"
    assert corpus.place("valid", *valid.places[4].tolist()) == "vi.gz: image 4"


def test_a_share_of_each_class_is_held_out(files):
    corpus = IdxCorpus(**files, valid_fraction=0.25)
    train, valid = corpus.images("train"), corpus.images("valid")
    assert np.bincount(valid.labels).tolist() == [1, 1, 1]
    assert sorted([*train.places[:, 1], *valid.places[:, 1]]) == list(range(12))
    assert np.array_equal(valid.pixels, IMAGES[valid.places[:, 1], None])
    assert corpus.source("valid") == "data.train_images=images"


def test_images_without_labels(files):
    corpus = IdxCorpus(train_images="images")
    assert corpus.label_names == ()
    assert corpus.images("train").labels is None


def test_a_packed_file_is_known_by_its_content_not_its_name(files):
    write_idx(Path("packed"), IMAGES, packed=True)
    again = IdxCorpus(train_images="packed", train_labels="labels")
    assert np.array_equal(again.images("train").pixels, IdxCorpus(**files).images("train").pixels)
    assert again.identity() == IdxCorpus(**files).identity()


def test_the_identity_follows_content_and_settings(files):
    write_idx(Path("other"), LABELS[::-1])
    corpora = [
        IdxCorpus(**files),
        IdxCorpus(train_images="images"),
        IdxCorpus(train_images="images", train_labels="other"),
        IdxCorpus(**files, valid_images="images", valid_labels="labels"),
        IdxCorpus(**files, valid_fraction=0.3),
        IdxCorpus(**files, classes=3),
        IdxCorpus(**files, on_bad="skip"),
    ]
    assert len({corpus.identity() for corpus in corpora}) == len(corpora)


def refusal(**settings):
    corpus = IdxCorpus(**settings)
    with pytest.raises(DataError) as error:
        corpus.images("train")
    return str(error.value)


def test_a_file_that_is_not_there(files):
    assert refusal(train_images="gone").startswith("data.train_images: gone does not exist (looked in ")


def test_a_folder_is_no_file(files):
    Path("folder").mkdir()
    assert refusal(train_images="folder").startswith("folder cannot be read (Is a directory); check that it")


def test_another_magic_number(files):
    Path("text").write_text("once upon a time")
    assert refusal(train_images="text") == (
        "data.train_images: text is no IDX file: it begins with 6f 6e 63 65 instead of 00 00 08 03; give the "
        "file as it was published, plain or .gz"
    )
    Path("empty").write_bytes(b"")
    assert "empty is no IDX file: it begins with nothing instead" in refusal(train_images="empty")


def test_another_type_of_values(files):
    write_idx(Path("floats"), IMAGES, kind=0x0D)
    assert refusal(train_images="floats") == (
        "data.train_images: floats holds float32, and unsigned bytes (type 08) are read; convert it"
    )


def test_images_and_labels_exchanged(files):
    assert refusal(train_images="labels", train_labels="images") == (
        "data.train_images: labels has 1 axes instead of 3: images have 3 (count, height, width), "
        "labels have "
        "1; see that images and labels are not exchanged"
    )


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_cut_short(files, packed):
    path = Path(write_idx(Path("short"), IMAGES))
    content = path.read_bytes()[:-7]
    path.write_bytes(gzip.compress(content) if packed else content)
    assert refusal(train_images="short") == (
        "data.train_images: short is cut short: its header says 12 x 4 x 5 = 240 values, and 233 follow; "
        "fetch the file again"
    )
    path.write_bytes(content[:9])
    assert refusal(train_images="short") == (
        "data.train_images: short is cut short within its header; fetch the file again"
    )


def test_a_file_that_is_too_long_or_empty(files):
    path = Path(write_idx(Path("long"), IMAGES))
    path.write_bytes(path.read_bytes() + b"x")
    assert "long is damaged: its header says 12 x 4 x 5 = 240 values, and more follow" in refusal(
        train_images="long"
    )
    write_idx(path, IMAGES[:0])
    assert "long is empty: its header says 0 x 4 x 5; give a file with images" in refusal(train_images="long")


def test_a_gzip_file_that_is_damaged(files):
    path = Path(write_idx(Path("images.gz"), IMAGES, packed=True))
    path.write_bytes(path.read_bytes()[:-9])
    assert refusal(train_images="images.gz").startswith("images.gz is damaged or no gzip file (")


def test_counts_that_differ(files):
    write_idx(Path("few"), LABELS[:9])
    assert refusal(train_images="images", train_labels="few") == (
        "data.train_images=images holds 12 images, and data.train_labels=few 9 labels; give files that "
        "belong "
        "together"
    )


def test_splits_of_two_sizes(files):
    write_idx(Path("large"), pixels(3, 6, 6))
    with pytest.raises(DataError, match=r"large holds images of 6 x 6, and data.*=images of 4 x 5"):
        IdxCorpus(train_images="images", valid_images="large").images("valid")


def test_a_label_that_no_class_has(files):
    assert refusal(**files, classes=2) == (
        "labels: image 2 has label 2, and 2 classes have 0 to 1; data.on_bad=skip leaves a few such "
        "records out"
    )


def test_bad_labels_are_skipped_counted_and_told(files):
    corpus = IdxCorpus(
        **files, valid_images="images", valid_labels="labels", classes=2, on_bad="skip", max_bad=0.4
    )
    train = corpus.images("train")
    assert train.labels.tolist() == [0, 1] * 4
    assert np.array_equal(train.pixels[2, 0], IMAGES[3])
    places = [(0, number, "label 2") for number in (2, 5, 8, 11)]
    assert train.skipped == Skipped(records=12, kinds={"label 2": 4}, places=places)
    assert corpus.notes("train", train.skipped) == [
        "skipped 4 bad images of 12 in data.train_images=images (33.3 %): images: image 2 (label 2), images: "
        "image 5 (label 2), images: image 8 (label 2), images: image 11 (label 2); data.on_bad=refuse "
        "stops at "
        "the first"
    ]


def test_too_many_bad_labels_are_refused(files):
    assert refusal(**files, classes=2, on_bad="skip", max_bad=0.3).startswith(
        "4 of 12 images are bad (33.3 %), more than data.max_bad allows (30 %): images: image 2 (label 2), "
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 0}, "classes must be 1 to 256, for a label is one byte, got 0"),
        ({"valid_labels": "l"}, "valid_labels are given without valid_images; give both or neither"),
        ({"valid_images": "i", "train_labels": "l"}, "one of train_labels and valid_labels is missing"),
        ({"valid_images": "i", "valid_labels": "l"}, "one of train_labels and valid_labels is missing"),
        ({"valid_fraction": 0.0}, "valid_fraction must lie between 0 and 1"),
        ({"max_bad": 2.0}, "max_bad is a share of all records"),
    ],
)
def test_settings_that_are_refused_before_a_file_is_read(settings, message):
    with pytest.raises(ValueError, match=f"idx: {message}"):
        IdxCorpus(train_images="gone", **settings)
