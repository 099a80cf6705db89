from __future__ import annotations

import errno

import pytest

from calmkit.data.atomic_write import replacing
from calmkit.interfaces import DataError


def test_the_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    interrupted = replacing(path)
    interrupted.__enter__().write_text("half")
    assert not interrupted.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)  # it goes on upwards
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer one ends last
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named(tmp_path):
    path = tmp_path / "file"
    with (
        pytest.raises(DataError, match=rf"the disk under {tmp_path} is full .*CALMKIT_CACHE"),
        replacing(path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with (
        pytest.raises(DataError, match=r"taken/file cannot be written .*CALMKIT_CACHE"),
        replacing(tmp_path / "taken" / "file"),
    ):
        pass


def test_an_error_of_another_file_is_not_blamed_on_this_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"), replacing(tmp_path / "file"):
        (tmp_path / "elsewhere").read_text()
