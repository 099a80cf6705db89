"""Run folders: made once, agreed on, read back or refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from small_runs import SHORT, small_recipe, small_run, workshop

from calmkit.recipe.schema import Gate
from calmkit.registry import make_manager
from calmkit.training import new_run as run_module
from calmkit.training.errors import GateMissed, RunFailed
from calmkit.training.lineage import check_gate, check_lineage
from calmkit.training.lock import git_state, write_lock
from calmkit.training.new_run import RUN_FOLDER_OF_RANK_ZERO, agreed_folder, claim_folder, new_run
from calmkit.training.run import Run, load_run
from calmkit.training.run_folder import held, holds_work


@pytest.fixture(autouse=True)
def float32() -> None:
    """As users have it; `conftest.py` puts the default back."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("runs")) as folder:
        yield folder


@pytest.fixture(scope="module")
def autoencoder_only(folder: Path) -> Run:
    return small_run(folder, "autoencoder", SHORT[0], "stages.lm=null")


@pytest.fixture(autouse=True)
def no_folder_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_FOLDER_OF_RANK_ZERO, "")
    monkeypatch.delenv(RUN_FOLDER_OF_RANK_ZERO)


def test_a_second_run_of_the_same_second_gets_a_folder_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("time.strftime", lambda form: "20260101-000000")
    recipe = small_recipe(folder)
    first, second = new_run(recipe, "written", "resolved", None), new_run(recipe, "b", "b", None)
    assert str(first.folder) == "runs/small/20260101-000000"
    assert str(second.folder) == "runs/small/20260101-000000-2"
    assert (first.folder / "recipe.yaml").read_text() == "written"
    assert (first.folder / "resolved.yaml").read_text() == "resolved"


def test_nobody_else_gets_a_claimed_folder(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def claim(_: int) -> list[Path]:
        together.wait()
        return [claim_folder(tmp_path / "runs" / "x") for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        claimed = [path.name for paths in pool.map(claim, range(8)) for path in paths]
    assert sorted(claimed) == sorted(["x", *(f"x-{number}" for number in range(2, 161))])


def test_a_folder_that_cannot_be_claimed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for parent in ("file", "link"):
        with pytest.raises(RunFailed, match=rf"{parent}/x could not be written .*--out"):
            claim_folder(tmp_path / parent / "x")


KEPT = (
    "metrics.csv",
    "checkpoints/lm/step-00000005.json",
    "model/model.safetensors",
    "evaluation.json",
    "latents.json",
    "samples.txt",
)


@pytest.mark.parametrize("kept", KEPT)
def test_a_folder_that_holds_a_run_is_not_written_over(tmp_path: Path, folder: Path, kept: str) -> None:
    recipe, run = small_recipe(folder), tmp_path / "x"
    new_run(recipe, "a", "a", run)
    (run / kept).parent.mkdir(parents=True, exist_ok=True)
    (run / kept).touch()
    with pytest.raises(RunFailed, match=f"{tmp_path}/x already holds a run; .*--out"):
        new_run(recipe, "b", "b", run)
    assert (run / "recipe.yaml").read_text() == "a"


def test_a_folder_in_which_nothing_was_trained_is_no_run(tmp_path: Path, folder: Path) -> None:
    """What a start leaves that was killed before its first step, or while it wrote its first file."""
    recipe, run = small_recipe(folder), tmp_path / "x"
    write_lock(new_run(recipe, "a", "a", run), recipe, "abc")
    (run / "checkpoints" / "lm").mkdir(parents=True)
    (run / "wandb").mkdir()
    (run / "wandb" / "debug.log").touch()
    (run / "model").mkdir()
    (run / "model" / ".model.safetensors.12.tmp").touch()
    assert not holds_work(run)
    new_run(recipe, "b", "c", run)
    assert [(run / name).read_text() for name in ("recipe.yaml", "resolved.yaml")] == ["b", "c"]
    assert not (run / "lock.yaml").exists()  # it told of the first start


def test_two_processes_never_fill_one_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from calmkit.training.run_folder import held\n"
        "with held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "x")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(RunFailed, match=f"{tmp_path}/x is being filled by another .*--out"),
            held(tmp_path / "x"),
        ):
            pass
    finally:
        other.kill()  # as hard as can be: nothing of it is left to keep anybody out
        other.communicate()
    with held(tmp_path / "x"):
        pass


def test_a_folder_that_cannot_be_held(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(RunFailed, match=r"file/x could not be written .*--out"),
        held(tmp_path / "file" / "x"),
    ):
        pass


def test_other_processes_take_the_folder_of_rank_zero(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert agreed_folder(lambda: Path("mine"), "FOLDER_IN_A_TEST") == Path("mine")
    monkeypatch.setattr(run_module, "is_rank_zero", lambda: False)
    monkeypatch.setenv("FOLDER_IN_A_TEST", os.environ["FOLDER_IN_A_TEST"])  # as a started process inherits it
    assert agreed_folder(lambda: Path("another"), "FOLDER_IN_A_TEST") == Path("mine")
    monkeypatch.delenv("FOLDER_IN_A_TEST")
    with pytest.raises(RunFailed, match="can't agree on a folder; name it with --out"):
        agreed_folder(lambda: Path("another"), "FOLDER_IN_A_TEST")
    recipe = small_recipe(folder)
    assert new_run(recipe, "a", "a", tmp_path / "given").folder == tmp_path / "given"
    assert not (tmp_path / "given").exists()


def test_later_runs_are_agreed_on_over_the_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a started process names the first run's folder for ever."""

    def broadcast(values: list[str | None], src: int) -> None:
        values[0] = "second"

    monkeypatch.setenv("FOLDER_IN_A_TEST", "first")
    monkeypatch.setattr(run_module, "is_rank_zero", lambda: False)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    assert agreed_folder(lambda: Path("mine"), "FOLDER_IN_A_TEST") == Path("second")


def test_the_lock_is_yaml_and_says_what_was_used(tmp_path: Path, folder: Path) -> None:
    write_lock(Run(tmp_path), small_recipe(folder, "seed=7"), "12e4567")  # digits that look like a number
    lock = OmegaConf.to_container(OmegaConf.load(tmp_path / "lock.yaml"))
    assert isinstance(lock, dict)
    assert (lock["seed"], lock["data"], lock["threads"]) == (7, "12e4567", 1)
    assert lock["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert all(isinstance(word, str) for word in lock["command"])


def test_git_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() == "none"


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=f"{tmp_path} is no run folder"):
        load_run(tmp_path)
    with pytest.raises(RunFailed, match=r"evaluation\.json is missing: the run did not get that far"):
        _ = Run(tmp_path).evaluation
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(RunFailed, match=r"evaluation.json is damaged"):
        _ = Run(tmp_path).evaluation


def test_a_device_that_is_not_here_is_refused_before_the_folder_is_read(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"Nobody knows a device 'abacus'\. It has: cpu"):
        load_run(tmp_path, device="abacus")


def test_an_autoencoder_alone_cannot_write(autoencoder_only: Run) -> None:
    with pytest.raises(RunFailed, match=r"autoencoder and nothing on top of it: .* is null.*init_from"):
        load_run(autoencoder_only.folder)


@pytest.mark.parametrize("name", ["chunk_size", "event", "tokenizer"])
def test_lineage(folder: Path, autoencoder_only: Run, tmp_path: Path, name: str) -> None:
    manager = make_manager()
    recipe = autoencoder_only.recipe(manager)
    autoencoder = manager.build(
        "autoencoders", recipe.autoencoder.name, recipe.autoencoder.options, vocab_size=257
    )
    mine = {
        "chunk_size": autoencoder.chunk_size,
        "event": list(autoencoder.event.shape),
        "tokenizer": manager.build("tokenizers", "bytes", {}).fingerprint(),
    }
    check_lineage(autoencoder_only.folder, mine)
    (tmp_path / "model").mkdir()
    other = autoencoder_only.facts | {name: "other"}
    (tmp_path / "model" / "config.json").write_text(json.dumps(other))
    with pytest.raises(RunFailed, match=f"its {name} is other, this recipe's is"):
        check_lineage(tmp_path, mine)


def test_the_gate_by_hand() -> None:
    gate = Gate(metric="val/chunk_accuracy", min=0.5)
    check_gate(gate, {"chunk_accuracy": 0.5}, "It", "Train on")
    check_gate(None, {}, "It", "Train on")
    with pytest.raises(GateMissed, match=r"It reaches val/chunk_accuracy 0\.4999, below the gate of 0\.5"):
        check_gate(gate, {"chunk_accuracy": 0.4999, "token_accuracy": 1.0}, "It", "Train on")
    with pytest.raises(GateMissed, match="nan"):
        check_gate(gate, {"chunk_accuracy": float("nan")}, "It", "Train on")
    with pytest.raises(GateMissed, match="does not measure; it measures: val/a, val/b"):
        check_gate(gate, {"b": 1.0, "a": 1.0}, "It", "Train on")
