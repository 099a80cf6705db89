from __future__ import annotations

import numpy as np
import pytest

from calmkit.images.split import held_out
from calmkit.interfaces import DataError


def test_by_hand():
    # class 0: hashes 1..4, half of four is two, the smallest hashes first; class 1: one of two
    labels = np.array([0, 1, 0, 0, 1, 0])
    assert held_out([4, 9, 3, 2, 8, 1], labels, 0.5).tolist() == [False, False, False, True, True, True]


def test_every_class_of_two_different_images_is_on_both_sides():
    labels = np.repeat(np.arange(5), 4)
    valid = held_out(range(20), labels, 0.01)
    assert np.bincount(labels[valid]).tolist() == [1] * 5


def test_copies_stay_together():
    for fraction in (0.3, 0.5, 0.7):
        valid = held_out([7, 5, 7, 6, 5, 7], None, fraction)
        assert len(set(valid[[0, 2, 5]])) == len(set(valid[[1, 4]])) == 1


def test_a_class_of_one_image_is_trained_on():
    assert held_out([1, 2, 3], np.array([0, 0, 1]), 0.5).tolist() == [True, False, False]


def test_nothing_to_split_is_refused():
    with pytest.raises(DataError, match="no class has two different images"):
        held_out([1, 2], np.array([0, 1]), 0.5)
