"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import importlib.metadata
import inspect
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
from calmkit.cli.parts import setting_rows
from calmkit.generation import Unit
from calmkit.interfaces import (
    Context,
    DensityHead,
    Front,
    HeadInfo,
    HeldOutMeasure,
    IterativeHead,
    MeasureInfo,
    Number,
    Posterior,
    SampleOptions,
)
from calmkit.recipe.assemble import build_sampler
from calmkit.recipe.documented import arguments
from calmkit.recipe.load import load_recipe
from calmkit.registry import KINDS, Kind, Manager, Part, Rejected, make_manager
from calmkit.studies.display import Display
from calmkit.training.resume import Wishes
from calmkit.training.standing import read_standing


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
        "calibrate",
        "compare",
        "cp",
        "diff",
        "docs",
        "eval",
        "explain",
        "export",
        "generate",
        "import",
        "lm-eval",
        "ls",
        "plan",
        "reproduce",
        "resume-check",
        "schema",
        "show",
        "study",
        "train",
        "validate",
    ]
    assert [line.split()[0] for line in done.stdout.partition("Commands:\n")[2].splitlines()] == verbs


def test_the_package_is_run_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "calmkit", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Usage: calmkit ")


def test_validate() -> None:
    result = run("validate", "base.yaml", "head=narrow")
    assert result.exit_code == 0
    assert result.stdout == (
        "base: ok\n  autoencoder: 30 parameters\n  embedder: 40 parameters\n  backbone: 144 parameters\n"
        "  head: 54 parameters\n  all: 268 parameters\n"
    )
    assert result.stderr == "note: head: wide -> narrow; keeps num_targets=7; drops num_draws=5\n"


def test_validate_looks_at_this_machine_and_elsewhere_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calmkit.training.environment.is_installed", lambda module: False)
    wandb = run("validate", "base.yaml", "loggers=[csv, wandb]")
    assert (wandb.exit_code, wandb.stdout) == (2, "")
    assert wandb.stderr == (
        "error[CK150]: the logger 'wandb' needs 'wandb', which is not installed\n"
        "  --> command line (loggers=[csv, wandb])\n"
        "  help: pip install 'calmkit[wandb]', or leave it out; for another machine, "
        "calmkit validate --elsewhere checks the recipe alone\n"
    )
    many = ["trainer.devices=99999", "stages.lm.init_from=there/run"]
    assert run("validate", "base.yaml", "trainer.devices=99999").exit_code == 2
    assert run("validate", "base.yaml", many[1]).exit_code == 2
    for words in (["loggers=[wandb]"], many):
        elsewhere = run("validate", "--elsewhere", "base.yaml", *words)
        assert (elsewhere.exit_code, elsewhere.stdout.splitlines()[0]) == (0, "base: ok")
    assert run("validate", "--elsewhere", "base.yaml", "head.num_drawz=3").exit_code == 2


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
        "num_steps of a draw; can't be guided; is called in float32.\n\n"
        "setting\ttype\tdefault\tmeaning\nnum_targets\ta whole number\t8\t\n"
        "num_steps\ta whole number\t10\t\nlabel\t'flow'\tflow\t\n"
    )


def test_show_a_part_by_its_name_alone() -> None:
    assert run("show", "narrow").stdout == run("show", "heads/narrow").stdout
    both = run("show", "tokens")
    assert (both.exit_code, both.stdout) == (0, run("show", "embedders/tokens").stdout)


def test_a_name_of_several_kinds_shows_them_all() -> None:
    result = run("show", "plain")
    assert result.exit_code == 0
    headings = [line for line in result.stdout.splitlines() if line.endswith(", from fakes")]
    kinds = ("autoencoders", "backbones", "tokenizers")
    assert headings == [f"{kind}/plain, from fakes" for kind in kinds]
    assert result.stdout == "\n".join(run("show", f"{kind}/plain").stdout for kind in kinds)


def test_the_meaning_of_a_setting_is_what_the_docstring_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calmkit.registry.make_manager", lambda: make_manager(guests=[]))
    file = run("show", "file").stdout
    assert file.startswith(
        "tokenizers/file, from calmkit.text.tokenizers.file\n\nA tokenizer.json of your own."
    )
    assert "path\ta text\t(required)\tThe file, or the folder it is in.\n" in file
    assert "Args:" not in file
    assert "Raises:\n" in file
    settings = [
        (f"{kind}/{name}", row)
        for kind, parts in make_manager(guests=[]).parts.items()
        for name, part in parts.items()
        for row in setting_rows(part)
    ]
    assert len(settings) > 100
    assert [(part, row["setting"]) for part, row in settings if not row["meaning"]] == []


def test_arguments_of_a_docstring_by_hand() -> None:
    doc = """One line.

    Args:
        first: One line,
            and another: with a colon.
        second (int): In brackets.

        *third: After a gap.

    Raises:
        ValueError: No argument.
    """
    assert arguments(inspect.cleandoc(doc)) == {
        "first": "One line, and another: with a colon.",
        "second": "In brackets.",
        "third": "After a gap.",
    }
    assert arguments("One line.") == {}


def test_show_a_kind() -> None:
    assert run("show", "heads").stdout == run("ls", "heads").stdout
    for kind in KINDS:
        assert run("show", kind).exit_code == 0


def test_a_kind_that_is_new_is_listed_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        """Tells the time.

        Args:
            hands: How many.
        """

        def __init__(self, *, hands: int = 2) -> None:
            del hands

    manager = fake_manager()
    manager.parts["clocks"] = {"wall": Part("clocks", "wall", Clock, "fakes")}
    monkeypatch.setattr("calmkit.registry.make_manager", lambda: manager)
    kinds = {**KINDS, "clocks": Kind(Clock)}
    monkeypatch.setattr("calmkit.registry.KINDS", kinds)
    monkeypatch.setattr("calmkit.cli.parts.KINDS", kinds)
    assert run("ls", "clocks").stdout == run("show", "clocks").stdout
    assert run("show", "clocks").stdout == "name\tplugin\tsummary\nwall\tfakes\tTells the time.\n"
    assert run("show", "wall").stdout.endswith("hands\ta whole number\t2\tHow many.\n")
    assert "clocks" in run("ls", "nonsense").stderr


@pytest.mark.parametrize(
    ("target", "meant"),
    [("narow", "narrow"), ("tokenizer", "tokenizers"), ("tiny/enrgy", "tiny/energy"),
     ("head/wide", "heads/wide"), ("quickstart", "studies/quickstart")],
)  # fmt: skip
def test_an_unknown_name_is_usage_with_what_was_meant(target: str, meant: str) -> None:
    result = run("show", target)
    assert result.exit_code == 2
    assert f"'{target}' is no recipe, run folder, part or kind of part. Did you mean " in result.stderr
    assert meant in result.stderr.partition("Did you mean ")[2].partition("?")[0].split(" or ")


@pytest.mark.parametrize("target", ["heads", "narrow", "heads/narrow"])
def test_only_a_recipe_takes_overrides(target: str) -> None:
    result = run("show", target, "head.num_steps=3")
    assert result.exit_code == 2
    assert "only a recipe takes overrides, got head.num_steps=3" in result.stderr


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
    assert list(json.loads(run("ls", "--json").stdout)) == ["recipes", *KINDS, "plugins", "runs"]


def test_ls_metrics_says_which_way_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calmkit.registry.make_manager", lambda: make_manager([]))
    rows = [line.split("\t") for line in run("ls", "metrics").stdout.splitlines()]
    assert rows[0] == ["name", "plugin", "summary", "numbers"]
    nll = next(row for row in rows if row[0] == "nll")
    assert nll[3] == "nll_per_token (lower), nll_bound_per_token (lower)"
    brier = next(row for row in rows if row[0] == "brier")
    assert "brier_lm (higher), brier_1 (higher)" in brier[3]


def test_show_metrics_tells_numbers_and_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nats(HeldOutMeasure):
        """Minus the log density."""

        number = Number("density", better="lower", unit="nats", meaning="Minus the log density.")
        info = MeasureInfo({"": number, "low": number}, (DensityHead,), frozenset({"continuous"}))

    manager = make_manager([])
    manager.parts["metrics"]["nats"] = Part("metrics", "nats", Nats, "a guest")
    monkeypatch.setattr("calmkit.registry.make_manager", lambda: manager)
    assert run("show", "metrics").stdout == run("ls", "metrics").stdout
    assert run("show", "metrics").stdout.splitlines()[0] == "name\tplugin\tsummary\tnumbers"
    words = "density, nats, lower is better"
    facts = f"Facts: nats is {words}; nats_low is {words}; needs a DensityHead; is of continuous events; "
    assert facts + "evaluation.metrics=[nats] asks for it." in run("show", "metrics/nats").stdout
    told = run("show", "metrics/brier").stdout
    assert "Facts: brier_lm is BrierLM, higher is better; brier_1 is Brier-1 %, higher is better; " in told
    assert "; in every evaluation where it is known." in told


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

    def train(recipe: Any, *, out: Any, say: Any, standing: Any, wishes: Any, resume: Any, **_: Any) -> None:
        assert (wishes, resume) == (Wishes(), False)
        given.update(name=recipe.name, steps=recipe.stages.lm.max_steps, out=out, standing=standing.path)
        say("step 1")

    stub(monkeypatch, "calmkit.training.train", train=train)
    result = run("train", "base.yaml", "stages.lm.max_steps=9", "--out", "here", "--progress", "p.json")
    first, *rest = result.stdout.splitlines()
    assert (result.exit_code, rest) == (0, ["step 1"])
    assert first.startswith("reading base.yaml")  # before anything slow is loaded
    assert given == {"name": "base", "steps": 9, "out": Path("here"), "standing": Path("p.json")}
    found = read_standing(folder / "p.json")
    assert found is not None
    assert found.phase == "starting"


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

    def evaluate(
        run: Path, overrides: tuple[str, ...], note: Callable[[str], None], progress: Any
    ) -> dict[str, Any]:
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
    assert run("eval", str(run_folder)).stderr.splitlines()[1:] == ["written elsewhere"]
    assert json.loads(run("eval", str(run_folder), "--json").stdout) == {"brier_lm": 1.23456789, "units": 12}
    scores = {"brier_lm": 1.0, "protocol": {"name": "rows8-tokens64", "max_rows": 8}}
    stub(monkeypatch, "calmkit.training.evaluate", evaluate=lambda *args, **kwargs: scores)
    assert run("eval", str(run_folder)).stdout == "measure\tvalue\nbrier_lm\t1\nprotocol\trows8-tokens64\n"
    assert json.loads(run("eval", str(run_folder), "--json").stdout) == scores  # the whole protocol
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

    class Model(Front):
        def __init__(self, sampler: Any) -> None:
            self.model, self.sampler = types.SimpleNamespace(head=Head()), sampler

        def stream(
            self, prompt: str, *, max_tokens: int, seed: int, on_unit: Callable[[Unit], None], border: str
        ) -> Iterator[str]:
            for unit in units:
                on_unit(unit)
            yield from (prompt, f"{max_tokens}", f"{seed}", type(self.sampler).__name__)

    def unit(draws: int, level: float) -> Unit:
        return Unit(
            torch.zeros(1, 4).long(), torch.tensor([False]), torch.tensor([draws]), torch.tensor([level])
        )

    def load(run: Path, manager: Manager, overrides: Sequence[str], *, device: str, precision: str) -> Model:
        loaded.append((device, precision))
        recipe = load_recipe(str(run / "resolved.yaml"), overrides, manager)
        return Model(build_sampler(recipe, manager, Head()) if overrides else None)

    loaded: list[tuple[str, str]] = []
    units = [unit(1, 1.0), unit(1, 1.0)]
    stub(monkeypatch, "calmkit.training.run", load_run=load)
    run_folder = str(trained(folder))
    plain = run("generate", run_folder, "-p", "ab", "--seed", "3", "--max-tokens", "5")
    assert (plain.exit_code, plain.stdout) == (0, "ab53NoneType\n")
    assert run("generate", run_folder, "--device", "cpu", "--precision", "bf16").exit_code == 0
    assert loaded == [("auto", "auto"), ("cpu", "bf16")]
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


@pytest.mark.parametrize(
    ("device", "said"),
    [("gpu", "Nobody knows a device 'gpu'."), ("cuda:7", "no device 'cuda:7'. It has: cpu")],
)
def test_generate_refuses_a_device_before_it_reads_a_weight(
    folder: Path, monkeypatch: pytest.MonkeyPatch, device: str, said: str
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    stub(monkeypatch, "calmkit.training.run")  # importing from it would fail
    refused = run("generate", str(trained(folder)), "--device", device)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert said in refused.stderr


def test_study_run(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def run_study(name: str, *, overrides: Sequence[str], out: Path | None, display: Display) -> None:
        given.append((name, *overrides, out))
        display.say("done")

    stub(monkeypatch, "calmkit.studies.run", run_study=run_study)
    first, *rest = run("study", "run", "quickstart", "data=text", "seed=2", "--out", "x").stdout.splitlines()
    assert first.startswith("reading quickstart; ")  # before anything slow is loaded
    assert rest == ["done"]
    assert given == [("quickstart", "data=text", "seed=2", Path("x"))]


@pytest.mark.parametrize(
    "words", [["nonsense"], ["ls", "nonsense"], ["train"], ["generate", "x", "--max-tokens", "0"]]
)
def test_wrong_usage(words: list[str]) -> None:
    assert run(*words).exit_code == 2
