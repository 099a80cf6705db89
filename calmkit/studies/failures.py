"""Why a trial failed, in one line, kept beside its run folder until it is tried again."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from calmkit.training.checkpoints import write_json

LINES = 40  # of a log's end that are searched for its error


def work_folder(folder: Path) -> Path:
    """Beside a run folder: its recipe, its log, and why it failed."""
    return folder.with_name(f"{folder.name}.work")


def note_failure(folder: Path, code: int, because: Path | None = None, what: str = "autoencoder") -> str:
    """Write down why a process did not fill a run folder.

    Args:
        folder: The run folder.
        code: The exit code, negative for the signal that killed it.
        because: The run folder whose failure is the reason.
        what: What that one is to this one.

    Returns:
        The reason.
    """
    if because is not None:
        why = f"its {what} failed: {failure(because) or 'it was not trained'}"
    else:
        why = in_words(code, work_folder(folder) / "log.txt")
    write_json(work_folder(folder) / "failed.json", {"code": code, "why": why})
    return why


def failure(folder: Path) -> str:
    """Why the last try failed; empty where none did."""
    try:
        return str(json.loads((work_folder(folder) / "failed.json").read_text(encoding="utf-8"))["why"])
    except (OSError, ValueError, KeyError):
        return ""


def failed_by_itself(folder: Path) -> bool:
    """Whether the last try ended with an error of its own: nobody stopped or killed it."""
    try:
        code = json.loads((work_folder(folder) / "failed.json").read_text(encoding="utf-8"))["code"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return code in (1, 2, 3)  # an error, a refusal, a plugin's


def forget(folder: Path) -> None:
    """A new try begins."""
    (work_folder(folder) / "failed.json").unlink(missing_ok=True)


def in_words(code: int, log: Path) -> str:
    """Why a process ended as it did: the signal, or the last error of its log."""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        cure = "; was there too little memory? Fewer workers would take less" if name == "SIGKILL" else ""
        return f"its process was killed ({name}){cure}; {log}"
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LINES:]
    except OSError:
        lines = []
    told = next((line for line in reversed(lines) if "error" in line.partition(":")[0].lower()), "")
    told = told or next((line for line in reversed(lines) if line.strip()), f"exit code {code}")
    return f"{told.strip().removeprefix('error: ')[:300]}; {log}"
