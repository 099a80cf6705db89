"""What the shell offers: names that begin as the word does, where an argument takes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from fake_parts import FAKES, fake_manager

from calmkit.cli.main import cli


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("calmkit.registry.make_manager", fake_manager)
    run = Path("runs/base/1")
    run.mkdir(parents=True)
    (run / "resolved.yaml").write_text("name: base\n")
    Path("mine.yaml").write_text("extends: tiny/energy\n")


def offered(*words: str) -> list[str]:
    """What is offered for the last word."""
    *before, incomplete = words
    shell = ShellComplete(cli, {}, "calmkit", "_CALMKIT_COMPLETE")
    return [item.value for item in shell.get_completions(before, incomplete)]


def kinds(*words: str) -> list[str]:
    *before, incomplete = words
    shell = ShellComplete(cli, {}, "calmkit", "_CALMKIT_COMPLETE")
    return [item.type for item in shell.get_completions(before, incomplete)]


@pytest.mark.parametrize("verb", ["train", "plan", "show", "diff", "validate", "cp"])
def test_recipes_are_offered_by_name(verb: str) -> None:
    assert offered(verb, "tiny/givt") == ["tiny/givt", "tiny/givt_causal", "tiny/givt_masked"]


@pytest.mark.parametrize("verb", ["train", "plan", "show", "diff", "validate"])
def test_files_of_ones_own_are_offered_beside_them(verb: str) -> None:
    assert offered(verb, "mi") == ["mine.yaml"]


@pytest.mark.parametrize(
    "verb", ["train", "plan", "show", "diff", "eval", "generate", "export", "reproduce", "compare"]
)
def test_run_folders_are_offered(verb: str) -> None:
    assert offered(verb, "ru") == ["runs/base/1"]


def test_both_sides_of_a_diff_are_offered() -> None:
    assert offered("diff", "tiny/energy", "tiny/fl") == ["tiny/flow"]


def test_where_no_name_begins_so_the_shell_completes_files() -> None:
    assert kinds("train", "qq") == ["file"]
    assert offered("train", "qq") == ["qq"]


def test_parts_and_kinds_are_offered_to_show() -> None:
    assert offered("show", "heads/") == [f"heads/{name}" for name in FAKES["heads"]]
    assert offered("show", "narr") == ["narrow"]
    assert offered("show", "sampl") == ["samplers", *(f"samplers/{name}" for name in FAKES["samplers"])]


def test_parts_are_offered_behind_a_section() -> None:
    assert offered("train", "tiny/energy", "head=n") == ["head=narrow"]
    assert offered("train", "tiny/energy", "head", "=", "n") == ["narrow"]  # bash splits at =
    assert offered("train", "tiny/energy", "head", "=") == sorted(FAKES["heads"])
    assert offered("train", "tiny/energy", "seed=1", "sampler.name=") == [
        "sampler.name=direct",
        "sampler.name=vote",
    ]
    assert offered("train", "tiny/energy", "he") == ["head="]
    assert offered("train", "tiny/energy", "head", "=", "narrow", "to") == ["tokenizer="]


def test_studies_and_codes_and_kinds_are_offered() -> None:
    assert offered("study", "run", "quick") == ["quickstart"]
    assert offered("cp", "studies/quick") == ["studies/quickstart"]
    assert offered("explain", "CK14")[:2] == ["CK140", "CK141"]
    assert offered("ls", "pl") == ["plugins"]


def test_recipes_and_runs_are_offered_without_torch() -> None:
    code = (
        "import sys\n"
        "from click.shell_completion import ShellComplete\n"
        "from calmkit.cli.main import cli\n"
        "shell = ShellComplete(cli, {}, 'calmkit', '_CALMKIT_COMPLETE')\n"
        "for before in (['train'], ['eval'], ['cp'], ['study', 'run']):\n"
        "    shell.get_completions(before, 't')\n"
        "sys.exit(bool({'torch', 'yaml', 'omegaconf'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr


def test_the_program_answers_the_shell() -> None:
    environment = {"_CALMKIT_COMPLETE": "bash_complete", "COMP_WORDS": "calmkit expl", "COMP_CWORD": "1"}
    import os

    done = subprocess.run(
        [sys.executable, "-m", "calmkit"],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.splitlines() == ["plain,explain"], done.stderr
