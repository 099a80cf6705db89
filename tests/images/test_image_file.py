from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_images import pixels

from calmkit.data.bad_records import Skipped
from calmkit.images import image_file
from calmkit.images.corpus import ImageCorpus, Images
from calmkit.images.image_file import decoded
from calmkit.interfaces import DataError, Split

SOME = Images(
    pixels(6, 3, 4, 5),
    np.arange(6),
    np.stack([np.arange(6) // 3, np.arange(6)], axis=1),
    Skipped(8, {"broken": 2}, [(0, 3, "broken"), (1, 4, "broken")]),
)


class Held(ImageCorpus):
    """Images in memory; counts how often they are read."""

    apart = "nothing"

    def __init__(self, images: Images, name: str = "held"):
        self.held, self.name, self.reads = images, name, 0

    image_shape = (3, 4, 5)
    label_names = tuple("abcdef")

    def images(self, split: Split) -> Images:
        self.reads += 1
        return self.held

    def identity(self) -> str:
        return self.name

    def source(self, split: Split) -> str:
        return f"data=held.{split}"

    def place(self, split: Split, file: int, number: int) -> str:
        return f"{file}:{number}"


def same(found: Images, wanted: Images) -> bool:
    arrays = zip((found.pixels, found.places), (wanted.pixels, wanted.places), strict=True)
    labels = found.labels is wanted.labels is None or np.array_equal(found.labels, wanted.labels)
    return labels and all(np.array_equal(*two) for two in arrays) and found.skipped == wanted.skipped


@pytest.mark.parametrize("images", [SOME, replace(SOME, labels=None, skipped=Skipped())])
def test_what_was_decoded_is_read_back_mapped(tmp_path, images):
    corpus = Held(images)
    first, second = decoded(corpus, "train", tmp_path), decoded(corpus, "train", tmp_path)
    assert corpus.reads == 1
    assert same(first, images)
    assert same(second, images)
    assert isinstance(second.pixels, np.memmap)
    assert not second.pixels.flags.writeable


def test_split_and_identity_are_the_key(tmp_path):
    corpora = [Held(SOME), Held(SOME, "other")]
    for corpus in corpora:
        for split in ("train", "valid"):
            decoded(corpus, split, tmp_path)
        assert corpus.reads == 2
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert len(names) == 8
    assert not [name for name in names if name.endswith(".tmp")]


def damage_image(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def unsay(path: Path) -> None:
    path.with_suffix(".json").unlink()


def say_otherwise(path: Path) -> None:
    said = path.with_suffix(".json")
    said.write_text(said.read_text().replace('"skipped": "', '"skipped": " '))


def say_nothing(path: Path) -> None:
    path.with_suffix(".json").write_text("[]")


@pytest.mark.parametrize("damage", [damage_image, cut, unsay, say_otherwise, say_nothing, Path.unlink])
def test_what_is_damaged_is_made_anew(tmp_path, damage):
    corpus = Held(SOME)
    decoded(corpus, "train", tmp_path)
    [path] = (tmp_path / "images").glob("*.npy")
    damage(path)
    assert same(decoded(corpus, "train", tmp_path), SOME)
    assert corpus.reads == 2
    decoded(corpus, "train", tmp_path)
    assert corpus.reads == 2


def test_an_empty_split_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"the valid split of data=held.valid is empty; check what"):
        decoded(Held(SOME.at(np.zeros(6, dtype=bool))), "valid", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_changes_what_is_written_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(image_file, "_read", lambda path: None)
    with pytest.raises(DataError, match="was written and reads back damaged; see to that disk"):
        decoded(Held(SOME), "train", tmp_path)


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(DataError, match=r"cannot be written .* set CALMKIT_CACHE to one that is"):
        decoded(Held(SOME), "train", tmp_path / "cache")
