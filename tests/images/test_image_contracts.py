"""Every registered corpus of images through the conformance kit; guests that need no path join by being
installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_images import pixels, write_cifar, write_folder, write_idx

from calmkit.images.corpus import ImageCorpus
from calmkit.registry import make_manager
from calmkit.testing import check_image_corpus

SMALL: dict[str, list[dict[str, Any]]] = {
    "digits": [{}, {"valid_fraction": 0.5}],
    "idx": [
        {"train_images": "i.idx", "train_labels": "l.idx"},
        {"train_images": "i.idx"},
        {"train_images": "i.idx", "valid_images": "j.idx"},
        {"train_images": "i.idx", "train_labels": "l.idx", "classes": 3, "on_bad": "skip", "max_bad": 0.9},
    ],
    "cifar": [{"train": "c.bin"}, {"train": "c.bin", "valid": "d.bin"}],
    "folder": [
        {"path": "pets"},
        {"path": "split", "size": 4, "colour": "grey"},
        {"path": "pets/cat", "on_bad": "skip", "valid_fraction": 0.5},
    ],
}

PARTS = [
    pytest.param(name, options, id=f"{name}-{i}")
    for name, part in make_manager().parts["corpora"].items()
    if issubclass(part.cls, ImageCorpus)
    for i, options in enumerate(SMALL.get(name, [{}]))
    if name in SMALL or not any(setting.required for setting in part.settings.values())
]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_idx(Path("i.idx"), pixels(12, 4, 5))
    write_idx(Path("j.idx"), pixels(4, 4, 5, seed=1))
    write_idx(Path("l.idx"), np.arange(12) % 4)
    write_cifar(Path("c.bin"), np.arange(12) % 3, pixels(12, 3, 32, 32))
    write_cifar(Path("d.bin"), np.arange(3), pixels(3, 3, 32, 32, seed=1))
    write_folder(Path("pets"))
    write_folder(Path("split/train"))
    write_folder(Path("split/valid"))


@pytest.mark.parametrize(("name", "options"), PARTS)
def test_corpus_keeps_its_contract(name: str, options: dict[str, Any]) -> None:
    check_image_corpus(name, **options)


def test_every_corpus_of_ours_is_checked() -> None:
    assert {part.values[0] for part in PARTS} >= {"digits", "idx", "cifar", "folder"}
