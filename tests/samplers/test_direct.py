from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from calmkit.interfaces import SampleOptions
from calmkit.samplers.direct import DirectSampler


def test_one_draw_of_each_row_as_it_comes() -> None:
    asked: list[tuple[int, list[int]]] = []

    def draw(n: int, rows: Tensor) -> Tensor:
        asked.append((n, rows.tolist()))
        return torch.stack([rows * 10, rows * 10 + 1], -1)[None]

    choice = DirectSampler().choose(draw, torch.tensor([3, 0, 3]))
    assert asked == [(1, [3, 0, 3])]
    assert choice.ids.tolist() == [[30, 31], [0, 1], [30, 31]]
    assert (choice.index.tolist(), choice.draws.tolist(), choice.level.tolist()) == (
        [0] * 3,
        [1] * 3,
        [1.0] * 3,
    )


def test_settings_become_wishes_to_the_head() -> None:
    assert DirectSampler().options.set_fields() == frozenset()
    wished = DirectSampler(temperature=0.7, num_steps=8, solver="euler").options
    assert wished == SampleOptions(temperature=0.7, num_steps=8, solver="euler")


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": -1.0}, {"num_steps": 0}])
def test_refuses_impossible_settings_by_name(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f"direct: {name} .*got .*would do"):
        DirectSampler(**settings)
