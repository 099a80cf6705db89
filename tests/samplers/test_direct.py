from __future__ import annotations

import pytest
import torch
from torch import Tensor

from calmkit.samplers.direct import DirectSampler


def test_one_draw_of_each_row_as_it_comes() -> None:
    asked: list[tuple[int, list[int]]] = []

    def draw(n: int, rows: Tensor) -> Tensor:
        asked.append((n, rows.tolist()))
        return torch.stack([rows * 10, rows * 10 + 1], -1)[None]

    choice = DirectSampler().choose(draw, torch.tensor([3, 0, 3]))
    assert asked == [(1, [3, 0, 3])]
    assert choice.data.tolist() == [[30, 31], [0, 1], [30, 31]]
    assert (choice.index.tolist(), choice.draws.tolist(), choice.level.tolist()) == (
        [0] * 3,
        [1] * 3,
        [1.0] * 3,
    )


def test_temperature_is_no_setting_of_its_own() -> None:
    """A law P^(1/T) cannot be had from one draw; the head's own temperature has another name."""
    with pytest.raises(TypeError, match="temperature"):
        DirectSampler(temperature=0.5)  # type: ignore[call-arg]
