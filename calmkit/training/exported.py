"""Exported: the folder of a run that was made to be handed on; see `calmkit.sharing.export`.

config.json  model.safetensors  resolved.yaml  lock.yaml  evaluation.json  README.md  and what its kind keeps

It is read as any run folder is, but for `model/`, whose files lie in the folder itself. `config.json` holds
the SHA-256 of what a model is rebuilt from. Plain numbers, words and tensors: nothing read is executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from calmkit.recipe.resolved import RESOLVED
from calmkit.registry import Manager
from calmkit.training.checkpoints import INDEX
from calmkit.training.errors import RunFailed
from calmkit.training.snapshots import file_digest

FORMAT = 1
FORMAT_KEY = "calmkit_format"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
SIGNED: Mapping[str, type] = {
    FORMAT_KEY: int,
    "calmkit_version": str,
    "architectures": list,
    "parts": dict,
    "kept": list,
    "facts": dict,
    "files": dict,
    "recipe": dict,
}
"""Keys of `config.json` that its own checksum covers; others may be added by whoever likes."""
CURE = "Download or copy it again, or export the run again."


def is_exported(folder: Path) -> bool:
    """Whether a folder has the model's files in itself, as exported ones do, and not in `model/`."""
    there = (CONFIG, WEIGHTS, WEIGHTS + INDEX)
    return not (folder / "model").is_dir() and any((folder / name).is_file() for name in there)


def weights_in(folder: Path) -> Path:
    """The one file of tensors, or the index of several where there is one and the other is not."""
    plain, index = folder / WEIGHTS, folder / (WEIGHTS + INDEX)
    return index if index.is_file() and not plain.is_file() else plain


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of an exported folder.

    Raises:
        RunFailed: It is missing, damaged, of a newer calmkit, or of something else.
    """
    path = folder / CONFIG
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFailed(f"{path} is missing. {CURE}") from error
    except (OSError, ValueError) as error:
        raise RunFailed(f"{path} can't be read: {error}. {CURE}") from error
    version = said.get(FORMAT_KEY) if isinstance(said, dict) else None
    if not isinstance(version, int):
        raise RunFailed(
            f"{path} is not of calmkit: it has no {FORMAT_KEY}. `calmkit export RUN --to hf DIR` makes a "
            "folder that can be loaded."
        )
    if version > FORMAT:
        raise RunFailed(
            f"{folder} is of version {version} of calmkit's format, made by calmkit "
            f"{said.get('calmkit_version')!r}; this calmkit reads version {FORMAT}. Install a newer calmkit."
        )
    wrong = [key for key, kind in SIGNED.items() if not isinstance(said.get(key), kind)]
    if wrong or said.get("sha256") != config_digest(said):
        raise RunFailed(f"{path} was cut or altered: its checksum differs. {CURE}")
    return said


def config_digest(said: Mapping[str, Any]) -> str:
    """SHA-256 of what `SIGNED` names, hexadecimal."""
    return hashlib.sha256(json.dumps([said[key] for key in SIGNED], sort_keys=True).encode()).hexdigest()


def check_exported(folder: Path, manager: Manager) -> None:
    """Refuse an exported folder from which the model that was exported can't be rebuilt.

    Raises:
        RunFailed: A part is of a plugin that is not here; a file is missing, cut or altered.
    """
    said = read_config(folder)
    _check_parts(folder, said["parts"], manager)
    for name, digest in said["files"].items():
        _check_file(folder, name, digest)
    if said["recipe"] != _recipe_in(folder):
        raise RunFailed(f"{folder}: {CONFIG} and {RESOLVED} hold two recipes. {CURE}")


def _check_parts(folder: Path, parts: Mapping[str, str], manager: Manager) -> None:
    for part, plugin in parts.items():
        kind, _, name = part.partition("/")
        if name in manager.parts.get(kind, {}):
            continue
        left_out = "".join(f"\n  left out: {one.plugin}: {one.reason}" for one in manager.rejected)
        raise RunFailed(
            f"{folder} was made with {part!r} of the plugin {plugin!r}, which is not installed here. Install "
            f"that plugin, if you trust where it comes from.{left_out}"
        )


def _check_file(folder: Path, name: str, digest: str) -> None:
    path, parts = folder / name, PurePosixPath(name).parts
    if PurePosixPath(name).is_absolute() or ".." in parts or not name.isprintable():
        raise RunFailed(f"{folder / CONFIG} names a file outside of its folder, {name!r}. {CURE}")
    try:
        found = file_digest(path)
    except FileNotFoundError as error:
        raise RunFailed(f"{path} is missing. {CURE}") from error
    except OSError as error:
        raise RunFailed(f"{path} can't be read: {error.strerror}. {CURE}") from error
    if found != digest:
        raise RunFailed(f"{path} was cut or altered: its checksum differs. {CURE}")


def _recipe_in(folder: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load((folder / RESOLVED).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunFailed(f"{folder / RESOLVED} can't be read: {error}. {CURE}") from error
