"""Where the work of studies lies, under names that say what it is made of.

    runs/studies/<study>/cells/<key>/     a run folder for each trial
    runs/autoencoders/<key>/              a run folder for each autoencoder, shared by all studies

A key is a hash of the resolved recipe with everything that does not change the result left out (names,
loggers) and files told by their content, so that a changed recipe never meets an old result, and a wider grid
finds what is done.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calmkit.data.digest import digest
from calmkit.recipe.dump import as_dict
from calmkit.recipe.parts import build_corpus
from calmkit.recipe.schema import OBJECTIVE, OF_A_KIND, Evaluation, PartSpec, Recipe
from calmkit.recipe.sections import unread
from calmkit.registry import Manager
from calmkit.training.errors import RunFailed
from calmkit.training.progress import Say
from calmkit.training.run import Run
from calmkit.training.run_folder import holds_work, is_measured

KEY_LENGTH = 12  # hexadecimal digits: two of a million cells meet with a chance of 0.2 %
WITHOUT_EFFECT = (
    "name",
    "description",
    "loggers",
    "trainer.workers",
    "trainer.checkpoint",
    "trainer.explosion",
)
"""Keys of a recipe that change no result, whatever their value."""
LATER: Mapping[str, Any] = {
    "conditioner": None,
    "order": None,
    "transforms": [],
    "stages.lm.init_parts": [],
    "stages.lm.freeze": [],
    OBJECTIVE: {"name": "data"},
    "trainer.ema": None,
    "trainer.activation_checkpointing": False,
    "trainer.compile": False,
    "evaluation.metrics": [],
    "evaluation.sample_rows": Evaluation().sample_rows,
}
"""Keys of a recipe that came later, with the value that changes nothing: then keys are as they were
before.
"""
LATER_OF_PARTS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("head", "energy"): {
        "num_codes": 0,
        "noise": "input",
        "offset": 0.0,
        "marginal": 0.0,
        "first_exponent": None,
        "likelihood_until": 0.0,
    }
}
"""Settings of a section's part that came later, with the value that trains bit for bit as before."""
FORMAT = 2  # raised when the same recipe trains to another result; 2: one epoch flows into the next
RUNNING, LOCK = "running.json", ".lock"
POLL_SECONDS = 2.0


@dataclass
class Keys:
    """Makes keys; a corpus is read once for all recipes that name it."""

    manager: Manager
    _corpora: dict[str, list[str]] = field(default_factory=dict)

    def of_trial(self, recipe: Recipe) -> str:
        """Equal for recipes that would train the same models and measure them alike."""
        return self._key(recipe, as_dict(recipe))

    def of_autoencoder(self, recipe: Recipe) -> str:
        """Equal for recipes that would train the same autoencoder; a gate asks, and changes nothing."""
        stage = recipe.stages.autoencoder
        assert stage is not None
        whole = as_dict(dataclasses.replace(recipe, stages=dataclasses.replace(
            recipe.stages, autoencoder=dataclasses.replace(stage, gate=None), lm=None
        )))  # fmt: skip
        parts = ("seed", "data", *OF_A_KIND, "autoencoder", "stages", "trainer")
        rows = recipe.evaluation.max_rows  # what its reconstruction is measured on
        return self._key(recipe, {name: whole[name] for name in parts} | {"max_rows": rows})

    def _key(self, recipe: Recipe, made_of: dict[str, Any]) -> str:
        content = copy.deepcopy(made_of)
        for key in WITHOUT_EFFECT:
            where, name = _place(content, key)
            where.pop(name, None)
        for key, unset in LATER.items():
            where, name = _place(content, key)
            if where.get(name) == unset:
                where.pop(name, None)
        for (section, part), later in LATER_OF_PARTS.items():
            said = content.get(section) or {}
            for name in later if said.get("name") == part else ():
                if name in said and said[name] == later[name]:
                    said.pop(name)
        for name in unread(recipe.data.part.name, self.manager):
            content.get("evaluation", {}).pop(name, None)
        content["data"] = [recipe.data.sequence_length, *self._corpus(recipe)]
        for section in OF_A_KIND:
            settings = content[section]
            content[section] = settings and {name: told_by_content(v) for name, v in settings.items()}
        for stage in filter(None, content["stages"].values()):
            stage["init_from"] = told_by_content(stage["init_from"])
            for run in filter(None, [stage.get("objective")]):
                run |= {name: told_by_content(value) for name, value in run.items() if name != "name"}
        return digest(str(FORMAT), json.dumps(content, sort_keys=True))[:KEY_LENGTH]

    def _corpus(self, recipe: Recipe) -> list[str]:
        """What the data are, and what is done to them in training, where something is."""
        part: PartSpec = recipe.data.part
        name = json.dumps([part.name, part.options], sort_keys=True, default=str)
        if name not in self._corpora:
            corpus = build_corpus(recipe, self.manager)
            self._corpora[name] = [said for said in (corpus.identity(), corpus.augmentation) if said]
        return self._corpora[name]


def _place(content: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The mapping that holds a dotted key, and its name there."""
    *sections, name = key.split(".")
    for section in sections:
        content = content.get(section) or {}
    return content, name


def told_by_content(value: Any) -> Any:
    """A hash in the place of a text that names a file, a run folder (by its weights) or another folder."""
    path = Path(value) if isinstance(value, str) and value else None
    if path is None or not path.exists():
        return value
    weights = Run(path).weights
    files = [path] if path.is_file() else [weights] if weights.is_file() else sorted(path.rglob("*"))
    return digest(*(file.read_bytes() for file in files if file.is_file()))


def is_trained(folder: Path) -> bool:
    """Whether a run folder holds a model that was trained and measured to the end."""
    return is_measured(folder)


def is_encoded(folder: Path) -> bool:
    """Whether a run folder holds an autoencoder that was trained to the end."""
    return (folder / "model" / "config.json").is_file() and "reconstruction" in Run(folder).facts


def set_aside(folder: Path) -> Path | None:
    """Move what a run left that can't go on out of the way; nothing is deleted.

    None where nothing was trained: the next try takes such a folder as it is.
    """
    if not holds_work(folder):
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}.stopped-{number}")).exists():
        number += 1
    folder.rename(aside)
    return aside


@contextmanager
def claimed(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder against other processes on all machines that see it.

    Whoever claims looks and writes under one lock of the operating system, so two never both find it free.

    Raises:
        Held: Another process that still lives holds it.
        RunFailed: The folder can't be written.
    """
    path, mine = folder / RUNNING, _myself()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            holder = holder_of(folder)
            if holder is None:
                path.write_text(json.dumps(mine), encoding="utf-8")
    except OSError as error:
        message = f"{folder} can't be written ({error.strerror}); choose another with --out."
        raise RunFailed(message) from error
    if holder is not None:
        raise Held(folder, what, holder)
    try:
        yield
    finally:
        with suppress(OSError), _alone(folder):
            if _read(path) == mine:
                path.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Between processes, one at a time; the kernel lets go of it for a process that dies."""
    import fcntl  # where there is none, there are no launchers either

    with (folder / LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Held(RunFailed):
    """Another process holds what this one wants."""

    def __init__(self, folder: Path, what: str, holder: dict[str, Any]) -> None:
        who = f"process {holder['pid']} on {holder['host']}"
        super().__init__(
            f"{what} is already being run by {who} ({folder}). Wait for it, or stop it; if it is gone for "
            f"good, delete {folder / RUNNING}."
        )


@contextmanager
def awaited(folder: Path, what: str, say: Say) -> Iterator[None]:
    """`claimed`, after whoever holds the folder now."""
    told = False
    while True:
        claim = claimed(folder, what)
        try:
            claim.__enter__()
            break
        except Held as held:
            if not told:
                say(f"waiting: {held}")
                told = True
            time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        claim.__exit__(None, None, None)


def holder_of(folder: Path) -> dict[str, Any] | None:
    """Who holds a folder: pid, host; None where nobody does, or one who died on this machine."""
    holder = _read(folder / RUNNING)
    if holder is None or holder.get("host") != _myself()["host"]:
        return holder  # of another machine nobody here can tell
    return holder if _lives(holder) else None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _lives(holder: dict[str, Any]) -> bool:
    try:
        os.kill(int(holder["pid"]), 0)
    except (ProcessLookupError, KeyError, ValueError):
        return False
    except PermissionError:
        return True  # somebody else's
    return holder.get("began") == _began(int(holder["pid"]))  # else the number was given to another


def _myself() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "began": _began(os.getpid())}


def _began(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
