"""Snapshots: the files from which a stage of training goes on, each whole or not there at all.

checkpoints/<stage>/step-00000500.safetensors   weights, moments of the optimiser, averages, random states
checkpoints/<stage>/step-00000500.json          where it stood, and the checksums of both files

The second is written last, so a snapshot exists when both are there. Plain numbers and tensors: nothing that
is read is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import Tensor

from calmkit.sums import file_digest
from calmkit.training.checkpoints import save_tensors, write_text
from calmkit.training.errors import RunFailed

VERSION = 1
PATTERN = f"step-{'[0-9]' * 8}.json"


@final
@dataclass(frozen=True)
class Snapshot:
    """Where a stage stood between two steps.

    Attributes:
        stage: Its name.
        step: Steps that were taken.
        rows: Rows that all processes together have seen.
        tensors: By name: `weights.`, `optimizer.`, `average.`, `random.` in front.
        plain: All else: numbers, words, lists and mappings of them.
    """

    stage: str
    step: int
    rows: int
    tensors: Mapping[str, Tensor]
    plain: Mapping[str, Any]


def stage_folder(run: Path, stage: str) -> Path:
    """Where the snapshots of a stage lie in a run folder."""
    return run / "checkpoints" / stage


def write_snapshot(folder: Path, snapshot: Snapshot, keep: int) -> Path:
    """Write a snapshot beside those that are there, then delete all but the newest `keep`, and those of later
    steps: a run that goes on from before them did so because they were not whole.

    Returns:
        Its description's path.

    Raises:
        RunFailed: The disk is full or the folder refuses; what was there before is still there.
    """
    tensors = _tensors_of(folder, snapshot.step)
    tensors.with_suffix(".json").unlink(missing_ok=True)  # of a start before, whose tensors are about to go
    save_tensors(tensors, snapshot.tensors)
    described = _describe(tensors, snapshot, file_digest(tensors))
    there = sorted(folder.glob(PATTERN))
    last = there.index(described)
    for old in (*there[: max(0, last + 1 - keep)], *there[last + 1 :]):
        old.unlink(missing_ok=True)
        old.with_suffix(".safetensors").unlink(missing_ok=True)
    return described


def rewrite_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """Say something else beside the tensors of a snapshot that is there.

    Raises:
        RunFailed: The folder refuses; what was there before is still there.
    """
    tensors = _tensors_of(folder, snapshot.step)
    _describe(tensors, snapshot, file_digest(tensors))


def step_of(described: Path) -> int:
    """The step of a snapshot, by the name of its JSON file."""
    return int(described.stem.removeprefix("step-"))


def _tensors_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.safetensors"


def _describe(tensors: Path, snapshot: Snapshot, digest: str) -> Path:
    described = tensors.with_suffix(".json")
    body = {
        "calmkit": VERSION,
        "stage": snapshot.stage,
        "step": snapshot.step,
        "rows": snapshot.rows,
        "plain": snapshot.plain,
        "tensors": digest,
    }
    write_text(described, json.dumps(body | {"sha256": _digest_of(body)}) + "\n")
    return described


def newest_snapshot(folder: Path, say: Callable[[str], None]) -> Snapshot | None:
    """The newest snapshot that is whole; each that is not is named, and the one before it is taken.

    Returns:
        None where there is none.
    """
    there = sorted(folder.glob(PATTERN), reverse=True)
    for number, described in enumerate(there, 1):
        try:
            return read_snapshot(described)
        except RunFailed as error:
            left = "The one before it is taken." if number < len(there) else "None before it is left."
            say(f"warning: {error} {left}")
    return None


def read_snapshot(described: Path) -> Snapshot:
    """Read one.

    Args:
        described: Its JSON file.

    Raises:
        RunFailed: A file is missing, was cut or altered, or is of another version of calmkit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    body = check_snapshot(described)
    try:
        tensors = load_file(str(described.with_suffix(".safetensors")))
        return Snapshot(body["stage"], body["step"], body["rows"], tensors, body["plain"])
    except (OSError, KeyError, SafetensorError) as error:
        raise RunFailed(f"The checkpoint {described} can't be read: {error}.") from error


def check_snapshot(described: Path) -> dict[str, Any]:
    """What a snapshot says of itself, if both of its files are as they were written.

    Raises:
        RunFailed: As `read_snapshot`.
    """
    tensors = described.with_suffix(".safetensors")
    try:
        body = json.loads(described.read_text(encoding="utf-8"))
        said = body.pop("sha256")
        if said != _digest_of(body):
            raise RunFailed(f"The checkpoint {described} was altered: its checksum differs.")
        if body["calmkit"] != VERSION:
            raise RunFailed(f"The checkpoint {described} is of version {body['calmkit']}, not {VERSION}.")
        if file_digest(tensors) != body["tensors"]:
            raise RunFailed(f"The checkpoint {tensors} was cut or altered: its checksum differs.")
        return body
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFailed(f"The checkpoint {described} can't be read: {error}.") from error


def forget_snapshots(folder: Path) -> None:
    """Delete all snapshots of a stage, and what a killed writer left."""
    for path in _files(folder):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # something else lies there
        folder.rmdir()


def sweep(folder: Path) -> None:
    """Delete what a killed writer left: files of a temporary name, tensors that nothing describes."""
    for path in _files(folder):
        orphan = path.suffix == ".safetensors" and not path.with_suffix(".json").exists()
        if path.name.startswith(".") or orphan:
            path.unlink(missing_ok=True)


def _files(folder: Path) -> Iterator[Path]:
    names = os.listdir(folder) if folder.is_dir() else []
    return (
        folder / name for name in names if name.lstrip(".").startswith("step-") or name.startswith(".tmp")
    )


def _digest_of(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
