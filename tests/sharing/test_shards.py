"""Tensors in one file or in several, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from calmkit.sharing.shards import split_by_size, write_tensors
from calmkit.training.checkpoints import read_tensors, save_tensors
from calmkit.training.errors import RunFailed
from calmkit.training.exported import weights_in


def test_files_are_filled_in_order_and_no_further_than_they_may_be() -> None:
    sizes = {"a": 3, "b": 3, "c": 4, "d": 20, "e": 1}
    assert split_by_size(sizes, 7) == [["a", "b"], ["c"], ["d"], ["e"]]
    assert split_by_size(sizes, 100) == [["a", "b", "c", "d", "e"]]


def test_a_large_model_comes_back_from_several_files(tmp_path: Path) -> None:
    held = {name: torch.arange(4.0, dtype=torch.float32) + number for number, name in enumerate("abc")}
    save_tensors(tmp_path / "whole.safetensors", held)  # 16 bytes each
    (tmp_path / "out").mkdir()
    names = write_tensors(tmp_path / "whole.safetensors", tmp_path / "out", largest=32)
    assert names == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    index = json.loads((tmp_path / "out" / names[-1]).read_text())
    assert index["metadata"] == {"total_size": 48}
    assert index["weight_map"] == {"a": names[0], "b": names[0], "c": names[1]}
    back = read_tensors(weights_in(tmp_path / "out"))
    assert back.keys() == held.keys()
    assert all(torch.equal(back[name], value) for name, value in held.items())
    (tmp_path / "again").mkdir()
    assert write_tensors(weights_in(tmp_path / "out"), tmp_path / "again", largest=48) == [
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
    ]


@pytest.mark.parametrize(
    "index", ['{"weight_map": {"a": "../a.safetensors"}}', '{"weight_map": {}}', "[]", "{"]
)
def test_an_index_that_leaves_its_folder_or_names_nothing_is_refused(tmp_path: Path, index: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(index)
    with pytest.raises(RunFailed, match=r"Cannot read the weights .*model\.safetensors\.index\.json"):
        read_tensors(path)
