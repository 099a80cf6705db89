"""What a recipe needs of the machine is looked for first, and without loading anything heavy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import pytest
import torch
from small_runs import SHORT, small_recipe, small_run, workshop

from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import (
    Context,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    HeldOut,
    HeldOutMeasure,
    MeasureInfo,
    NeedsLibraries,
    Number,
    Posterior,
    SampleOptions,
)
from calmkit.recipe.assemble import validate
from calmkit.recipe.errors import Problem, RecipeError
from calmkit.recipe.load import load_recipe
from calmkit.registry import Manager, Part, make_manager
from calmkit.text.corpora.text import TextCorpus
from calmkit.training import cores, environment
from calmkit.training.environment import check_environment
from calmkit.training.libraries import is_installed
from calmkit.training.logger_needs import LIBRARIES


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv(cores.ALLOW_MORE, raising=False)
    monkeypatch.setattr(environment, "usable_cores", lambda: 2)
    has(monkeypatch)
    with workshop(tmp_path):
        yield tmp_path


def has(monkeypatch: pytest.MonkeyPatch, kind: str = "cpu", count: int = 0) -> None:
    """A machine with that many accelerators of a kind."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    monkeypatch.setattr(environment, "is_installed", lambda module: module not in modules)


def problems(folder: Path, *overrides: str, manager: Manager | None = None) -> tuple[Problem, ...]:
    manager = manager or make_manager()
    recipe = small_recipe(folder, *overrides, manager=manager)
    model = validate(recipe, manager)
    try:
        check_environment(recipe, manager, model)
    except RecipeError as error:
        return tuple(problem for problem in error.problems if problem.code == "CK150")
    return ()


def told(folder: Path, *overrides: str) -> list[tuple[str, str]]:
    return [(problem.key, problem.message) for problem in problems(folder, *overrides)]


def test_a_recipe_of_this_machine_is_taken(folder: Path) -> None:
    assert problems(folder) == ()
    assert problems(folder, "trainer.accelerator=auto", "trainer.devices=auto", "loggers=[]") == ()


@pytest.mark.parametrize(
    ("name", "module"), [*((name, name) for name in LIBRARIES), ("mlflow", "sqlalchemy")]
)
def test_a_logger_without_its_library_is_told_with_place_and_cure(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    without(monkeypatch, module)
    text = (folder / "small.yaml").read_text()
    (folder / "small.yaml").write_text(f"{text}loggers: [csv, {name}]\n")
    (problem,) = problems(folder)
    told = f"the logger '{name}' needs '{module}', which is not installed"
    line = len(text.splitlines()) + 1
    assert str(problem).startswith(
        f"error[CK150]: {told}\n  --> {folder}/small.yaml:{line}:1  (loggers)\n"
        f"  help: pip install 'calmkit[{name}]', or leave it out"
    )
    assert problem.help.endswith("calmkit validate --elsewhere checks the recipe alone")


def test_wandb_online_that_nobody_set_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch)
    online = "loggers=[{name: wandb, offline: false}]"
    monkeypatch.setattr(environment, "wandb_is_set_up", lambda: False)
    (problem,) = problems(folder, online)
    assert problem.help.startswith("wandb login, or offline: true, which is its default")
    assert problems(folder, "loggers=[wandb]") == ()
    monkeypatch.setattr(environment, "wandb_is_set_up", lambda: True)
    assert problems(folder, online) == ()


def test_libraries_of_parts_are_looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "datasets", "huggingface_hub")
    hub = ["data=hub", "data.dataset=a/b", "tokenizer=hub", "tokenizer.id=a/b", "tokenizer.vocab_size=300"]
    assert told(folder, *hub) == [
        ("data.name", "corpus 'hub' needs 'datasets', which is not installed"),
        ("tokenizer.name", "tokenizer 'hub' needs 'huggingface_hub', which is not installed"),
    ]
    without(monkeypatch)
    assert told(folder, *hub) == []


@final
class NeedyHead(GenerativeHead, NeedsLibraries):
    """A guest that works with a library of its own."""

    info = HeadInfo(sampling="one_step")

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__()
        self.inner = RegressionHead(hidden_dim, event)

    def libraries(self) -> Mapping[str, str]:
        return {"abacus": "pip install abacus"}

    def loss(self, context: Context, target: Posterior) -> torch.Tensor:
        return self.inner.loss(context, target)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> torch.Tensor:
        return self.inner.sample(context, num, options)


class NeedyMeasure(HeldOutMeasure, NeedsLibraries):
    """A metric that works with a library of its own."""

    info = MeasureInfo(Number("needy", better="lower", meaning="Nothing."))

    def libraries(self) -> Mapping[str, str]:
        return {"abacus": "pip install abacus"}

    def metric(self) -> Any:
        raise AssertionError("never called")

    def update(self, metric: Any, held: HeldOut) -> None:
        raise AssertionError("never called")


def test_a_metric_says_what_it_needs_before_anything_is_trained(folder: Path) -> None:
    manager = make_manager()
    manager.parts["metrics"]["needy"] = Part("metrics", "needy", NeedyMeasure, "a guest")
    (problem,) = problems(folder, "evaluation.metrics=[needy]", manager=manager)
    assert problem.key == "evaluation.metrics"
    assert problem.message == "metric 'needy' needs 'abacus', which is not installed"
    assert problem.help.startswith("pip install abacus; ")


def test_a_guest_of_any_kind_can_say_what_it_needs(folder: Path) -> None:
    manager = make_manager()
    manager.parts["heads"]["needy"] = Part("heads", "needy", NeedyHead, "a guest")
    (problem,) = problems(folder, "head=needy", manager=manager)
    assert problem.message == "head 'needy' needs 'abacus', which is not installed"
    assert problem.help.startswith("pip install abacus; ")


def test_a_mere_folder_is_no_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "wandb_of_a_test").mkdir()
    monkeypatch.syspath_prepend(str(folder))
    assert not is_installed("wandb_of_a_test")
    (folder / "wandb_of_a_test" / "__init__.py").touch()
    import importlib

    importlib.invalidate_caches()
    assert is_installed("wandb_of_a_test")
    assert "wandb_of_a_test" not in sys.modules


NONE, FOUR = ("cpu", 0), ("cuda", 4)


@pytest.mark.parametrize(
    ("machine", "accelerator", "devices", "key", "said"),
    [
        (NONE, "gpu", "1", "accelerator", "trainer.accelerator=gpu is not on this machine, which has: cpu"),
        (NONE, "cuda", "1", "accelerator", "trainer.accelerator=cuda is not on this machine"),
        (FOUR, "mps", "1", "accelerator", "trainer.accelerator=mps is not on this machine, which has: cuda"),
        (NONE, "auto", "3", "devices", "trainer.devices=3 would start 3 processes on 2 usable cores"),
        (NONE, "cpu", "0,1", "devices", "trainer.devices=0,1 picks accelerators; the CPU takes a number"),
        (NONE, "cpu", "-1", "devices", "trainer.devices=-1 picks accelerators"),
        (FOUR, "cpu", "3", "devices", "trainer.devices=3 would start 3 processes on 2 usable cores"),
        (FOUR, "auto", "5", "devices", "trainer.devices=5 asks for more than the 4 of this machine (cuda)"),
        (FOUR, "gpu", "0,4", "devices", "trainer.devices=0,4 asks for more than the 4"),
    ],
)
def test_devices_that_are_not_here(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    machine: tuple[str, int],
    accelerator: str,
    devices: str,
    key: str,
    said: str,
) -> None:
    has(monkeypatch, *machine)
    ((found, message),) = told(folder, f"trainer.accelerator={accelerator}", f"trainer.devices={devices}")
    assert found == f"trainer.{key}"
    assert message.startswith(said)


@pytest.mark.parametrize(
    ("machine", "accelerator", "devices"),
    [
        (NONE, "auto", "auto"), (NONE, "cpu", "2"), (FOUR, "auto", "4"), (FOUR, "gpu", "-1"),
        (FOUR, "cuda", "0,3"), (FOUR, "gpu", "3,"), (FOUR, "cpu", "2"), (("mps", 1), "gpu", "1"),
        (("xpu", 2), "auto", "2"),
    ],
)  # fmt: skip
def test_devices_that_are_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch, machine: tuple[str, int], accelerator: str, devices: str
) -> None:
    has(monkeypatch, *machine)
    assert told(folder, f"trainer.accelerator={accelerator}", f"trainer.devices={devices}") == []


def test_the_environment_allows_more_processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cores.ALLOW_MORE, "1")
    assert told(folder, "trainer.devices=3") == []


@pytest.mark.parametrize("setting", ["accelerator=abacus", "strategy=deepest"])
def test_what_only_lightning_knows_it_is_asked(folder: Path, setting: str) -> None:
    ((key, message),) = told(folder, f"trainer.{setting}")
    assert key == f"trainer.{setting.partition('=')[0]}"
    assert message.startswith("Lightning refuses the section trainer (")
    assert "\n" not in message


def test_all_that_is_missing_is_told_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "wandb")
    assert [key for key, _ in told(folder, "loggers=[wandb]", "trainer.accelerator=gpu")] == [
        "loggers",
        "trainer.accelerator",
    ]


def test_training_looks_before_it_reads_a_document_or_makes_a_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: TextCorpus, *words: Any) -> Iterator[str]:
        raise AssertionError("a document was read")

    monkeypatch.setattr(TextCorpus, "documents", read)
    monkeypatch.setattr(TextCorpus, "identity", read)
    without(monkeypatch, "wandb")
    for missing in ("loggers=[csv, wandb]", "trainer.devices=64", "trainer.strategy=deepest"):
        with pytest.raises(RecipeError, match="CK150"):
            small_run(folder, "run", missing, *SHORT)
    assert not (folder / "run").exists()
    assert not (folder / "cache").exists()
    monkeypatch.undo()
    with workshop(folder):
        assert small_run(folder, "run", *SHORT).evaluation


def test_a_plain_recipe_is_validated_without_lightning() -> None:
    code = (
        "import sys; from calmkit.cli.main import cli; "
        "cli(['validate', 'tiny/energy', 'trainer.devices=1'], standalone_mode=False); "
        "sys.exit('lightning' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["paper/calm-m", "paper/calm-l-k8", "paper/transformer-s"])
def test_a_recipe_for_a_cluster_is_valid_elsewhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = make_manager()
    recipe = load_recipe(name, (), manager)
    without(monkeypatch, "datasets")
    with pytest.raises(
        RecipeError, match=r"CK150.*trainer\.accelerator=gpu is not on this machine"
    ) as caught:
        check_environment(recipe, manager, validate(recipe, manager, elsewhere=True))
    assert {problem.key for problem in caught.value.problems} == {"data.name", "trainer.accelerator"}
