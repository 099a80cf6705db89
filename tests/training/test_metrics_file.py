"""metrics.csv: every line once, whatever process wrote it, and as one process would have written it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from calmkit.training import metrics_file
from calmkit.training.metrics_file import MetricsFile


def text(folder: Path) -> str:
    return (folder / "metrics.csv").read_text()


def test_lines_by_hand(tmp_path: Path) -> None:
    """Columns in the order in which they came; what a line has not is empty."""
    file = MetricsFile(tmp_path)
    file.log_metrics({"b": 0.1, "a": torch.tensor(2.0)}, step=4)
    file.save()
    file.log_metrics({"c": 3.0}, step=9)
    file.log_metrics({"a": 1.5}, step=14)
    file.save()
    assert text(tmp_path) == "a,b,step,c\n2.0,0.1,4,\n,,9,3.0\n1.5,,14,\n"
    assert file.lines == 3


def test_nothing_said_is_no_file(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    file.save()
    file.finalize("success")
    assert list(tmp_path.iterdir()) == []


def test_when_it_is_written_does_not_matter(tmp_path: Path) -> None:
    """Line by line, all at once, or by two processes: the same file."""
    lines = [{"b": 1.0}, {"z": 0.1 + 0.2, "a": 2.0}, {"b": 3.0, "k": 1e-30}]
    for name, saves in (("each", {0, 1, 2}), ("once", {2}), ("two", {0, 2})):
        (tmp_path / name).mkdir()
        file = MetricsFile(tmp_path / name)
        for step, line in enumerate(lines):
            file.log_metrics(line, step=step)
            if step in saves:
                file.save()
                file = MetricsFile(tmp_path / name)
    assert text(tmp_path / "each") == text(tmp_path / "once") == text(tmp_path / "two")
    assert "0.30000000000000004" in text(tmp_path / "each")


@pytest.mark.parametrize("lines", [0, 1, 2, 3, 9])
def test_what_is_cut_and_told_again_is_there_once(tmp_path: Path, lines: int) -> None:
    """A column that only came later comes in its place again."""
    told = [{"a": 1.0}, {"a": 2.0, "x": 0.5}, {"c": 3.0}]
    whole = MetricsFile(tmp_path)
    for step, line in enumerate(told):
        whole.log_metrics(line, step=step)
    whole.save()
    before = text(tmp_path)
    again = MetricsFile(tmp_path)
    again.cut(lines)
    assert again.lines == min(lines, 3)
    for step, line in list(enumerate(told))[lines:]:
        again.log_metrics(line, step=step)
    again.save()
    assert text(tmp_path) == before


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_line_that_a_killed_process_left_in_half_is_gone(tmp_path: Path, cut: int) -> None:
    (tmp_path / "metrics.csv").write_text("a,step\n1.0,0\n2.0,1\n3.")
    file = MetricsFile(tmp_path)
    assert file.lines == 2
    file.cut(cut)
    for step in range(cut, 3):
        file.log_metrics({"a": step + 1.0}, step=step)
    file.save()
    assert text(tmp_path) == "a,step\n1.0,0\n2.0,1\n3.0,2\n"


def test_lines_that_were_not_written_yet_are_cut_too(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    file.log_metrics({"a": 1.0}, step=0)
    file.cut(0)
    file.save()
    assert list(tmp_path.iterdir()) == []


def test_the_first_line_of_a_stage(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    assert file.first_line("lm/") == 0
    file.log_metrics({"autoencoder/train/loss": 1.0}, step=0)
    file.save()
    assert file.first_line("lm/") == 1
    file.log_metrics({"autoencoder/val/loss": 1.0}, step=1)
    file.log_metrics({"lm/train/loss": 1.0}, step=0)
    file.log_metrics({"lm/val/loss": 1.0}, step=1)
    file.save()
    assert file.first_line("lm/") == 2


def test_it_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 50 lines, or 5 seconds."""
    now = [0.0]
    monkeypatch.setattr(metrics_file.time, "monotonic", lambda: now[0])
    file = MetricsFile(tmp_path)
    for step in range(49):
        file.log_metrics({"a": 1.0}, step=step)
    assert not (tmp_path / "metrics.csv").exists()
    file.log_metrics({"a": 1.0}, step=49)
    assert len(text(tmp_path).splitlines()) == 51
    now[0] = 5.1
    file.log_metrics({"a": 1.0}, step=50)
    assert len(text(tmp_path).splitlines()) == 52
