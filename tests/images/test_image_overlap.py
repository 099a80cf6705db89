from __future__ import annotations

import numpy as np
from small_images import pixels

from calmkit.images.corpora.digits import DigitsCorpus
from calmkit.images.corpus import Images
from calmkit.images.overlap import Overlap, leak_notes, overlap


def of(values: np.ndarray) -> Images:
    return Images(values, None, np.zeros((len(values), 2), dtype=np.int64))


def test_by_hand():
    some = pixels(5, 1, 3, 3)
    # of the four held-out images the first and its copy were trained on
    found = overlap(of(some[[0, 1, 2, 0]]), of(some[[0, 3, 0, 4]]))
    assert found == Overlap(shared=2, images=4)
    assert found.share == 0.5


def test_same_means_pixel_for_pixel():
    some = pixels(2, 1, 3, 3)
    other = some.copy()
    other[:, 0, 2, 2] ^= 1
    assert overlap(of(some), of(other)) == Overlap(0, 2)


def test_what_leaks_is_told_with_its_cure():
    assert leak_notes(DigitsCorpus(), Overlap(0, 4)) == []
    assert leak_notes(DigitsCorpus(), Overlap(1, 4)) == [
        "of the held-out images, 25 % (1 of 4) also stand among the training images (data=digits; held out: "
        "data=digits), pixel for pixel: scores on them reward learning by heart and flatter the model. "
        "Hold out "
        "images that are not trained on: no setting puts the same image on both sides"
    ]
