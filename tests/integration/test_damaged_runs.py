"""Every file of a run folder, cut or with a bit flipped: it is found where it is read, and named with a cure.

That each verb checks what it opens is seen by watching what it opens, so a file that a later calmkit puts into
a run folder without a checksum fails these tests.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from small_digits import digits_run, workshop_of_digits
from small_runs import SHORT, small_run, workshop

from calmkit.cli.main import cli
from calmkit.cli.run_folder import check_run
from calmkit.interfaces import DataError
from calmkit.sums import SUMS

OPENED: list[str] = []
WATCHING = [False]
VERBS = {
    "train": ("train", "run", "stages.lm.max_steps=3"),
    "eval": ("eval", "run"),
    "generate": ("generate", "run"),
    "show": ("show", "run"),
    "plan": ("plan", "run"),
    "diff": ("diff", "run", "other"),
    "compare": ("compare", "run"),
    "validate": ("validate", "run"),
}
REBUILT = {"eval": {"evaluation.json", "evaluation-documents.csv", "latents.json"}}
"""What a verb measures and writes anew."""


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
    assert any(cure in said for cure in ("Take it from a copy", "takes the one before it", "delete it")), said


def test_validate_finds_every_damaged_file(runs: Path) -> None:
    run = Path("run")
    assert calm("validate", "run").exit_code == 0
    for path in files(run):
        content = path.read_bytes()
        path.write_bytes(cut(content))
        with pytest.raises(DataError, match=re.escape(str(path))):
            check_run(run)
        path.write_bytes(flipped(content))
        refused(calm("validate", "run"), path)
        path.write_bytes(content)
    assert calm("validate", "run").exit_code == 0


def test_validate_finds_a_file_that_is_gone(runs: Path) -> None:
    (runs / "run" / "evaluation.json").unlink()
    result = calm("validate", "run")
    assert result.exit_code == 2
    assert "evaluation.json is gone" in result.stderr


@pytest.fixture(scope="module")
def read_by(runs: Path) -> dict[str, set[str]]:
    """Verb -> the files of a whole run that it opened, other than to write them or to take their checksum."""
    sys.addaudithook(_watch)
    found = {}
    for verb, words in VERBS.items():
        OPENED.clear()
        WATCHING[0] = True
        result = calm(*words)
        WATCHING[0] = False
        assert result.exit_code == 0, result.output
        names = {Path(path) for path in OPENED if not Path(path).name.startswith(".")}
        resolved = {path.resolve() for path in names}
        found[verb] = {p.relative_to("run").as_posix() for p in files(Path("run")) if p.resolve() in resolved}
        shutil.rmtree("run")
        shutil.copytree("whole", "run")
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_refuses_a_damaged_file_that_it_reads(
    runs: Path, verb: str, read_by: dict[str, set[str]]
) -> None:
    names = read_by[verb] - {SUMS} - REBUILT.get(verb, set())
    assert "resolved.yaml" in names
    for name in sorted(names):
        path = Path("run") / name
        content = path.read_bytes()
        path.write_bytes(flipped(content))
        refused(calm(*VERBS[verb]), path)
        path.write_bytes(content)
