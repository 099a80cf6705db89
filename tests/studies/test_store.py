"""Keys: equal where the result would be, and only there. Folders: held by one process at a time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from small_images import write_folder
from small_runs import small_recipe, workshop

from calmkit.recipe.load import load_recipe
from calmkit.recipe.schema import PartSpec
from calmkit.registry import make_manager
from calmkit.studies.store import RUNNING, Keys, awaited, claimed, holder_of, set_aside, told_by_content
from calmkit.training.errors import RunFailed

MANAGER = make_manager(guests=[])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    with workshop(tmp_path):
        yield tmp_path


def key(*overrides: str) -> str:
    return Keys(MANAGER).of_trial(small_recipe(Path.cwd(), *overrides, manager=MANAGER))


def autoencoder_key(*overrides: str) -> str:
    return Keys(MANAGER).of_autoencoder(small_recipe(Path.cwd(), *overrides, manager=MANAGER))


@pytest.mark.parametrize(
    "override",
    [
        "description=else",
        "name=other",
        "loggers=[]",
        "trainer.workers=3",
        "trainer.checkpoint.every=7",
        "trainer.checkpoint={minutes: 1.5, keep: 4}",
    ],
)
def test_names_loggers_readers_and_checkpoints_change_no_result(override: str) -> None:
    assert key(override) == key()
    assert autoencoder_key(override) == autoencoder_key()


@pytest.mark.parametrize(
    "override",
    ["seed=2", "head=flow", "stages.lm.max_steps=51", "evaluation.draws=3", "data.sequence_length=16"],
)
def test_what_changes_a_result_changes_its_key(override: str) -> None:
    assert key(override) != key()


def test_what_a_kind_does_not_read_is_in_no_key() -> None:
    """No image is scored by `evaluation.draws`."""
    now = load_recipe("tiny/mar", (), MANAGER)
    said = replace(now, evaluation=replace(now.evaluation, draws=7))
    assert Keys(MANAGER).of_trial(now) == Keys(MANAGER).of_trial(said)


def test_what_training_does_to_the_data_changes_both_keys(folder: Path) -> None:
    """An autoencoder that saw mirrored images is none that saw them as they are; the data are the same."""
    write_folder(folder / "pets")
    recipes = [
        load_recipe("tiny/mar", [f"data={{name: folder, path: pets, size: 8{said}}}"], MANAGER)
        for said in ("", ", flip: false", ", flip: true")
    ]
    plain, stated, mirrored = ((Keys(MANAGER).of_trial(r), Keys(MANAGER).of_autoencoder(r)) for r in recipes)
    assert plain == stated
    assert plain[0] != mirrored[0]
    assert plain[1] != mirrored[1]


def test_files_are_told_by_their_content(folder: Path) -> None:
    before = key()
    copy = folder / "elsewhere.jsonl"
    copy.write_text((folder / "corpus.jsonl").read_text())
    assert key(f"data.train={copy}") == before
    copy.write_text((folder / "corpus.jsonl").read_text() + '{"text": "more"}\n')
    assert key(f"data.train={copy}") != before


@pytest.mark.parametrize(
    "override", ["head=flow", "stages.lm.max_steps=9", "backbone.hidden_dim=32", "evaluation.draws=3"]
)
def test_an_autoencoder_does_not_know_what_is_built_on_it(override: str) -> None:
    assert autoencoder_key(override) == autoencoder_key()


def test_a_gate_asks_and_changes_nothing() -> None:
    assert autoencoder_key("stages.autoencoder.gate.min=0.5") == autoencoder_key()


@pytest.mark.parametrize(
    "override",
    ["seed=2", "autoencoder.latent_dim=9", "stages.autoencoder.max_steps=9", "data.sequence_length=16"],
)
def test_what_changes_an_autoencoder_changes_its_key(override: str) -> None:
    assert autoencoder_key(override) != autoencoder_key()


def test_a_folder_is_held_by_one(folder: Path) -> None:
    with claimed(folder / "a", "the study"):
        holder = holder_of(folder / "a")
        assert holder is not None
        assert holder["pid"] == os.getpid()
        with pytest.raises(RunFailed, match=f"the study is already being run by process {os.getpid()}"):
            claimed(folder / "a", "the study").__enter__()
    assert holder_of(folder / "a") is None


def test_who_died_holds_nothing(folder: Path) -> None:
    """A process that is killed leaves its file, and the next one does not mind."""
    held = folder / "b"
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom calmkit.studies.store import claimed\n"
        "held = claimed(Path(sys.argv[1]), 'x')\nheld.__enter__()\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(held)], check=False)
    assert done.returncode == -9
    assert (held / RUNNING).exists()
    assert holder_of(held) is None
    with claimed(held, "x"):
        pass


def test_of_many_who_find_a_dead_claim_one_gets_it(folder: Path) -> None:
    """Eight at once, fifty times over: never two inside, and the claim of the living is never removed."""
    held = folder / "race"
    held.mkdir()
    dead = {"pid": 2**22 + 1, "host": socket.gethostname(), "began": "0"}
    for _ in range(50):
        (held / RUNNING).write_text(json.dumps(dead))
        barrier, inside, winners = threading.Barrier(8), list[int](), list[int]()

        def attempt(number: int, barrier=barrier, inside=inside, winners=winners) -> None:
            barrier.wait(20)
            try:
                with claimed(held, "x"):
                    inside.append(number)
                    winners.append(len(inside))
                    barrier.wait(20)
                    inside.remove(number)
            except RunFailed:
                barrier.wait(20)

        threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert winners == [1]
        assert holder_of(held) is None
    assert [path.name for path in held.iterdir()] == [".lock"]


def test_files_and_runs_are_told_by_content(folder: Path) -> None:
    one, run = folder / "t.json", folder / "run"
    one.write_text("a")
    before = told_by_content(str(one))
    one.write_text("b")
    assert told_by_content(str(one)) != before != str(one)
    (run / "model").mkdir(parents=True)
    (run / "model" / "model.safetensors").write_bytes(b"1")
    (run / "log.txt").write_text("x")
    weights = told_by_content(str(run))
    (run / "log.txt").write_text("y")
    assert told_by_content(str(run)) == weights
    (run / "model" / "model.safetensors").write_bytes(b"2")
    assert told_by_content(str(run)) != weights
    assert [told_by_content(value) for value in ("nowhere.json", "", 3, None)] == [
        "nowhere.json",
        "",
        3,
        None,
    ]


def test_a_number_that_was_given_to_another_process_is_not_its_holder(folder: Path) -> None:
    (folder / "c").mkdir()
    with claimed(folder / "c", "x"):
        mine = json.loads((folder / "c" / RUNNING).read_text())
    if mine["began"] is None:
        pytest.skip("this system does not tell when a process began")
    (folder / "c" / RUNNING).write_text(json.dumps(mine | {"began": "1"}))
    assert holder_of(folder / "c") is None
    (folder / "c" / RUNNING).write_text(json.dumps(mine | {"host": "elsewhere"}))
    assert holder_of(folder / "c") is not None  # nobody here can tell


def test_who_waits_is_told_once_for_whom(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, said = folder / "d", list[str]()
    claim = claimed(held, "x")
    claim.__enter__()
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            claim.__exit__(None, None, None)

    monkeypatch.setattr("time.sleep", sleep)
    with awaited(held, "autoencoder abc", said.append):
        assert len(naps) == 3
    assert len(said) == 1
    assert f"process {os.getpid()}" in said[0]


def test_what_is_set_aside_is_kept(folder: Path) -> None:
    run = folder / "run"
    assert set_aside(run) is None
    for number in (1, 2):
        run.mkdir()
        (run / "resolved.yaml").write_text(str(number))
        assert set_aside(run) is None  # nothing was trained: the next try takes the folder as it is
        (run / "metrics.csv").touch()
        aside = set_aside(run)
        assert aside is not None
        assert aside.name == f"run.stopped-{number}"
        assert (aside / "resolved.yaml").read_text() == str(number)
    assert not run.exists()


def test_a_recipe_and_its_reading_have_one_key(folder: Path) -> None:
    recipe = small_recipe(folder, manager=MANAGER)
    assert Keys(MANAGER).of_trial(replace(recipe, description="x")) == Keys(MANAGER).of_trial(recipe)


def test_metrics_are_part_of_a_key_and_none_at_all_leaves_it_as_it_was() -> None:
    """What was trained before a key of recipes came is found behind it: its key, as it was made then."""
    assert key() == "81c4c5127dbd"
    recipe = small_recipe(Path.cwd(), manager=MANAGER)
    asked = replace(recipe, evaluation=replace(recipe.evaluation, metrics=(PartSpec("m"),)))
    assert Keys(MANAGER).of_trial(asked) != key()
    assert Keys(MANAGER).of_autoencoder(asked) == autoencoder_key()


def test_settings_that_a_head_got_later_leave_its_key_as_it_was() -> None:
    """Of recipes with an energy head, as made before it had codes; another value is another result."""
    assert Keys(MANAGER).of_trial(load_recipe("tiny/markov", (), MANAGER)) == "b061bc74b583"
    assert key("head=energy", "head.num_codes=2") != key("head=energy")
    assert key("head=energy", "head.marginal=0.5") != key("head=energy")
