"""What is written to disk, and how: to a temporary name first, then moved; read without unpickling."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, cast, final

import torch
from lightning.pytorch.plugins import CheckpointIO
from torch import Tensor, nn

from calmkit.training.errors import RunFailed

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
COPIES_WHILE_TRAINING = 8
"""Parameters' worth of room a run wants: weights, two Adam moments, twice (old and new checkpoint), and the
model.
"""


def write_moved(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary path in the same folder, then move it to `path`.

    Raises:
        RunFailed: If the disk is full or the folder refuses; what was there before is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        with suppress(OSError):  # there may not even be a folder
            temporary.unlink(missing_ok=True)


def not_written(path: Path, error: OSError) -> RunFailed:
    """What to say of a file that could not be written."""
    if error.errno in DISK_FULL:
        why = f"The disk of {path.parent} is full, so {path.name} could not be written. Free some space"
    else:
        why = f"{path} could not be written ({error.strerror or error}). Make its folder writable"
    kept = path.parent if path.parent.is_dir() else None
    return RunFailed(f"{why}, or choose another folder with --out.", kept)


def write_text(path: Path, text: str) -> None:
    """Write a text file, moved into place."""
    write_moved(path, lambda temporary: _write_text(temporary, text))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, moved into place."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def save_weights(path: Path, module: nn.Module, prefix: str = "") -> None:
    """A module's tensors as safetensors. Tensors that are one (tied) are written once."""
    from safetensors.torch import save_model

    class _Prefixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(prefix, module)

    holder = _Prefixed() if prefix else module

    def write(temporary: Path) -> None:
        try:
            save_model(holder, str(temporary))
        except Exception as error:  # safetensors reports a full disk as an error type of its own
            if "os error 28" in str(error).lower() or "no space" in str(error).lower():
                raise OSError(errno.ENOSPC, "no space left on device", str(temporary)) from error
            raise

    write_moved(path, write)


def load_weights(path: Path, module: nn.Module, prefix: str = "") -> None:
    """Load tensors into a module, all of them and nothing else.

    Raises:
        RunFailed: If the file is missing, damaged, or of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise RunFailed(
            f"Cannot read the weights {path}: {error}. Train again, or name another run."
        ) from error
    lead = f"{prefix}." if prefix else ""
    mine = {name.removeprefix(lead): value for name, value in tensors.items() if name.startswith(lead)}
    try:
        missing, unexpected = module.load_state_dict(mine, strict=False)
    except RuntimeError as error:
        raise RunFailed(f"The weights {path} have other shapes than the recipe: {error}") from error
    own = module.state_dict()
    loaded = {own[name].data_ptr() for name in mine if name in own}
    absent = [name for name in missing if own[name].numel() and own[name].data_ptr() not in loaded]
    if absent or unexpected:
        raise RunFailed(
            f"The weights {path} don't fit the recipe: missing {_some(absent)}; not known "
            f"{_some(unexpected)}. Name a run of the same parts, or change the recipe."
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "none") + more


def check_disk(folder: Path, module: nn.Module) -> None:
    """Refuse to start where the checkpoints could not be written.

    Raises:
        RunFailed: Naming the folder, what is needed and what is free.
    """
    needed = COPIES_WHILE_TRAINING * sum(p.numel() * p.element_size() for p in module.parameters())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunFailed(
            f"The disk of {folder} has {free / 2**20:.0f} MiB free, this run needs about "
            f"{needed / 2**20:.0f} MiB for its checkpoints. Free some space, or choose another folder with "
            "--out."
        )


@final
class MovedCheckpoints(CheckpointIO):
    """Lightning's checkpoints, written to a temporary name and moved; read with `weights_only=True`."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write one."""
        del storage_options

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                target = _Target(file)
                try:
                    torch.save(checkpoint, cast("IO[bytes]", target))
                except RuntimeError as error:  # torch's way of saying that a write failed
                    raise target.failed or error from error

        write_moved(Path(path), write)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read one; never unpickles anything but tensors and plain values.

        Raises:
            RunFailed: If it is missing, damaged, or holds anything else.
        """
        del weights_only
        try:
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except Exception as error:  # torch's reader raises types of its own for what it refuses
            reason = str(error).strip().split("\n", 1)[0]
            raise RunFailed(f"Cannot read the checkpoint {path}: {reason} Name another one.") from error

    def remove_checkpoint(self, path: Any) -> None:
        """Delete one."""
        Path(path).unlink(missing_ok=True)


@final
class _Target:
    """A file that remembers why a write failed, which torch's writer doesn't tell."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.failed: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self.file.write(content)
        except OSError as error:
            self.failed = error
            raise

    def flush(self) -> None:
        self.file.flush()
