from __future__ import annotations

import numpy as np
import pytest
import torch
from small_images import pixels

from calmkit.data.order import NO_ROW
from calmkit.images.corpus import Images
from calmkit.images.rows import ImageRows, mirrored

COUNT = 40
IMAGES = Images(pixels(COUNT, 3, 4, 6), np.arange(COUNT) % 7, np.zeros((COUNT, 2), dtype=np.int64))


def test_a_batch_by_hand():
    batch = ImageRows(IMAGES, (2, 3)).__getitems__([4, 39])
    assert batch.data.dtype == torch.float32
    expected = torch.tensor(IMAGES.pixels[[4, 39]].astype(np.float32)) / 127.5 - 1
    assert torch.equal(batch.data, expected)
    assert batch.valid.shape == (2, 6)
    assert batch.valid.all()
    assert batch.predict is None
    assert batch.group.tolist() == [[4] * 6, [39] * 6]
    assert batch.condition["label"].tolist() == [4, 4]
    assert batch.condition["label"].dtype == torch.int64


def test_black_is_minus_one_and_white_one():
    ends = Images(
        np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1), None, np.zeros((2, 2), dtype=np.int64)
    )
    assert ImageRows(ends, (1, 1)).__getitems__([0, 1]).data.flatten().tolist() == [-1, 1]


def test_a_row_alone_is_a_batch_of_one():
    rows = ImageRows(IMAGES, (2, 3))
    assert len(rows) == COUNT
    assert torch.equal(rows[7].data, rows.__getitems__([6, 7]).data[1:])


def test_no_row_has_no_valid_unit():
    batch = ImageRows(IMAGES, (2, 3)).__getitems__([3, NO_ROW])
    assert batch.valid.tolist() == [[True] * 6, [False] * 6]
    assert batch.data[1].abs().max() == 0
    assert batch.condition["label"].tolist() == [3, 0]
    assert batch.group[1].tolist() == [0] * 6


def test_without_labels_there_is_no_condition():
    assert ImageRows(Images(IMAGES.pixels, None, IMAGES.places), (1, 1))[0].condition == {}


@pytest.mark.parametrize("index", [-2, COUNT])
def test_rows_that_are_not_there(index):
    with pytest.raises(IndexError, match=rf"rows \[{index}\] of 40"):
        ImageRows(IMAGES, (1, 1))[index]


def test_a_layout_that_is_no_grid():
    with pytest.raises(ValueError, match=r"the layout of an image is a grid of 1 by 1 or more, got \(0, 2\)"):
        ImageRows(IMAGES, (0, 2))


def test_a_coin_is_that_of_seed_epoch_and_row_alone():
    everything = mirrored(range(2 * COUNT), COUNT, seed=5)  # two epochs
    for place in (30, 2, 17, COUNT + 2):  # another batch, another order
        assert bool(mirrored([place], COUNT, seed=5)[0]) == bool(everything[place])
    # two epochs of 40 fair coins are alike with probability 2^-40
    assert not torch.equal(everything[:COUNT], everything[COUNT:])
    assert not torch.equal(mirrored(range(COUNT), COUNT, seed=6), everything[:COUNT])


def test_about_half_is_mirrored():
    # mean of 10^4 fair coins: 6 standard deviations of 0.005, a false alarm in 5 * 10^8
    coins = mirrored(range(30_000, 50_000), 10_000, seed=0).float()
    assert abs(coins[:10_000].mean() - 0.5) < 0.03
    # the coins of one epoch tell nothing of another's
    assert abs((coins[:10_000] == coins[10_000:]).float().mean() - 0.5) < 0.03
    # nor the coins of the numbers that permuted the rows
    permuted_by = torch.from_numpy(np.random.Generator(np.random.PCG64((0, 3))).random(10_000) < 0.5)
    assert abs((coins[:10_000].bool() == permuted_by).float().mean() - 0.5) < 0.03
