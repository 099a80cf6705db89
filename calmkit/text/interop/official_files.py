"""Files of an official checkpoint: `config.json`, and tensors as `pytorch_model.bin` or safetensors.

Nothing but tensors is ever unpickled.
"""

from __future__ import annotations

import json
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import DataError

CONFIG = "config.json"
BIN, SAFE = "pytorch_model.bin", "model.safetensors"
_MISSING = object()


@dataclass(frozen=True)
class Config:
    """A `config.json` that can say where it lies.

    Attributes:
        place: The file, for messages.
        values: What it says.
    """

    place: str
    values: Mapping[str, Any]

    @property
    def architecture(self) -> str:
        """The one class that it names, or an empty text."""
        names = self.values.get("architectures") or [""]
        return str(names[0])

    def number(self, key: str, kind: type[int] | type[float] = int, default: Any = _MISSING) -> Any:
        """A number that must be there unless it has a default.

        Raises:
            DataError: It is missing, no such number, or not finite, which JSON in Python can say.
        """
        value = self.values.get(key)
        if value is None and default is not _MISSING:
            return default
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (kind is float and isinstance(value, float))):
            word = "a whole number" if kind is int else "a number"
            raise DataError(f"{self.place}: {key} must be {word}, got {value!r}; see docs/official.md.")
        if not abs(value) <= sys.float_info.max:  # type: ignore[arg-type]
            raise DataError(f"{self.place}: {key} must be a finite number, got {value!r}.")
        return kind(value)  # type: ignore[arg-type]

    def only(self, key: str, allowed: Any, why: str, default: Any = None) -> None:
        """Refuse any other value.

        Raises:
            DataError: Naming the file, the key and what would do.
        """
        value = self.values.get(key, default)
        if value != allowed and value is not default:
            raise DataError(
                f"{self.place}: {key} {json.dumps(value)} can't be honoured ({why}); "
                f"{json.dumps(allowed)} would do."
            )


def read_config(path: Path) -> Config:
    """A `config.json`, or the one of a folder.

    Raises:
        DataError: It is not there, or is no JSON object.
    """
    path = path / CONFIG if path.is_dir() else path
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read ({error}); name a folder that holds a {CONFIG}.") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} holds no JSON object; name the folder of an official checkpoint.")
    return Config(str(path), values)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, from one file or from the shards that an index names, on the CPU.

    Raises:
        DataError: There are none, or a file is damaged or holds anything but tensors.
    """
    for name in (SAFE, BIN):
        if (folder / name).is_file():
            return _read_file(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = sorted(set(read_config(index).values.get("weight_map", {}).values()))
            if not shards or any(Path(shard).name != shard for shard in shards):
                raise DataError(f"{index} names no files of its own folder; it needs a 'weight_map'.")
            return {key: value for shard in shards for key, value in _read_file(folder / shard).items()}
    raise DataError(f"{folder} holds no tensors: neither {BIN} nor {SAFE}, nor an index of one of them.")


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)  # refused all the same
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # each reader raises types of its own for what it refuses
        raise DataError(f"{path} {_fault(path, error)}.") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise DataError(f"{path} holds more than tensors by name; save the model's state_dict alone.")
    return tensors


def _fault(path: Path, error: Exception) -> str:
    """What is wrong with a file that can't be read, and the cure; the readers' own words advise to run it."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as closed:
        return f"can't be read ({closed.strerror}); make it readable"
    unpickled = start[:1] == b"\x80" or (start == b"PK" and _whole(path))
    if unpickled and type(error).__name__ == "UnpicklingError":
        return "holds Python objects, which are never run; save it again as tensors only"
    return "is damaged or cut off; copy it again"


def _whole(path: Path) -> bool:
    """Whether all checksums of a zip file are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def write_checkpoint(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, safetensors: bool
) -> None:
    """Write `config.json` and the tensors. Shared ones stay shared in a .bin and are doubled in safetensors.

    Raises:
        DataError: The folder holds a checkpoint already, or can't be written.
    """
    if (folder / CONFIG).exists():
        raise DataError(f"{folder} already holds a {CONFIG}; name another folder, or delete it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if safetensors:
            from safetensors.torch import save_file

            copies = {
                name: value.clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
            }
            save_file(copies, str(folder / SAFE), metadata={"format": "pt"})
        else:
            torch.save(dict(tensors), folder / BIN)
        text = json.dumps(dict(config), indent=2, sort_keys=True) + "\n"
        (folder / CONFIG).write_text(text, encoding="utf-8")
    except (OSError, RuntimeError) as error:
        raise DataError(f"{folder} can't be written ({error}); name another folder.") from error


def autoencoder_folders(folder: Path, ae_path: str | None) -> Iterator[tuple[Path, str]]:
    """Where the autoencoder of a language model may lie, and where in words: at `ae_path`, inside, beside."""
    if ae_path:
        yield from ((path, "at ae_path") for path in (Path(ae_path), folder / ae_path))
    names = [Path(ae_path).name] if ae_path else []
    homes = ((folder, "inside the checkpoint"), (folder.resolve().parent, "beside the checkpoint"))
    for home, where in homes:
        yield from ((home / name, where) for name in [*names, "autoencoder"])
        try:
            yield from ((child, where) for child in sorted(home.iterdir()) if child.is_dir())
        except OSError:
            continue
