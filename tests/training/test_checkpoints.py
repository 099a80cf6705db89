"""Files are there whole or not at all, and weights come back as they were."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from calmkit.training.checkpoints import (
    COPIES,
    check_disk,
    load_weights,
    save_weights,
    write_json,
    write_moved,
    write_text,
)
from calmkit.training.errors import RunFailed


class Tied(nn.Module):
    """Two layers that share one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight


def half_written(error: OSError):
    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise error

    return write


@pytest.mark.parametrize(
    ("number", "told"), [(errno.ENOSPC, "full"), (errno.EDQUOT, "full"), (errno.EACCES, "Permission denied")]
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, number: int, told: str) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(RunFailed, match=told) as raised:
        write_moved(path, half_written(OSError(number, os.strerror(number))))
    assert str(tmp_path) in str(raised.value)
    assert "--out" in str(raised.value)
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert os.listdir(tmp_path) == ["x.json"]


def test_any_other_failure_leaves_no_temporary_file_either(tmp_path: Path) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_moved(tmp_path / "x", write)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFailed, match=r"file/run/x could not be written .*Make its folder writable"):
        write_text(tmp_path / "file" / "run" / "x", "text")


@pytest.mark.parametrize("prefix", ["", "part"])
def test_tied_weights_come_back_tied(tmp_path: Path, prefix: str) -> None:
    saved, loaded = Tied(), Tied()
    save_weights(tmp_path / "w", saved, prefix)
    load_weights(tmp_path / "w", loaded, prefix)
    assert torch.equal(loaded.second.weight, saved.first.weight)
    assert loaded.second.weight is loaded.first.weight


def test_a_prefix_takes_its_own_tensors_only(tmp_path: Path) -> None:
    whole = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 3)})
    save_weights(tmp_path / "w", whole)
    part = nn.Linear(2, 3)
    load_weights(tmp_path / "w", part, "b")
    assert torch.equal(part.weight, whole["b"].weight)


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    save_weights(tmp_path / "w", nn.Linear(2, 2))
    with pytest.raises(RunFailed, match="other shapes"):
        load_weights(tmp_path / "w", nn.Linear(3, 2))
    with pytest.raises(RunFailed, match="missing none; not known bias"):
        load_weights(tmp_path / "w", nn.Linear(2, 2, bias=False))
    many = nn.ModuleList(nn.Linear(1, 1) for _ in range(3))
    with pytest.raises(RunFailed, match=r"missing 0\..* and 3 more; not known (weight, bias|bias, weight)"):
        load_weights(tmp_path / "w", many)


def test_damaged_and_missing_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(RunFailed, match=f"Cannot read the weights {path}"):
        load_weights(path, nn.Linear(2, 2))
    save_weights(path, nn.Linear(2, 2))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(RunFailed, match=f"Cannot read the weights {path}"):
        load_weights(path, nn.Linear(2, 2))


def test_too_little_room_is_refused_before_a_step_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two checkpoints that stay, the one that is written, and the model: 3 * 4 + 1 MiB."""
    module = nn.Linear(2**17, 1, bias=False)  # 1 MiB in float64
    needed = (3 * COPIES + 1) * 2**20
    for free, fits in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr("shutil.disk_usage", lambda folder, free=free: type("U", (), {"free": free}))
        if fits:
            check_disk(tmp_path, module, 2)
            continue
        with pytest.raises(RunFailed, match=r"needs about 13 MiB .*--out"):
            check_disk(tmp_path, module, 2)


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


def test_a_full_disk_keeps_the_last_weights(small_disk: Path) -> None:
    path, kept = small_disk / "w", nn.Linear(2, 2)
    save_weights(path, kept)
    with pytest.raises(RunFailed, match=f"The disk of {small_disk} is full"):
        save_weights(path, nn.Linear(2**9, 2**9))  # 2 MiB
    assert os.listdir(small_disk) == ["w"]
    load_weights(path, kept)
