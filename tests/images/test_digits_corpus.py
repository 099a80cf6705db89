from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from calmkit.images.corpora.digits import DigitsCorpus
from calmkit.images.overlap import Overlap, overlap


@pytest.fixture
def both():
    corpus = DigitsCorpus()
    return corpus.images("train"), corpus.images("valid")


def test_all_images_stand_in_one_split_and_become_their_values_again(both):
    original = load_digits()
    assert len(both[0]) + len(both[1]) == 1797
    seen = []
    for images in both:
        number = images.places[:, 1]
        assert (np.diff(number) > 0).all()
        values = np.rint(images.pixels[:, 0].astype(float) * 16 / 255)
        assert np.array_equal(values, original.images[number])
        assert np.array_equal(images.labels, original.target[number])
        seen += number.tolist()
    assert sorted(seen) == list(range(1797))
    train = both[0].pixels[:, 0][original.images[both[0].places[:, 1]] == 1]
    assert set(train.tolist()) == {16}  # 15.94
    assert both[0].pixels.max() == 255


def test_a_fifth_of_each_class_is_held_out(both):
    train, valid = (np.bincount(images.labels, minlength=10) for images in both)
    assert (np.floor(0.2 * (train + valid)) == valid).all()


def test_no_held_out_image_is_trained_on(both):
    assert overlap(*both) == Overlap(0, len(both[1]))


def test_the_split_is_part_of_the_identity():
    assert DigitsCorpus().identity() == DigitsCorpus(valid_fraction=0.2).identity()
    assert DigitsCorpus().identity() != DigitsCorpus(valid_fraction=0.1).identity()


def test_facts_and_places():
    corpus = DigitsCorpus()
    assert corpus.image_shape == (1, 8, 8)
    assert corpus.label_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert corpus.place("valid", 0, 3) == "image 3 of sklearn.datasets.load_digits()"


def test_a_share_that_empties_a_side_is_refused():
    with pytest.raises(ValueError, match="digits: valid_fraction must lie between 0 and 1, got 1"):
        DigitsCorpus(valid_fraction=1.0)
