"""shards: the tensors of a model as one safetensors file, or, where that is large, as several with an index.

Source: the names and the index are those of https://huggingface.co/docs/safetensors and of `huggingface_hub`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from calmkit.training.checkpoints import INDEX, read_tensors
from calmkit.training.exported import WEIGHTS

LARGEST = 5 * 10**9
"""Bytes of one file, as hubs like them."""


def write_tensors(source: Path, folder: Path, largest: int = LARGEST) -> list[str]:
    """Write what a run's file of tensors (or their index) holds into a folder.

    Args:
        source: One file no larger than `largest` is copied as it is.
        folder: Where to.
        largest: Bytes of one file, at most; a tensor that is larger alone has a file to itself.

    Returns:
        The names of the files that were written.

    Raises:
        RunFailed: The source is damaged.
    """
    if not source.name.endswith(INDEX) and source.stat().st_size <= largest:
        shutil.copyfile(source, folder / WEIGHTS)
        return [WEIGHTS]
    from safetensors.torch import save_file

    tensors = read_tensors(source)
    shards = split_by_size({name: value.nbytes for name, value in tensors.items()}, largest)
    stem, suffix = Path(WEIGHTS).stem, Path(WEIGHTS).suffix
    files = [f"{stem}-{number:05d}-of-{len(shards):05d}{suffix}" for number in range(1, len(shards) + 1)]
    for file, names in zip(files, shards, strict=True):
        held: dict[str, Tensor] = {name: tensors[name] for name in names}
        save_file(held, str(folder / file), metadata={"format": "pt"})
    index = {
        "metadata": {"total_size": sum(value.nbytes for value in tensors.values())},
        "weight_map": {name: file for file, names in zip(files, shards, strict=True) for name in names},
    }
    (folder / (WEIGHTS + INDEX)).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return [*files, WEIGHTS + INDEX]


def split_by_size(sizes: Mapping[str, int], largest: int) -> list[list[str]]:
    """Names in their order, in groups of no more than `largest` together; what is larger stands alone."""
    groups: list[list[str]] = []
    filled = 0
    for name, size in sizes.items():
        if not groups or filled + size > largest:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    return groups
