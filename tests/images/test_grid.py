from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from small_images import pixels

from calmkit.images.corpus import Images
from calmkit.images.grid import grid, to_bytes, write_grid
from calmkit.images.rows import ImageRows


def test_by_hand():
    images = torch.tensor([-1.0, 1.0, 0.0]).reshape(3, 1, 1, 1)
    # two columns, each value twice both ways, gaps of 128; the fourth place is empty
    assert grid(images, columns=2, scale=2)[0].tolist() == [
        [128, 128, 128, 128, 128, 128, 128],
        [128, 0, 0, 128, 255, 255, 128],
        [128, 0, 0, 128, 255, 255, 128],
        [128, 128, 128, 128, 128, 128, 128],
        [128, 128, 128, 128, 128, 128, 128],
        [128, 128, 128, 128, 128, 128, 128],
        [128, 128, 128, 128, 128, 128, 128],
    ]


def test_every_byte_survives_the_way_there_and_back():
    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    batch = ImageRows(Images(values, None, np.zeros((1, 2), dtype=np.int64)), (1, 1))[0]
    assert np.array_equal(to_bytes(batch.data).numpy(), values)


def test_what_is_out_of_range_is_clipped():
    assert to_bytes(torch.tensor([-3.0, 3.0]).reshape(2, 1, 1, 1)).flatten().tolist() == [0, 255]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_png_holds_the_grid(tmp_path, channels):
    values = torch.from_numpy(pixels(5, channels, 8, 8)) / 127.5 - 1
    write_grid(tmp_path / "grid.png", values, columns=3)
    sheet = np.asarray(Image.open(tmp_path / "grid.png"))
    assert sheet.shape[:2] == (2 * 68 + 4, 3 * 68 + 4)  # 8 to 64, so that a person can see it
    assert np.array_equal(sheet, grid(values, 3).permute(1, 2, 0).numpy().reshape(sheet.shape))
    second = sheet.reshape(140, 208, channels)[4:68:8, 72:136:8]
    assert np.array_equal(second, pixels(5, channels, 8, 8)[1].transpose(1, 2, 0))


def test_large_images_are_not_scaled():
    assert grid(torch.zeros(1, 3, 64, 70), columns=1).shape == (3, 66, 72)


def test_what_makes_no_grid_is_refused(tmp_path):
    one = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="hold values that are not finite; what drew them has diverged"):
        grid(one / 0, columns=1)
    with pytest.raises(ValueError, match="a grid needs an image and a column, got 0 images in 2 columns"):
        grid(one[:0], columns=2)
    with pytest.raises(ValueError, match="got 1 images in 0 columns"):
        grid(one, columns=0)
    with pytest.raises(ValueError, match="scale must be at least 1, got 0"):
        grid(one, columns=1, scale=0)
    with pytest.raises(ValueError, match="a PNG has 1 channel or 3, got 2"):
        write_grid(tmp_path / "grid.png", torch.zeros(1, 2, 2, 2), columns=1)
