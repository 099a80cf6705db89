"""What run.sha256 says of a file, by hand, and while another process writes it anew."""

from __future__ import annotations

import hashlib
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
