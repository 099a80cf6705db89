"""Every file of a run folder, cut or with a bit flipped: it is found where it is read, and named with a cure.

That each verb checks what it opens is seen by watching what it opens, so a file that a later calmkit puts
into a run folder without a checksum fails these tests.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from small_digits import digits_run, workshop_of_digits
from small_runs import SHORT, small_run, workshop

from calmkit.cli.main import cli
from calmkit.cli.run_folder import check_run
from calmkit.interfaces import DataError
from calmkit.sums import SUMS, file_digest

OPENED: list[str] = []
CHECKED: set[Path] = set()
WATCHING = [False]
VERBS = {
    "show": ("show", "run"),
    "plan": ("plan", "run"),
    "diff": ("diff", "run", "other"),
    "generate": ("generate", "run"),
    "train": ("train", "run", "stages.lm.max_steps=3"),
    "compare": ("compare", "run"),
    "eval": ("eval", "run"),
}
"""Quick ones first: each file is damaged for the first that reads it."""
OF_IMAGES = ("generate",)
"""What differs by kind of data is read by it."""
MEASURED = {"evaluation.json", "evaluation-documents.csv", "latents.json", "samples.txt"}
"""What training writes anew at its end."""
NOT_READ = {"recipe.yaml", "samples.png"}
"""Records for people, which `calmkit validate` compares."""


def _watch(event: str, given: tuple[object, ...]) -> None:
    if WATCHING[0] and event == "open" and isinstance(given[0], str | Path):
        OPENED.append(str(given[0]))


@pytest.fixture(scope="module", params=["text", "images"])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a `run` and its copy `other`."""
    folder = tmp_path_factory.mktemp(request.param)
    with (workshop if request.param == "text" else workshop_of_digits)(folder):
        if request.param == "text":
            small_run(folder, "run", *SHORT, "tokenizer=bpe", "tokenizer.vocab_size=270")
        else:
            digits_run(folder, "run")
        shutil.copytree("run", "other")
        shutil.copytree("run", "whole")
        yield folder


@pytest.fixture(autouse=True)
def as_it_was(runs: Path) -> Iterator[None]:
    """Whatever a test does to `run`, the next one has a whole one."""
    torch.set_default_dtype(torch.float32)
    yield
    shutil.rmtree(runs / "run")
    shutil.copytree(runs / "whole", runs / "run")


def calm(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def files(folder: Path) -> list[Path]:
    """All of a run."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flipped(content: bytes) -> bytes:
    """One bit of the middle."""
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 4
    return bytes(changed)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def refused(result: Result, path: Path) -> None:
    """One error that names the file and what would do, and no traceback."""
    said = result.output
    assert result.exit_code in (1, 2), said
    assert "internal error" not in said
    assert "Traceback" not in said
    assert str(path) in said
    assert "was cut or altered" in said or "checksum differs" in said or "can't be read" in said
    cures = ("Take it from a copy", "takes the one before it", "delete it", "init_from=")
    assert any(cure in said for cure in cures), said


def test_validate_finds_every_damaged_file(runs: Path) -> None:
    run = Path("run")
    assert calm("validate", "run").exit_code == 0
    for path in files(run):
        content = path.read_bytes()
        path.write_bytes(cut(content))
        with pytest.raises(DataError, match=re.escape(str(path))):
            check_run(run)
        path.write_bytes(flipped(content))
        with pytest.raises(DataError, match=re.escape(str(path))):
            check_run(run)
        path.write_bytes(content)
    Path("run/lock.yaml").write_text("seed: 2")
    refused(calm("validate", "run"), Path("run/lock.yaml"))
    shutil.copy("whole/lock.yaml", "run/lock.yaml")
    assert calm("validate", "run").exit_code == 0


def test_validate_finds_a_file_that_is_gone(runs: Path) -> None:
    (runs / "run" / "evaluation.json").unlink()
    result = calm("validate", "run")
    assert result.exit_code == 2
    assert "evaluation.json is gone" in result.stderr


def _checked(path: Path) -> str:
    CHECKED.add(path.resolve())
    return file_digest(path)


@pytest.fixture(scope="module")
def read_by(runs: Path) -> dict[str, set[str]]:
    """Verb -> the files of a whole run that it opened; each of them it compared with its checksum."""
    sys.addaudithook(_watch)
    text = (runs / "run" / "samples.txt").is_file()
    found = {}
    for verb, words in VERBS.items():
        if not text and verb not in OF_IMAGES:
            continue
        OPENED.clear()
        CHECKED.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("calmkit.sums.file_digest", _checked)
            patch.setattr("calmkit.training.snapshots.file_digest", _checked)
            WATCHING[0] = True
            result = calm(*words)
            WATCHING[0] = False
        assert result.exit_code == 0, result.output
        there, whole = Path("run").resolve(), Path("whole")
        opened = {p for p in map(Path.resolve, map(Path, OPENED)) if p.is_relative_to(there)}
        names = {p.relative_to(there).as_posix() for p in opened}
        found[verb] = {name for name in names if (whole / name).is_file()} - {SUMS}
        found[verb] -= MEASURED if verb == "train" else set()
        checked = {p.relative_to(there).as_posix() for p in CHECKED if p.is_relative_to(there)}
        described = {name for name in found[verb] if name.startswith("checkpoints/")}  # sealed inside
        assert found[verb] <= checked | described, verb
        shutil.rmtree("run")
        shutil.copytree("whole", "run")
    return found


def test_each_verb_refuses_the_damaged_files_that_it_reads(runs: Path, read_by: dict[str, set[str]]) -> None:
    tried: set[str] = set()
    for verb, names in read_by.items():
        for name in sorted(names - tried):
            if name.startswith("checkpoints/autoencoder"):  # told, and not needed: stage 2 has begun
                continue
            path = Path("run") / name
            content = path.read_bytes()
            path.write_bytes(flipped(content))
            refused(calm(*VERBS[verb]), path)
            path.write_bytes(content)
        tried |= names
    if "train" in read_by:
        there = {path.relative_to("whole").as_posix() for path in files(Path("whole"))}
        assert there - tried <= {*NOT_READ, SUMS}
    refused(damaged_sums(runs), Path("run") / SUMS)


def damaged_sums(runs: Path) -> Result:
    (runs / "run" / SUMS).write_bytes(flipped((runs / "run" / SUMS).read_bytes()))
    return calm("show", "run")
