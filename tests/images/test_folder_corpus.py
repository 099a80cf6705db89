from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_images import pixels, write_folder, write_picture

from calmkit.images.corpora.folder import FolderCorpus
from calmkit.interfaces import DataError


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_folder_for_each_class():
    write_folder(Path("pets"))
    Path("pets/cat/.hidden.png").touch()
    Path("pets/cat/notes.txt").touch()
    corpus = FolderCorpus(path="pets", valid_fraction=0.4)
    assert corpus.label_names == ("cat", "dog")
    assert corpus.image_shape == (3, 6, 6)
    seen = []
    for split, count in (("train", 3), ("valid", 2)):
        images = corpus.images(split)
        assert np.bincount(images.labels).tolist() == [count, count]
        for values, label, place in zip(images.pixels, images.labels, images.places, strict=True):
            path = Path(corpus.place(split, *place.tolist()))
            assert path.parent.name == corpus.label_names[label]
            assert np.array_equal(values, np.asarray(Image.open(path)).transpose(2, 0, 1))
            seen.append(path)
    assert sorted(seen) == sorted(Path("pets").glob("*/[0-9].png"))
    assert corpus.source("valid") == "data.path=pets"


def test_train_and_valid_of_their_own():
    write_folder(Path("pets/train"))
    write_folder(Path("pets/valid"), classes=("dog",), count=2)
    corpus = FolderCorpus(path="pets")
    train, valid = corpus.images("train"), corpus.images("valid")
    assert train.labels.tolist() == [0] * 5 + [1] * 5
    assert valid.labels.tolist() == [1, 1]  # a dog is a dog on both sides
    assert corpus.place("valid", *valid.places[1].tolist()) == "pets/valid/dog/1.png"
    assert corpus.source("valid") == "data.path=pets/valid"


def test_a_train_folder_alone_is_split():
    write_folder(Path("pets/train"))
    corpus = FolderCorpus(path="pets", valid_fraction=0.2)
    assert (len(corpus.images("train")), len(corpus.images("valid"))) == (8, 2)
    assert corpus.label_names == ("cat", "dog")


def test_images_without_classes_have_no_labels():
    for number, values in enumerate(pixels(4, 5, 5)):
        write_picture(Path(f"all/{number}.JPG"), values)
    corpus = FolderCorpus(path="all", colour="grey", valid_fraction=0.25)
    assert corpus.label_names == ()
    assert corpus.image_shape == (1, 5, 5)
    assert corpus.images("train").labels is None
    assert len(corpus.images("train")) == 3


def test_copies_under_other_names_land_on_one_side():
    write_folder(Path("pets"), classes=("cat",))
    for number in range(5):
        shutil.copy(f"pets/cat/{number}.png", f"pets/cat/copy{number}.png")
    corpus = FolderCorpus(path="pets", valid_fraction=0.4)
    sides = [{image.tobytes() for image in corpus.images(split).pixels} for split in ("train", "valid")]
    assert [len(side) for side in sides] == [3, 2]
    assert not sides[0] & sides[1]


def test_the_identity_follows_content_classes_and_settings():
    write_folder(Path("pets"))
    first = FolderCorpus(path="pets").identity()
    shutil.copytree("pets", "copy")
    assert FolderCorpus(path="copy").identity() == first
    shutil.move("copy/dog", "copy/wolf")
    corpora = [
        FolderCorpus(path="pets"),
        FolderCorpus(path="copy"),
        FolderCorpus(path="pets", size=4),
        FolderCorpus(path="pets", colour="grey"),
        FolderCorpus(path="pets", valid_fraction=0.3),
        FolderCorpus(path="pets", on_bad="skip"),
    ]
    assert len({corpus.identity() for corpus in corpora}) == len(corpora)
    Path("pets/dog/0.png").write_bytes(Path("pets/dog/1.png").read_bytes())
    assert FolderCorpus(path="pets").identity() != first


def refusal(**settings):
    corpus = FolderCorpus(**settings)
    with pytest.raises(DataError) as error:
        corpus.images("train")
    return str(error.value)


def test_mixed_sizes_are_refused_and_size_makes_them_one():
    write_folder(Path("pets"))
    write_picture(Path("pets/dog/wide.png"), pixels(1, 6, 8, 3)[0])
    assert refusal(path="pets", valid_fraction=0.01) == (
        "images of mixed sizes: pets/cat/0.png is 6 x 6, pets/dog/wide.png is 6 x 8; data.size=32 makes "
        "all of "
        "them 32 x 32, of each the middle square, scaled"
    )
    corpus = FolderCorpus(path="pets", size=32)
    assert corpus.images("train").pixels.shape[1:] == (3, 32, 32) == corpus.image_shape


def test_stated_sizes_are_known_without_the_folder_and_must_be_those_of_the_folder():
    corpus = FolderCorpus(path="pets", size=4, classes=2)
    assert (corpus.image_shape, corpus.num_labels) == ((3, 4, 4), 2)
    write_folder(Path("pets"))
    assert corpus.label_names == ("cat", "dog")
    with pytest.raises(
        DataError, match=r"holds 2 folders of classes, and data\.classes is 3; data\.classes=null"
    ):
        FolderCorpus(path="pets", classes=3).images("train")
    assert FolderCorpus(path="pets").num_labels == 2


def test_a_broken_file_is_named_and_refused():
    write_folder(Path("pets/train"))
    write_folder(Path("pets/valid"))
    Path("pets/train/dog/3.png").write_bytes(b"no image")
    assert refusal(path="pets") == (
        "pets/train/dog/3.png is no whole PNG or JPEG (it begins as neither does); save it again; "
        "data.on_bad=skip leaves a few such records out"
    )
    Path("pets/train/cat/0.png").write_bytes(b"")  # the first one, which tells the shape
    with pytest.raises(DataError, match=r"pets/train/cat/0.png is no whole .* data.on_bad=skip leaves a few"):
        FolderCorpus(path="pets").image_shape  # noqa: B018


def test_broken_files_are_skipped_counted_and_told():
    write_folder(Path("pets/train"))
    write_folder(Path("pets/valid"))
    for name in ("cat/0", "dog/3"):
        Path(f"pets/train/{name}.png").write_bytes(b"no image")
    corpus = FolderCorpus(path="pets", on_bad="skip", max_bad=0.2)
    train = corpus.images("train")
    assert train.labels.tolist() == [0] * 4 + [1] * 4
    assert [Path(corpus.place("train", *p.tolist())).stem for p in train.places] == list("12340124")
    assert np.array_equal(train.pixels[0], np.asarray(Image.open("pets/train/cat/1.png")).transpose(2, 0, 1))
    assert corpus.notes("train", train.skipped) == [
        "skipped 2 bad files of 10 in data.path=pets/train (20 %): pets/train/cat/0.png (no whole PNG "
        "or JPEG), "
        "pets/train/dog/3.png (no whole PNG or JPEG); data.on_bad=refuse stops at the first"
    ]
    assert corpus.notes("valid", corpus.images("valid").skipped) == []
    assert refusal(path="pets", on_bad="skip", max_bad=0.1).startswith(
        "2 of 10 files are bad (20 %), more than data.max_bad allows (10 %): pets/train/cat/0.png (no whole"
    )


def test_nothing_whole_is_refused():
    for number in range(3):
        Path("bad").mkdir(exist_ok=True)
        Path(f"bad/{number}.png").write_text(f"none {number}")
    assert refusal(path="bad", on_bad="skip", max_bad=1.0) == (
        "data.path: bad holds no whole image; save the files again"
    )


def test_folders_that_are_refused():
    assert refusal(path="gone").startswith("data.path: gone does not exist (looked in ")
    Path("file.png").touch()
    assert refusal(path="file.png") == (
        "data.path: file.png is a file; give the folder that holds one folder for each class"
    )
    Path("none").mkdir()
    assert refusal(path="none") == "data.path: none holds no image; known files are .png, .jpg, .jpeg"
    write_folder(Path("pets"))
    write_picture(Path("pets/stray.png"), pixels(1, 6, 6, 3)[0])
    assert refusal(path="pets") == (
        "data.path: pets/stray.png lies beside folders of classes; move it into that of its class"
    )
    write_folder(Path("half/valid"))
    assert refusal(path="half").startswith("data.path: half holds valid/ without train/; move the training")


def test_classes_that_only_validation_has_are_refused():
    write_folder(Path("pets/train"))
    write_folder(Path("pets/valid"), classes=("cat", "emu"))
    assert refusal(path="pets") == (
        "data.path: pets/valid holds the class emu, and pets/train does not; the folders of valid/ must "
        "be among "
        "those of train/"
    )
    shutil.rmtree("pets/valid")
    write_picture(Path("pets/valid/0.png"), pixels(1, 6, 6, 3)[0])
    assert "pets/valid holds images without a class, and pets/train does not" in refusal(path="pets")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "folder: size must be at least 1, got 0; null takes images as they are"),
        ({"classes": 0}, "folder: classes must be at least 1, got 0; null takes as many as there are"),
        ({"valid_fraction": 1.0}, "folder: valid_fraction must lie between 0 and 1"),
        ({"max_bad": -1.0}, "folder: max_bad is a share of all records"),
    ],
)
def test_settings_that_are_refused_before_a_file_is_read(settings, message):
    with pytest.raises(ValueError, match=message):
        FolderCorpus(path="gone", **settings)
