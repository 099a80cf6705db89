"""What run.sha256 says of a file, by hand, and while another process writes it anew."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from calmkit import sums
from calmkit.sums import SUMS, begin_sums, complete_sums, drop_sums, fault_of, faults, put_sums


@pytest.fixture
def file(tmp_path: Path) -> Path:
    begin_sums(tmp_path)
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "config.json"
    path.write_text("{}")
    put_sums(path)
    return path


def test_the_lines_are_those_of_sha256sum(file: Path) -> None:
    head, line = (file.parents[1] / SUMS).read_text().splitlines()
    assert line == f"{hashlib.sha256(b'{}').hexdigest()}  model/config.json"
    assert head == "# calmkit 1: " + hashlib.sha256((line + "\n").encode()).hexdigest()


def test_a_changed_file_is_named_one_without_a_line_is_not_and_a_gone_one_is(file: Path) -> None:
    assert fault_of(file) == ""
    file.write_text("[]")
    assert fault_of(file).startswith(f"{file} was cut or altered")
    drop_sums(file.parent)
    assert fault_of(file) == ""
    complete_sums(file.parents[1])
    file.unlink()
    assert fault_of(file) == ""
    assert faults(file.parents[1]) == [f"{file} is gone, and {file.parents[1] / SUMS} lists it."]


@pytest.mark.parametrize("ended", [True, False])
def test_a_file_that_is_written_anew_meanwhile_is_looked_at_again(
    file: Path, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """Another process takes its line away, moves it into place, and gives it a line, unless it is killed."""
    digest, times = sums.file_digest, []

    def in_between(path: Path) -> str:
        times.append(path)
        if len(times) == 1:
            monkeypatch.setattr(sums, "file_digest", digest)
            drop_sums(path)
            path.write_text("[1]")
            if ended:
                put_sums(path)
            monkeypatch.setattr(sums, "file_digest", in_between)
        return digest(path)

    monkeypatch.setattr(sums, "file_digest", in_between)
    assert fault_of(file) == ""
    assert len(times) == 1 + ended


TWO = """
import sys
from pathlib import Path
from calmkit.sums import fault_of, move

for number in range(150):
    there = Path("model") / f"temporary.{sys.argv[1]}"
    there.write_text(f"{sys.argv[1]} {number}")
    move(there, Path("model") / f"mine.{sys.argv[1]}")
    there.write_text(f"{sys.argv[1]} {number}")
    move(there, Path("model") / "both")
"""


def test_two_processes_lose_no_line_and_blame_no_file(file: Path) -> None:
    """Each writes a file of its own and one of both, and the end is what stands there."""
    folder = file.parents[1]
    both = [subprocess.Popen([sys.executable, "-c", TWO, name], cwd=folder) for name in ("a", "b")]
    while any(process.poll() is None for process in both):
        assert faults(folder) == []
    assert [process.wait(60) for process in both] == [0, 0]
    names = {line.partition("  ")[2] for line in (folder / SUMS).read_text().splitlines()[1:]}
    assert names == {"model/config.json", "model/mine.a", "model/mine.b", "model/both"}
    assert faults(folder) == []


def test_what_others_put_there_is_nobody_s_business(file: Path) -> None:
    folder = file.parents[1]
    (folder / "log.txt").write_text("so far")
    (folder / "model" / "deep" / "er").mkdir(parents=True)
    (folder / "model" / "deep" / "er" / "x").write_text("")
    complete_sums(folder)
    (folder / "log.txt").write_text("so far, and more")
    assert faults(folder) == []
    assert "log.txt" not in (folder / SUMS).read_text()
