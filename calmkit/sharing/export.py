"""export: a trained run as a folder that stands alone, in the layout of the Hugging Face hub.

Source: https://huggingface.co/docs/hub/models-uploading
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from calmkit.built_in import BUILTINS
from calmkit.recipe.dump import as_text
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import SECTIONS, Recipe
from calmkit.registry import Manager, Part, make_manager
from calmkit.sharing.card import Told, model_card
from calmkit.sharing.places import recipe_without_places, without_places
from calmkit.sharing.shards import LARGEST, write_tensors
from calmkit.training.checkpoints import not_written
from calmkit.training.errors import RunFailed
from calmkit.training.exported import CONFIG, FORMAT, FORMAT_KEY, config_digest, is_exported, read_config
from calmkit.training.run import NO_METRICS, Run, load_run
from calmkit.training.run_folder import RESOLVED
from calmkit.training.snapshots import file_digest

CARD, EVALUATION, LOCK = "README.md", "evaluation.json", "lock.yaml"
PATTERNS = ("*.safetensors", "*.json", "*.yaml", "*.md")
"""What is handed on, and fetched: all else stays where it is."""


def export_run(
    run: Run,
    folder: Path,
    *,
    repo: str | None = None,
    licence: str | None = None,
    manager: Manager | None = None,
    say: Callable[[str], object] = print,
    largest: int = LARGEST,
) -> None:
    """Write a run's model with all that rebuilds it, its numbers and its card. All of it comes, or nothing.

    Paths of this machine become the last of their names; see `calmkit.sharing.places`.

    Args:
        run: With a trained model; one that was exported may be exported again.
        folder: Must not be there, or be empty.
        repo: Where it will be found on a hub, for the card; None: the card names the folder.
        licence: Of the weights, as hubs call it, such as `apache-2.0`; None: the card says none.
        manager: Parts; default all that are installed.
        say: Takes each line of what happens.
        largest: Bytes of one file of tensors, at most, where there are several.

    Raises:
        RecipeError: The run's recipe can't be built here.
        RunFailed: There is no trained model, or what its kind keeps is no plain file, or `folder` can't be
            written.
    """
    manager = manager or make_manager()
    front = load_run(run.folder, manager, device="cpu")  # or says what is wrong with it
    recipe = run.recipe(manager, [NO_METRICS])
    words, parts = kind_of(recipe, manager).words, guest_parts(recipe, manager)
    with _whole_or_nothing(folder) as there:
        weights, kept = write_tensors(run.weights, there, largest), _copy_kept(run, words.kept, there)
        values, lock, scores = _write_words(run, there)
        said: dict[str, Any] = {
            "calmkit_version": calmkit_version(),
            "model_type": "calmkit",
            "architectures": [type(front.model).__name__],
            "parts": parts,
            "kept": kept,
            "facts": without_places(run.facts),
        }
        _write_config(there, said, values, [*weights, *kept, RESOLVED, *([LOCK] if lock else [])])
        corpus = manager.find("corpora", recipe.data.part.name).cls
        told = Told(repo or folder.name, folder.name, values, words, corpus.data_kind)
        card = model_card(replace(told, scores=scores, lock=lock, parts=parts, licence=licence))
        (there / CARD).write_text(card, encoding="utf-8")
    say(f"exported: {folder}")


def _write_words(run: Run, there: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Recipe, lock and evaluation of a run without places, of which it may lack the last two."""
    values = recipe_without_places(yaml.safe_load((run.folder / RESOLVED).read_text(encoding="utf-8")))
    (there / RESOLVED).write_text(as_text(values), encoding="utf-8")
    lock = without_places(run.lock)
    if lock:
        (there / LOCK).write_text(as_text(lock), encoding="utf-8")
    scores = without_places(run.evaluation) if (run.folder / EVALUATION).is_file() else {}
    if scores:
        _write_json(there / EVALUATION, scores)
    return values, lock, scores


def _write_config(there: Path, said: dict[str, Any], recipe: dict[str, Any], signed: Sequence[str]) -> None:
    files = {name: file_digest(there / name) for name in signed}
    config = {FORMAT_KEY: FORMAT, **said, "files": files, "recipe": recipe}
    _write_json(there / CONFIG, config | {"sha256": config_digest(config)})


def guest_parts(recipe: Recipe, manager: Manager) -> dict[str, str]:
    """`heads/laplace` -> the plugin that brings it, of those parts of a model that calmkit does not bring."""
    named = {kind: getattr(recipe, section, None) for section, kind in SECTIONS.items() if section != "data"}
    used = [manager.find(kind, spec.name) for kind, spec in named.items() if spec is not None]
    used += [manager.find("transforms", spec.name) for spec in recipe.transforms]
    corpus = manager.find("corpora", recipe.data.part.name)
    used += [corpus, manager.find("data_kinds", corpus.cls.data_kind)]
    return {f"{part.kind}/{part.name}": part.plugin for part in used if _is_guest(part)}


def _is_guest(part: Part) -> bool:
    return part.plugin not in BUILTINS


def calmkit_version() -> str:
    """Of this calmkit; empty where it runs from a folder that is not installed."""
    try:
        return importlib.metadata.version("calmkit")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _copy_kept(run: Run, kept: str, there: Path) -> list[str]:
    """What the kind of data keeps, into the folder itself, where other programs look for it."""
    home = run.kept_folder(kept)
    if is_exported(run.folder):
        said = read_config(run.folder)
        names = [name for name in said["files"] if name in said["kept"]]  # those are known to lie in it
    else:
        files = (path for path in home.rglob("*") if path.is_file() and not path.name.startswith("."))
        names = sorted(path.relative_to(home).as_posix() for path in files)
    for name in names:
        if not any(Path(name).match(pattern) for pattern in PATTERNS):
            raise RunFailed(
                f"{home / name} can't be exported: what a kind of data keeps is written as JSON, YAML or "
                "safetensors, which need no code to be read."
            )
        if (there / name).exists() or name in (CONFIG, RESOLVED, LOCK, EVALUATION, CARD):
            raise RunFailed(f"{home / name} can't be exported: a file of that name is another thing there.")
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(home / name, there / name)
    return names


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _whole_or_nothing(folder: Path) -> Iterator[Path]:
    """A folder aside, which becomes `folder` if all goes well."""
    if folder.is_dir() and not any(folder.iterdir()):
        with suppress(OSError):
            folder.rmdir()
    if os.path.lexists(folder):
        raise RunFailed(f"{folder} is there already; name another folder, or delete it.")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        aside.mkdir(parents=True)
        yield aside
        aside.rename(folder)
    except OSError as error:
        raise not_written(folder, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
