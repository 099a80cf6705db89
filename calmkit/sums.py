"""run.sha256: what each file of a folder is, so that one that was cut or altered is found when it is read.

    # calmkit 1: <SHA-256 of the lines below>
    <SHA-256>  model/model.safetensors

`sha256sum -c run.sha256` reads the same lines. A file loses its line before it is written anew and gets
another one after that, so whoever is killed between the two leaves a file that is not checked, and never one
that is blamed. Checkpoints have no line, for they say beside themselves what they are.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

SUMS = "run.sha256"
OURS = (
    "recipe.yaml",
    "resolved.yaml",
    "lock.yaml",
    "metrics.csv",
    "loggers.json",
    "latents.json",
    "evaluation*",
    "samples.*",
    "model/*",
    "model/*/*",
    "checkpoints/untrained.json",
)
"""What calmkit writes into a run folder; whatever else lies there is nobody's business."""
DEPTH = 4
"""Folders above a file that are looked through."""
_HEAD = "# calmkit 1: "


def begin_sums(folder: Path) -> None:
    """From now on what is written into a folder is kept in its run.sha256; older lines are forgotten."""
    _write(folder / SUMS, {})


def put_sums(*paths: Path) -> None:
    """Give files a line, where they lie in a folder that keeps sums."""
    for path in paths:
        sums, name = _of_file(path)
        if sums is not None:
            with _alone(sums) as held:
                _write(sums, {**_lines(sums), name: file_digest(path)}, held)


def move(temporary: Path, path: Path) -> None:
    """Put a file in its place; its line is that of what stands there, whoever else writes into the folder."""
    sums, name = _of_file(path)
    if sums is None:
        temporary.replace(path)
        return
    with _alone(sums) as held:
        lines = _lines(sums)
        if lines.pop(name, None) is not None:
            _write(sums, lines, held)  # who is killed here leaves a file that is not checked
        temporary.replace(path)
        _write(sums, {**lines, name: file_digest(path)}, held)


def drop_sums(*paths: Path) -> None:
    """Take the lines of files away, which are about to be written; of a folder, of all files in it."""
    for path in paths:
        sums, name = _home(path)
        if sums is not None:
            with _alone(sums) as held:
                lines = _lines(sums)
                kept = {k: v for k, v in lines.items() if k != name and not k.startswith(f"{name}/")}
                if kept != lines:
                    _write(sums, kept, held)


def complete_sums(folder: Path) -> None:
    """Give a line to each of calmkit's files that has none, as one whose writer was killed; and take those of
    files away that are gone.
    """
    sums = folder / SUMS
    if sums.is_file():
        with _alone(sums) as held:
            lines = _lines(sums)
            found = {path.relative_to(folder).as_posix(): path for path in files_with_sums(folder)}
            _write(sums, {name: lines.get(name) or file_digest(path) for name, path in found.items()}, held)


def files_with_sums(folder: Path) -> Iterator[Path]:
    """Files of a run folder, or of a folder in it, that have a line or could: what calmkit writes but
    checkpoints. There are none where no sums are kept.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _of_file(path)[0] is not None:
            yield path


def fault_of(path: Path) -> str:
    """What is wrong with a file, in a sentence, and what would do; empty where it is as it was written.

    A file without a line, or in a folder that keeps no sums, is taken as it is. Where another process of the
    run writes it anew in the meantime, it is looked at again.
    """
    sums, name = _of_file(path)
    if sums is None or not path.is_file():
        return ""
    if not _is_whole(sums):
        return (
            f"{sums} was cut or altered, and it says which other files were. Take it from a copy; or delete "
            "it, and no file of this folder is checked any more."
        )
    said = _lines(sums).get(name)
    while said is not None and path.is_file() and file_digest(path) != said:
        before, said = said, _lines(sums).get(name)
        if said == before:
            break
    else:
        return ""
    return (
        f"{path} was cut or altered: its SHA-256 is not the one in {sums}. Take it from a copy, or delete it "
        f"and make it anew; if you changed it yourself, delete {sums}, and no file of this folder is checked "
        "any more."
    )


def faults(folder: Path) -> list[str]:
    """Of every file of a folder, those that are gone too."""
    sums = folder / SUMS
    if not sums.is_file():
        return []
    paths = [*files_with_sums(folder), *(folder / name for name in _lines(sums))]
    found = [fault_of(path) for path in dict.fromkeys(paths)]
    gone = [
        f"{folder / name} is gone, and {sums} lists it."
        for name in _lines(sums)
        if not (folder / name).is_file()
    ]
    return list(dict.fromkeys(filter(None, [*found, *gone])))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _home(path: Path) -> tuple[Path | None, str]:
    """The sums that a file belongs to, the nearest above it, and its name there."""
    for parent in [*path.parents][:DEPTH]:
        if (parent / SUMS).is_file():
            return parent / SUMS, path.relative_to(parent).as_posix()
    return None, ""


def _of_file(path: Path) -> tuple[Path | None, str]:
    """The same, of a file that has a line or could."""
    sums, name = _home(path)
    return (None, "") if sums is None or _has_none(Path(name)) else (sums, name)


def _has_none(name: Path) -> bool:
    """Whether a file has no line: a checkpoint says beside itself what it is."""
    ours = any(len(name.parts) == pattern.count("/") + 1 and name.match(pattern) for pattern in OURS)
    return not ours or name.name.startswith(".")


@contextmanager
def _alone(sums: Path) -> Iterator[ExitStack]:
    """Between processes, one at a time; the kernel lets go of it for a process that dies.

    The file itself is held, and each that takes its place meanwhile (`_write`); who gets hold of one that is
    in its place no more tries again.
    """
    with ExitStack() as held:
        file = held.enter_context(sums.open("rb"))
        _hold(file)
        while not os.path.samestat(os.fstat(file.fileno()), sums.stat()):
            file = held.enter_context(sums.open("rb"))
            _hold(file)
        yield held


def _hold(file: IO[bytes]) -> None:
    with suppress(ImportError, OSError):  # where nothing can be held, nobody waits
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def _is_whole(sums: Path) -> bool:
    try:
        head, _, body = sums.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return False
    return head == _HEAD + _digest(body)


def _lines(sums: Path) -> dict[str, str]:
    """Name -> SHA-256; of one that is damaged, what can be read of it."""
    text = sums.read_text(encoding="utf-8", errors="replace")
    pairs = (line.split("  ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}


def _write(sums: Path, lines: Mapping[str, str], held: ExitStack | None = None) -> None:
    body = "".join(f"{digest}  {name}\n" for name, digest in sorted(lines.items()))
    temporary = sums.with_name(f".{SUMS}.{os.getpid()}.tmp")
    try:
        temporary.write_text(f"{_HEAD}{_digest(body)}\n{body}", encoding="utf-8")
        if held is not None:
            _hold(held.enter_context(temporary.open("rb")))
        temporary.replace(sums)
    finally:
        temporary.unlink(missing_ok=True)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
