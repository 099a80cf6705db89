"""Where the work of studies lies, under names that say what it is made of.

    runs/studies/<study>/cells/<key>/     a run folder for each trial
    runs/autoencoders/<key>/              a run folder for each autoencoder, shared by all studies

A key is a hash of the resolved recipe with everything that does not change the result left out (names,
loggers) and files told by their content, so that a changed recipe never meets an old result, and a wider grid
finds what is done.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calmkit.data.digest import digest
from calmkit.recipe.dump import as_dict
from calmkit.recipe.parts import build_corpus
from calmkit.recipe.schema import PartSpec, Recipe
from calmkit.registry import Manager
from calmkit.training.errors import RunFailed
from calmkit.training.progress import Say
from calmkit.training.run import RESOLVED, Run

KEY_LENGTH = 12  # hexadecimal digits: two of a million cells meet with a chance of 0.2 %
WITHOUT_EFFECT = ("name", "description", "loggers")
FORMAT = 1  # raised when the same recipe trains to another result
RUNNING = "running.json"
POLL_SECONDS = 2.0


@dataclass
class Keys:
    """Makes keys; a corpus is read once for all recipes that name it."""

    manager: Manager
    _identities: dict[str, str] = field(default_factory=dict)

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
        parts = ("seed", "data", "tokenizer", "autoencoder", "stages", "trainer")
        rows = recipe.evaluation.max_rows  # what its reconstruction is measured on
        return self._key(recipe, {name: whole[name] for name in parts} | {"max_rows": rows})

    def _key(self, recipe: Recipe, made_of: dict[str, Any]) -> str:
        content = {name: value for name, value in made_of.items() if name not in WITHOUT_EFFECT}
        content["data"] = [recipe.data.sequence_length, self._identity(recipe)]
        return digest(str(FORMAT), json.dumps(content, sort_keys=True))[:KEY_LENGTH]

    def _identity(self, recipe: Recipe) -> str:
        part: PartSpec = recipe.data.part
        name = json.dumps([part.name, part.options], sort_keys=True, default=str)
        if name not in self._identities:
            self._identities[name] = build_corpus(recipe, self.manager).identity()
        return self._identities[name]


def is_trained(folder: Path) -> bool:
    """Whether a run folder holds a language model that was trained and measured to the end."""
    return (folder / "samples.txt").is_file() and (folder / "evaluation.json").is_file()


def is_encoded(folder: Path) -> bool:
    """Whether a run folder holds an autoencoder that was trained to the end."""
    return (folder / "model" / "config.json").is_file() and "reconstruction" in Run(folder).facts


def set_aside(folder: Path) -> Path | None:
    """Move what an interrupted run left out of the way; nothing is deleted. None where there was nothing."""
    if not (folder / RESOLVED).exists():
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}.stopped-{number}")).exists():
        number += 1
    folder.rename(aside)
    return aside


@contextmanager
def claimed(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder against other processes on all machines that see it.

    Raises:
        RunFailed: Another process that still lives holds it.
    """
    path = folder / RUNNING
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if holder := holder_of(folder):
            raise RunFailed(
                f"{what} is already being run by process {holder['pid']} on {holder['host']} ({folder}). "
                f"Wait for it, or stop it; if it is gone for good, delete {path}."
            )
        path.unlink(missing_ok=True)
        with path.open("x", encoding="utf-8") as file:
            json.dump(_myself(), file)
    except FileExistsError:
        raise RunFailed(f"{what} was begun by another process this moment ({folder}).") from None
    except OSError as error:
        message = f"{folder} can't be written ({error.strerror}); choose another with --out."
        raise RunFailed(message) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def awaited(folder: Path, what: str, say: Say) -> Iterator[None]:
    """`claimed`, after whoever holds the folder now."""
    told = False
    while holder := holder_of(folder):
        if not told:
            say(f"{what} is being made by process {holder['pid']} on {holder['host']}; waiting for it")
            told = True
        time.sleep(POLL_SECONDS)
    with claimed(folder, what):
        yield


def holder_of(folder: Path) -> dict[str, Any] | None:
    """Who holds a folder: pid, host; None where nobody does, or one who died on this machine."""
    try:
        holder: dict[str, Any] = json.loads((folder / RUNNING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if holder.get("host") != _myself()["host"]:
        return holder  # of another machine nobody here can tell
    return holder if _lives(holder) else None


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
