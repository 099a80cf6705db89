"""Snapshots: whole or not at all; one that is damaged is named, and the one before it is taken."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from calmkit.training import snapshots
from calmkit.training.errors import RunFailed
from calmkit.training.snapshots import (
    Snapshot,
    forget_snapshots,
    newest_snapshot,
    read_snapshot,
    rewrite_snapshot,
    sweep,
    write_snapshot,
)


def at(step: int, size: int = 3) -> Snapshot:
    tensors = {"weights.w": torch.arange(float(size)) + step, "random.0.cpu": torch.arange(5).byte()}
    return Snapshot("lm", step, 8 * step, tensors, {"seconds": 0.1 + 0.2, "words": ["a", "é"], "none": None})


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def files(*steps: int) -> list[str]:
    return [f"step-{step:08d}.{end}" for step in steps for end in ("json", "safetensors")]


def test_what_was_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    written = at(5)
    described = write_snapshot(tmp_path / "lm", written, keep=2)
    read = read_snapshot(described)
    assert (read.stage, read.step, read.rows, read.plain) == ("lm", 5, 40, written.plain)
    assert read.tensors.keys() == written.tensors.keys()
    for name, value in written.tensors.items():
        assert read.tensors[name].dtype == value.dtype
        assert torch.equal(read.tensors[name], value)
    assert names(tmp_path / "lm") == files(5)


def test_the_newest_stay(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        write_snapshot(tmp_path, at(step), keep=2)
    assert names(tmp_path) == files(15, 20)
    write_snapshot(tmp_path, at(25), keep=1)
    assert names(tmp_path) == files(25)


def test_there_may_be_none(tmp_path: Path) -> None:
    assert newest_snapshot(tmp_path / "nowhere", pytest.fail) is None
    assert newest_snapshot(tmp_path, pytest.fail) is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_another_version(path: Path) -> None:
    body = json.loads(path.read_text()) | {"calmkit": 2}
    del body["sha256"]
    path.write_text(json.dumps(body | {"sha256": snapshots._digest_of(body)}))


def altered(path: Path) -> None:
    path.write_text(path.read_text().replace('"step": 10', '"step": 11'))


@pytest.mark.parametrize(
    ("end", "damage", "told"),
    [
        ("safetensors", cut, "was cut or altered"),
        ("safetensors", flip, "was cut or altered"),
        ("safetensors", empty, "was cut or altered"),
        ("safetensors", Path.unlink, "can't be read: .*No such file"),
        ("json", cut, "(?!)|can't be read|was altered"),
        ("json", flip, "was altered|can't be read"),
        ("json", empty, "can't be read"),
        ("json", altered, "was altered: its checksum differs"),
        ("json", of_another_version, "is of version 2, not 1"),
    ],
)
def test_one_that_is_damaged_is_named_and_the_one_before_it_is_taken(
    tmp_path: Path, end: str, damage: Callable[[Path], None], told: str
) -> None:
    for step in (5, 10):
        write_snapshot(tmp_path, at(step), keep=2)
    if damage is cut and end == "json":  # its last byte is the end of a line
        cut(tmp_path / "step-00000010.json")
    damage(tmp_path / f"step-00000010.{end}")
    said: list[str] = []
    found = newest_snapshot(tmp_path, said.append)
    assert found is not None
    assert found.step == 5
    assert len(said) == 1
    assert "step-00000010." in said[0]
    assert said[0].endswith("The one before it is taken.")
    with pytest.raises(RunFailed, match=told):
        read_snapshot(tmp_path / "step-00000010.json")


def test_every_bit_of_a_description_counts(tmp_path: Path) -> None:
    """The whole file, bit by bit, but for the end of its line."""
    described = write_snapshot(tmp_path, at(5), keep=1)
    whole = described.read_bytes()
    for place in range(8 * (len(whole) - 1)):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        described.write_bytes(content)
        try:
            read = read_snapshot(described)
        except RunFailed:
            continue
        assert (read.step, read.rows, dict(read.plain)) == (5, 40, at(5).plain), place  # white space alone


def test_where_all_are_damaged_each_is_named_and_none_is_taken(tmp_path: Path) -> None:
    for step in (5, 10):
        flip(write_snapshot(tmp_path, at(step), keep=2).with_suffix(".safetensors"))
    said: list[str] = []
    assert newest_snapshot(tmp_path, said.append) is None
    assert [line.rsplit(". ", 1)[1] for line in said] == [
        "The one before it is taken.",
        "None before it is left.",
    ]


def test_a_damaged_one_never_outlives_a_newer_whole_one(tmp_path: Path) -> None:
    """10 is damaged, so the run goes on from 5 and keeps 7: with one that stays, it must be 7."""
    for step in (5, 10):
        write_snapshot(tmp_path, at(step), keep=2)
    flip(tmp_path / "step-00000010.safetensors")
    write_snapshot(tmp_path, at(7), keep=1)
    assert names(tmp_path) == files(7)


def test_what_is_said_beside_the_tensors_may_change_alone(tmp_path: Path) -> None:
    described = write_snapshot(tmp_path, at(5), keep=2)
    rewrite_snapshot(tmp_path, Snapshot("lm", 5, 48, {}, {"lr_scale": 0.5}))
    read = read_snapshot(described)
    assert (read.rows, read.plain) == (48, {"lr_scale": 0.5})
    assert torch.equal(read.tensors["weights.w"], at(5).tensors["weights.w"])


@pytest.mark.parametrize("moves", [0, 1])
def test_a_writer_that_dies_leaves_what_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """Before its tensors are in their place, and between them and their description."""
    write_snapshot(tmp_path, at(5), keep=2)
    replace, done = Path.replace, []

    def dies(self: Path, target: Path) -> Path:
        done.append(target)
        if len(done) > moves:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)  # it leaves its temporary files
        with pytest.raises(KeyboardInterrupt):
            write_snapshot(tmp_path, at(10), keep=2)
    assert len(names(tmp_path)) > 2
    found = newest_snapshot(tmp_path, pytest.fail)
    assert found is not None
    assert found.step == 5
    sweep(tmp_path)
    assert names(tmp_path) == files(5)


def test_a_sweep_leaves_other_files(tmp_path: Path) -> None:
    write_snapshot(tmp_path, at(5), keep=2)
    (tmp_path / "note.txt").touch()
    sweep(tmp_path)
    assert names(tmp_path) == ["note.txt", *files(5)]
    sweep(tmp_path / "nowhere")


def test_snapshots_are_forgotten_and_nothing_else(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_snapshot(tmp_path / name, at(5), keep=2)
    (tmp_path / "two" / "note.txt").touch()
    for name in ("one", "two"):
        forget_snapshots(tmp_path / name)
    assert names(tmp_path) == ["two"]
    assert names(tmp_path / "two") == ["note.txt"]


class Evil:
    """Unpickling it would make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("how", ["pickle", "torch"])
@pytest.mark.parametrize("end", ["json", "safetensors"])
def test_nothing_that_is_read_is_run(tmp_path: Path, how: str, end: str) -> None:
    """Even where the description vouches for the file that holds code."""
    mark = tmp_path / "mark"
    described = write_snapshot(tmp_path, at(5), keep=2)
    path = described.with_suffix(f".{end}")
    if how == "torch":
        torch.save({"a": Evil(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Evil(mark), protocol=2))
    if end == "safetensors":
        rewrite_snapshot(tmp_path, at(5))
    with pytest.raises(RunFailed, match=r"step-00000005\.json can't be read"):
        read_snapshot(described)
    assert not mark.exists()
    path = path.rename(tmp_path / "evil")  # torch goes by the ending
    torch.load(path, weights_only=False) if how == "torch" else pickle.loads(path.read_bytes())
    assert mark.exists()  # so the test would have noticed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs rights that this user does not have")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_keeps_the_last_good_one(small_disk: Path) -> None:
    write_snapshot(small_disk, at(5), keep=1)
    with pytest.raises(RunFailed, match=f"The disk of {small_disk} is full"):
        write_snapshot(small_disk, at(10, size=2**18), keep=1)  # 1 MiB and more
    assert names(small_disk) == files(5)
    found = newest_snapshot(small_disk, pytest.fail)
    assert found is not None
    assert found.step == 5
