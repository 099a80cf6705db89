from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_images import pixels, write_cifar

from calmkit.images.corpora.cifar import CifarCorpus
from calmkit.interfaces import DataError

NAMES = "airplane automobile bird cat deer dog frog horse ship truck"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def ten(folder: str = "ten") -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10 as it is published, with 4 images in each file."""
    labels, images = np.arange(24) // 2 % 10, pixels(24, 3, 32, 32)
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    for i, name in enumerate(names):
        write_cifar(Path(folder, name), labels[4 * i : 4 * i + 4], images[4 * i : 4 * i + 4])
    Path(folder, "batches.meta.txt").write_text(NAMES.replace(" ", "\n") + "\n\n")
    return labels, images


def hundred(folder: str = "hundred") -> np.ndarray:
    """CIFAR-100 as it is published; labels [12, 2], coarse and fine."""
    labels = np.stack([np.arange(12) % 20, 90 + np.arange(12) % 10], axis=1)
    write_cifar(Path(folder, "train.bin"), labels, pixels(12, 3, 32, 32))
    write_cifar(Path(folder, "test.bin"), labels[:3], pixels(3, 3, 32, 32, seed=1))
    return labels


def test_the_published_folder():
    labels, images = ten()
    corpus = CifarCorpus(train="ten", valid="ten")
    train, valid = corpus.images("train"), corpus.images("valid")
    assert np.array_equal(train.pixels, images[:20])
    assert train.labels.tolist() == labels[:20].tolist()
    assert np.array_equal(valid.pixels, images[20:])
    assert corpus.label_names == tuple(NAMES.split())
    assert corpus.image_shape == (3, 32, 32)
    assert corpus.place("train", *train.places[6].tolist()) == "ten/data_batch_2.bin: image 2"


def test_a_record_by_hand():
    # a label byte, then the red plane, the green one, the blue one, each row by row
    content = bytes([3]) + bytes(1024) + bytes([7]) * 1024 + bytes([1, 2]) + bytes(1022)
    Path("one.bin").write_bytes(content)
    images = CifarCorpus(train="one.bin", valid="one.bin").images("train")
    assert images.labels.tolist() == [3]
    assert images.pixels[0, 0].max() == 0
    assert (images.pixels[0, 1] == 7).all()
    assert images.pixels[0, 2, 0, :3].tolist() == [1, 2, 0]


@pytest.mark.parametrize(("kind", "column", "count"), [("coarse", 0, 20), ("fine", 1, 100)])
def test_the_two_labels_of_cifar_100(kind, column, count):
    labels = hundred()
    corpus = CifarCorpus(train="hundred", valid="hundred", classes=100, labels=kind)
    assert corpus.images("train").labels.tolist() == labels[:, column].tolist()
    assert corpus.label_names == tuple(map(str, range(count)))  # there is no list of names
    before = corpus.identity()
    Path("hundred", f"{kind}_label_names.txt").write_text("\n".join(f"n{i}" for i in range(count)))
    again = CifarCorpus(train="hundred", valid="hundred", classes=100, labels=kind)
    assert again.label_names[:2] == ("n0", "n1")
    assert again.identity() != before


def test_files_by_path_and_a_share_held_out():
    labels, images = ten()
    corpus = CifarCorpus(train=["ten/data_batch_2.bin", "ten/data_batch_1.bin"], valid_fraction=0.5)
    sides = [corpus.images(split) for split in ("train", "valid")]
    order = [*range(4, 8), *range(4)]  # as they are given
    for side in sides:
        numbers = [order[4 * file + number] for file, number in side.places.tolist()]
        assert np.array_equal(side.pixels, images[numbers])
        assert side.labels.tolist() == labels[numbers].tolist()
    assert sum(map(len, sides)) == 8
    assert corpus.source("valid") == "data.train=[ten/data_batch_2.bin, ten/data_batch_1.bin]"


def test_the_identity_follows_content_and_settings():
    ten()
    hundred()
    one = "ten/data_batch_1.bin"
    corpora = [
        CifarCorpus(train="ten"),
        CifarCorpus(train="ten", valid="ten"),
        CifarCorpus(train="ten", valid_fraction=0.3),
        CifarCorpus(train="ten", on_bad="skip"),
        CifarCorpus(train=one),
        CifarCorpus(train="hundred", classes=100),
        CifarCorpus(train="hundred", classes=100, labels="coarse"),
    ]
    assert len({corpus.identity() for corpus in corpora}) == len(corpora)
    Path("copy.bin").write_bytes(Path(one).read_bytes())
    Path("batches.meta.txt").write_text(NAMES)
    assert CifarCorpus(train="copy.bin").identity() == CifarCorpus(train=one).identity()


def refusal(**settings):
    corpus = CifarCorpus(**settings)
    with pytest.raises(DataError) as error:
        corpus.images("train")
    return str(error.value)


class Trap:
    """A pickle that would make a file."""

    def __reduce__(self):
        return Path.touch, (Path("was_opened"),)


def test_a_pickle_is_refused_and_not_opened():
    import pickle  # to write what must not be read

    for protocol in (2, 4, 5):
        Path("data_batch_1").write_bytes(pickle.dumps(Trap(), protocol=protocol))
        assert refusal(train="data_batch_1") == (
            "data_batch_1 is a pickle, as CIFAR's Python version is; it is never opened, for a pickle "
            "can run "
            "code; take the binary version (cifar-10-binary.tar.gz or cifar-100-binary.tar.gz), and unpack it"
        )
    assert not Path("was_opened").exists()


def test_the_folder_of_pickles_is_refused():
    Path("py").mkdir()
    for name in ("data_batch_1", "batches.meta"):
        Path("py", name).touch()
    assert refusal(train="py").startswith(
        "data.train: py holds CIFAR's pickled Python version, which is never opened, for a pickle can "
        "run code; "
        "take the binary version"
    )


def test_a_folder_that_lacks_files():
    ten()
    Path("ten/data_batch_4.bin").unlink()
    assert refusal(train="ten") == (
        "data.train: the folder ten lacks data_batch_4.bin of CIFAR-10; give the files by their paths"
    )
    hundred()
    assert "of CIFAR-10; set data.classes=100, or give the files by their" in refusal(train="hundred")


def test_an_archive_is_refused():
    Path("cifar.tar.gz").write_bytes(b"\x1f\x8b rest")
    assert refusal(train="cifar.tar.gz").startswith("cifar.tar.gz is packed by gzip; unpack it")


def test_a_file_that_is_cut_short():
    ten()
    path = Path("ten/data_batch_1.bin")
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal(train="ten") == (
        "ten/data_batch_1.bin has 12192 bytes, no whole number of CIFAR-10 records of 3073 bytes: "
        "record 3 is "
        "cut short; fetch the file again"
    )


def test_the_other_data_set_is_recognised():
    hundred()
    assert refusal(train="hundred/train.bin").endswith("; set data.classes=100, whose records fit")


def test_a_label_that_no_class_has():
    write_cifar(Path("a.bin"), np.array([0, 10, 1]), pixels(3, 3, 32, 32))
    assert refusal(train="a.bin") == (
        "a.bin: image 1 has label 10, and 10 classes have 0 to 9; data.on_bad=skip leaves a few such "
        "records out"
    )
    corpus = CifarCorpus(train="a.bin", valid="a.bin", on_bad="skip", max_bad=0.5)
    found = corpus.images("train")
    assert found.labels.tolist() == [0, 1]
    assert found.places.tolist() == [[0, 0], [0, 2]]
    assert corpus.notes("train", found.skipped)[0].startswith("skipped 1 bad image of 3 in data.train=a.bin")
    assert "1 of 3 images is bad" in refusal(train="a.bin", on_bad="skip")


def test_a_list_of_names_that_does_not_fit():
    ten()
    Path("ten/batches.meta.txt").write_text("one two")
    with pytest.raises(DataError, match=r"ten/batches.meta.txt has 2 names for 10 classes; mend it, or take"):
        CifarCorpus(train="ten").label_names  # noqa: B018


def test_coarse_labels_of_cifar_10_are_refused():
    with pytest.raises(ValueError, match="cifar: labels=coarse are those of CIFAR-100; set classes=100"):
        CifarCorpus(train="gone", labels="coarse")


def test_nothing_is_refused_by_name():
    assert refusal(train=[]).startswith("data.train names no file; give paths, or the folder")
    assert refusal(train="gone").startswith("data.train: gone does not exist (looked in ")
