"""What is written to disk, and how: to a temporary name first, then moved; read without unpickling."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from calmkit.sums import fault_of, move
from calmkit.training.errors import RunFailed

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
INDEX = ".index.json"
"""How the name of a file ends that says which of several files holds which tensor."""
COPIES = 4
"""Parameters' worth of room of a checkpoint: weights, two moments of Adam, their average."""


def write_moved(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary path in the same folder, then move it to `path`.

    Raises:
        RunFailed: If the disk is full or the folder refuses; what was there before is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        move(temporary, path)
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


def check_file(path: Path) -> None:
    """Refuse a file of a run folder that is not as it was written.

    Raises:
        RunFailed: It was cut or altered.
    """
    fault = fault_of(path)
    if fault:
        raise RunFailed(fault)


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
        with _disk_full_is_told(temporary):
            save_model(holder, str(temporary))

    write_moved(path, write)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Tensors by name as safetensors, on the disk before they are in their place."""
    from safetensors.torch import save_file

    def write(temporary: Path) -> None:
        with _disk_full_is_told(temporary):
            save_file(dict(tensors), str(temporary))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())

    write_moved(path, write)


@contextmanager
def _disk_full_is_told(path: Path) -> Iterator[None]:
    """Safetensors reports a full disk as an error type of its own; make it the system's."""
    try:
        yield
    except Exception as error:
        if "os error 28" in str(error).lower() or "no space" in str(error).lower():
            raise OSError(errno.ENOSPC, "no space left on device", str(path)) from error
        raise


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU.

    Args:
        path: A safetensors file, or an index of several that lie beside it.

    Raises:
        RunFailed: A file is missing, cut or altered.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        files = _indexed(path) if path.name.endswith(INDEX) else [path]
        for file in files:
            check_file(file)
        return {name: value for file in files for name, value in load_file(str(file)).items()}
    except (OSError, ValueError, SafetensorError) as error:
        raise RunFailed(
            f"Cannot read the weights {path}: {error}. Train again, or name another run."
        ) from error


def _indexed(path: Path) -> list[Path]:
    """The files that an index names, each beside it."""
    said = json.loads(path.read_text(encoding="utf-8"))
    where = said.get("weight_map") if isinstance(said, dict) else None
    names = sorted({str(name) for name in where.values()}) if isinstance(where, dict) else []
    if not names or any(Path(name).name != name for name in names):
        raise ValueError("its weight_map names no files of its own folder")
    return [path.with_name(name) for name in names]


def load_weights(path: Path, module: nn.Module, prefix: str = "") -> None:
    """Load tensors into a module, all of them and nothing else.

    Raises:
        RunFailed: If the file is missing, cut or altered, or of another shape.
    """
    tensors = read_tensors(path)
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


def check_disk(folder: Path, module: nn.Module, keep: int) -> None:
    """Refuse to start where `keep` checkpoints, a new one and the model could not be written.

    Raises:
        RunFailed: Naming the folder, what is needed and what is free.
    """
    needed = (COPIES * (keep + 1) + 1) * sum(p.numel() * p.element_size() for p in module.parameters())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunFailed(
            f"The disk of {folder} has {free / 2**20:.0f} MiB free, this run needs about "
            f"{needed / 2**20:.0f} MiB for its checkpoints. Free some space, or choose another folder with "
            "--out."
        )
