"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import importlib.metadata
import json
import math
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from fake_parts import BASE, fake_manager

from calmkit.cli.main import cli
from calmkit.generation import Unit
from calmkit.interfaces import Context, HeadInfo, IterativeHead, Posterior, SampleOptions
from calmkit.recipe.load import load_recipe
from calmkit.registry import Rejected, make_manager


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("calmkit.registry.make_manager", fake_manager)
    Path("base.yaml").write_text(BASE)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def stub(monkeypatch: pytest.MonkeyPatch, module: str, **names: Any) -> None:
    """Stands in for a module that brings Lightning along."""
    made = types.ModuleType(module)
    for name, value in names.items():
        setattr(made, name, value)
    monkeypatch.setitem(sys.modules, module, made)


def trained(folder: Path) -> Path:
    run_folder = folder / "runs" / "base" / "1"
    run_folder.mkdir(parents=True)
    (run_folder / "resolved.yaml").write_text("name: base\n" + BASE)
    return run_folder


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from calmkit.cli.main import cli; cli(['--help'], standalone_mode=False); "
        "sys.exit('torch' in sys.modules or 'rich' in sys.modules or 'yaml' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    verbs = [
        "compare",
        "eval",
        "export",
        "generate",
        "import",
        "ls",
        "plan",
        "show",
        "study",
        "train",
        "validate",
    ]
    assert [line.split()[0] for line in done.stdout.partition("Commands:\n")[2].splitlines()] == verbs


def test_validate() -> None:
    result = run("validate", "base.yaml", "head=narrow")
    assert result.exit_code == 0
    assert result.stdout == (
        "base: ok\n  autoencoder: 30 parameters\n  embedder: 40 parameters\n  backbone: 144 parameters\n"
        "  head: 54 parameters\n  all: 268 parameters\n"
    )
    assert result.stderr == "note: head: wide -> narrow; keeps num_targets=7; drops num_draws=5\n"


def test_a_wrong_recipe_is_usage() -> None:
    result = run("validate", "base.yaml", "head.num_drawz=3")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(
        "error[CK130]: unknown key 'num_drawz' of head 'wide'\n  --> command line (head.num_drawz=3)\n"
    )
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("words", [["--debug", "validate"], ["validate", "--debug"]])
def test_debug_adds_the_traceback(words: list[str]) -> None:
    result = run(*words, "base.yaml", "seed=x")
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback")
    assert result.stderr.endswith(
        "error[CK132]: seed must be a whole number, got 'x'\n  --> command line (seed=x)\n"
    )


def test_show_is_a_recipe_again() -> None:
    result = run("show", "base.yaml", "head.num_draws=6")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "# all: 268 parameters"
    Path("shown.yaml").write_text(result.stdout)
    manager = fake_manager()
    assert load_recipe("shown.yaml", (), manager) == load_recipe("base.yaml", ["head.num_draws=6"], manager)


def test_plan_of_a_run_folder_is_the_plan_of_its_recipe(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calmkit.registry.make_manager", lambda: make_manager(guests=[]))
    small = ["stages.lm.max_steps=7", "stages.lm.batch_size=2"]
    run_folder = trained(folder)
    (run_folder / "resolved.yaml").write_text(run("show", "tiny/energy", *small).stdout)
    there = run("plan", str(run_folder), "--json", "trainer.devices=2")
    assert there.exit_code == 0, there.stderr
    assert there.stdout == run("plan", "tiny/energy", "--json", *small, "trainer.devices=2").stdout
    assert json.loads(there.stdout)["stages"]["lm"]["steps"] == 7


def test_show_a_part() -> None:
    result = run("show", "heads/narrow")
    assert result.exit_code == 0
    assert result.stdout == (
        "heads/narrow, from fakes\n\nHonours num_steps; shares num_targets with the wide head.\n\n"
        "Facts: a draw is iterative; no temperature of its own; takes continuous events; honours generator, "
        "num_steps of a draw; is called in float32.\n\n"
        "setting\ttype\tdefault\nnum_targets\ta whole number\t8\nnum_steps\ta whole number\t10\n"
        "label\t'flow'\tflow\n"
    )


def test_an_unknown_part_is_usage() -> None:
    result = run("show", "heads/narow")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: No part 'narow' among the heads. Did you mean 'narrow'? There are: ids, narrow, wide.\n"
    )


def test_ls_is_tab_separated_lines_outside_a_terminal() -> None:
    assert run("ls", "heads").stdout == (
        "name\tplugin\tsummary\nids\tfakes\tTakes ids.\n"
        "narrow\tfakes\tHonours num_steps; shares num_targets with the wide head.\n"
        "wide\tfakes\tHonours no option; takes settings of every type.\n"
    )
    lines = [line.split("\t") for line in run("ls").stdout.splitlines()]
    assert all(len(line) == 3 for line in lines)
    assert ["recipes", "tiny/energy", "Energy head on K=4 latents, a laptop CPU."] in lines
    assert ["corpora", "constant", "Two documents."] in lines


def test_ls_json() -> None:
    assert json.loads(run("ls", "samplers", "--json").stdout) == [
        {"name": "direct", "plugin": "fakes", "summary": "One draw."},
        {"name": "vote", "plugin": "fakes", "summary": "Many draws."},
    ]
    kinds = [
        "recipes",
        "heads",
        "autoencoders",
        "embedders",
        "backbones",
        "samplers",
        "tokenizers",
        "corpora",
        "launchers",
    ]
    assert list(json.loads(run("ls", "--json").stdout)) == [*kinds, "plugins", "runs"]


def test_ls_names_what_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = fake_manager()
    manager.rejected.append(Rejected("guest 1.0", "ImportError: no module named 'x'"))
    monkeypatch.setattr("calmkit.registry.make_manager", lambda: manager)
    rows = [line.split("\t") for line in run("ls", "plugins").stdout.splitlines()]
    assert rows[-1] == ["guest 1.0", "left out", "ImportError: no module named 'x'"]
    assert run("ls", "heads").stderr == "left out: guest 1.0: ImportError: no module named 'x'\n"
    wrong = run("validate", "base.yaml", "head=laplace")
    assert "  left out: guest 1.0: ImportError: no module named 'x'\n" in wrong.stderr


def test_ls_runs(folder: Path) -> None:
    assert run("ls", "runs").stdout == "name\n"
    trained(folder)
    assert run("ls", "runs").stdout == "name\trecipe\tdescription\nruns/base/1\tbase\ta base\n"


def test_train_hands_the_recipe_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def train(recipe: Any, *, out: Any, say: Any, manager: Any) -> None:
        given.update(name=recipe.name, steps=recipe.stages.lm.max_steps, out=out)
        say("step 1")

    stub(monkeypatch, "calmkit.training.train", train=train)
    result = run("train", "base.yaml", "stages.lm.max_steps=9", "--out", "here")
    assert (result.exit_code, result.stdout) == (0, "step 1\n")
    assert given == {"name": "base", "steps": 9, "out": Path("here")}


def test_train_refuses_before_anything_heavy_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, "calmkit.training.train")  # importing `train` from it would fail
    result = run("train", "base.yaml", "data.sequence_length=3", "head=ids")
    assert result.exit_code == 2
    assert [line[:12] for line in result.stderr.splitlines() if line.startswith("error")] == [
        "error[CK140]",
        "error[CK141]",
    ]


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Result:
    def train(*args: Any, **kwargs: Any) -> None:
        raise error

    stub(monkeypatch, "calmkit.training.train", train=train)
    return run("train", "base.yaml")


def test_exit_codes_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    class RunFailed(Exception):
        pass

    stub(monkeypatch, "calmkit.training.errors", RunFailed=RunFailed)
    failed = failing(monkeypatch, RunFailed("loss became nan\n  kept: runs/x"))
    assert (failed.exit_code, failed.stderr) == (1, "error: loss became nan\n  kept: runs/x\n")
    interrupted = failing(monkeypatch, KeyboardInterrupt())
    assert (interrupted.exit_code, interrupted.stderr) == (130, "interrupted\n")
    internal = failing(monkeypatch, ZeroDivisionError("a\nb"))
    assert (internal.exit_code, internal.stderr) == (
        1,
        "internal error: ZeroDivisionError: a (--debug shows the traceback)\n",
    )


def test_a_failure_in_a_guest_is_a_plugin_error(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("guest_room.head")
    exec("def loss(): raise ZeroDivisionError('in the guest')", module.__dict__)

    class EntryPoint:
        module = "guest_room.head"
        dist = types.SimpleNamespace(name="guest", version="1.0")

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [EntryPoint()])
    stub(monkeypatch, "calmkit.training.train", train=lambda *args, **kwargs: module.loss())
    result = run("train", "base.yaml")
    assert result.exit_code == 3
    assert result.stderr == (
        "plugin error: guest 1.0: ZeroDivisionError: in the guest (--debug shows the traceback)\n"
    )


def test_eval(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def evaluate(run: Path, overrides: tuple[str, ...], note: Callable[[str], None]) -> dict[str, Any]:
        given.append((run, overrides))
        note("written elsewhere")
        return {"brier_lm": 1.23456789, "units": 12}

    stub(monkeypatch, "calmkit.training.evaluate", evaluate=evaluate)
    run_folder = trained(folder)
    assert (
        run("eval", str(run_folder), "evaluation.draws=8").stdout
        == "measure\tvalue\nbrier_lm\t1.23457\nunits\t12\n"
    )
    assert given == [(run_folder, ("evaluation.draws=8",))]
    assert run("eval", str(run_folder)).stderr == "written elsewhere\n"
    assert json.loads(run("eval", str(run_folder), "--json").stdout) == {"brier_lm": 1.23456789, "units": 12}
    refused = run("eval", str(run_folder), "head=narrow")
    assert refused.exit_code == 2
    assert (
        "a trained run takes overrides of evaluation, sampler, data, trainer only, got 'head=narrow'"
        in refused.stderr
    )


def test_generate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Head(IterativeHead):
        info = HeadInfo(sampling="iterative", options=frozenset({"num_steps"}))

        def loss(self, context: Context, target: Posterior) -> torch.Tensor:
            raise NotImplementedError

        def sample(
            self, context: Context, num: int = 1, options: SampleOptions | None = None
        ) -> torch.Tensor:
            raise NotImplementedError

        def network_calls(self, options: SampleOptions | None = None) -> int | None:
            if options is not None and options.num_steps == 9:
                raise ValueError("narrow: num_steps got 9; 8 would do.")
            return 8

    class Model:
        model = types.SimpleNamespace(head=Head())

        def stream(
            self, prompt: str, *, max_tokens: int, seed: int, sampler: Any, on_unit: Callable[[Unit], None]
        ) -> Iterator[str]:
            for unit in units:
                on_unit(unit)
            yield from (prompt, f"{max_tokens}", f"{seed}", type(sampler).__name__)

    def unit(draws: int, level: float) -> Unit:
        return Unit(
            torch.zeros(1, 4).long(), torch.tensor([False]), torch.tensor([draws]), torch.tensor([level])
        )

    units = [unit(1, 1.0), unit(1, 1.0)]
    stub(monkeypatch, "calmkit.training.run", load_run=lambda run: Model())
    run_folder = str(trained(folder))
    plain = run("generate", run_folder, "-p", "ab", "--seed", "3", "--max-tokens", "5")
    assert (plain.exit_code, plain.stdout) == (0, "ab53NoneType\n")
    assert "sampler: " not in plain.stderr  # one plain draw per unit: nothing to say
    units = [unit(50, 2.0), unit(50, 1.0), unit(200, math.nan)]
    counted = run("generate", run_folder)
    assert counted.stdout == "2560NoneType\n"
    assert counted.stderr.splitlines()[-1] == (
        "sampler: 3 units, 100.0 draws each; level 2: 1 unit, level 1: 1 unit; "
        "1 unit fell back: the law asked for was not reached"
    )
    other = run("generate", run_folder, "sampler=direct", "sampler.head_temperature=null")
    assert (other.exit_code, other.stdout) == (0, "2560DirectSampler\n")
    assert run("generate", run_folder, "sampler=direct").exit_code == 2  # the head honours no temperature
    stepped = ["head=narrow", "sampler=direct", "sampler.head_temperature=null"]
    resolved = run("show", "base.yaml", *stepped).stdout
    (Path(run_folder) / "resolved.yaml").write_text(resolved)
    assert run("generate", run_folder, "sampler.num_steps=8").stdout == "2560DirectSampler\n"
    refused = run("generate", run_folder, "sampler.num_steps=9")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert (
        "can't do: num_steps got 9; 8 would do.\n  --> command line (sampler.num_steps=9)" in refused.stderr
    )
    nowhere = run("generate", "nowhere")
    assert nowhere.exit_code == 2
    assert (
        "'nowhere' is no run folder: it has no resolved.yaml. 'calmkit ls runs' lists runs." in nowhere.stderr
    )


def test_study_run(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def run_study(name: str, *, overrides: Sequence[str], out: Path | None, say: Any) -> None:
        given.append((name, *overrides, out))
        say("done")

    stub(monkeypatch, "calmkit.studies.run", run_study=run_study)
    assert run("study", "run", "quickstart", "data=text", "seed=2", "--out", "x").stdout == "done\n"
    assert given == [("quickstart", "data=text", "seed=2", Path("x"))]


@pytest.mark.parametrize(
    "words", [["nonsense"], ["ls", "nonsense"], ["train"], ["generate", "x", "--max-tokens", "0"]]
)
def test_wrong_usage(words: list[str]) -> None:
    assert run(*words).exit_code == 2
