from __future__ import annotations

import numpy as np
import pytest
import torch
from small_images import pixels

from calmkit.data.order import NO_ROW, SeededOrder
from calmkit.images.corpus import Images
from calmkit.images.rows import ImageRows, mirrored

COUNT = 40
IMAGES = Images(pixels(COUNT, 3, 4, 6), np.arange(COUNT) % 7, np.zeros((COUNT, 2), dtype=np.int64))


def order(epoch: int = 0, seed: int = 5) -> SeededOrder:
    made = SeededOrder(COUNT, seed=seed, train=True)
    made.set_epoch(epoch)
    return made


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


def test_what_is_mirrored_is_mirrored_left_to_right_and_nothing_else():
    plain, flipping = ImageRows(IMAGES, (1, 1)), ImageRows(IMAGES, (1, 1), flips=order())
    wanted = mirrored(COUNT, seed=5, epoch=0)
    for index in range(COUNT):
        data = plain[index].data
        assert torch.equal(flipping[index].data, data.flip(-1) if wanted[index] else data)
        assert flipping[index].condition["label"].tolist() == [index % 7]


def test_it_depends_on_seed_epoch_and_index_alone():
    made = order()
    rows = ImageRows(IMAGES, (1, 1), flips=made)
    everything = rows.__getitems__(range(COUNT)).data
    for index in (30, 2, 17):  # another batch, another order
        assert torch.equal(rows[index].data[0], everything[index])
    made.set_epoch(1)
    later = rows.__getitems__(range(COUNT)).data
    assert not torch.equal(later, everything)
    made.set_epoch(0)
    assert torch.equal(rows.__getitems__(range(COUNT)).data, everything)
    other = ImageRows(IMAGES, (1, 1), flips=order(seed=6)).__getitems__(range(COUNT)).data
    assert not torch.equal(other, everything)


def test_about_half_is_mirrored():
    # mean of 10^4 fair coins: 6 standard deviations of 0.005, a false alarm in 5 * 10^8
    assert abs(mirrored(10_000, seed=0, epoch=3).mean() - 0.5) < 0.03
    # the coins of one epoch tell nothing of another's
    both = mirrored(10_000, seed=0, epoch=3) == mirrored(10_000, seed=0, epoch=4)
    assert abs(both.mean() - 0.5) < 0.03
    # nor the coins of the numbers that permuted the rows
    permuted_by = np.random.Generator(np.random.PCG64((0, 3))).random(10_000) < 0.5
    assert abs((mirrored(10_000, seed=0, epoch=3) == permuted_by).mean() - 0.5) < 0.03
