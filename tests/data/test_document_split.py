from __future__ import annotations

import pytest

from calmkit.data.document_split import (
    check_fraction,
    choose_valid,
    document_hash,
    is_valid_by_threshold,
)


def test_a_hash_is_fixed_and_differs_by_seed():
    # blake2b(b"a", digest_size=8, key=b"0"), little-endian: fixed for good, or old splits would change
    assert document_hash("a") == 1476484591048093314
    assert document_hash("a") != document_hash("a", seed=1) != document_hash("a", seed=-1)


def test_takes_by_hash_what_fits():
    # room 30 of 100: hash 1 (size 20) fits, 2 (size 40) doesn't, 3 (size 10) fills it up, 4 (size 30) is late
    assert choose_valid([(4, 30), (2, 40), (1, 20), (3, 10)], 0.3) == {1, 3}


def test_takes_the_smallest_where_none_fits():
    assert choose_valid([(1, 60), (2, 40)], 0.1) == {2}


def test_copies_count_as_one_document():
    # both copies together have 60 of 100, too much for 30
    assert choose_valid([(1, 30), (1, 30), (2, 25), (3, 15)], 0.3) == {2}


@pytest.mark.parametrize("sizes", [[], [(1, 5)], [(1, 5), (1, 5)]])
def test_one_document_cannot_be_split(sizes):
    assert choose_valid(sizes, 0.5) == frozenset()


def test_the_share_is_nearly_the_one_asked_for():
    texts = [f"document {i} " * (1 + i % 50) for i in range(2000)]
    sizes = [(document_hash(text), len(text)) for text in texts]
    held = choose_valid(sizes, 0.05)
    share = sum(size for key, size in sizes if key in held) / sum(size for _, size in sizes)
    assert 0.0495 < share <= 0.05  # what is missing is less than one document in two thousand


def test_the_threshold_holds_a_share_of_a_stream():
    held = sum(is_valid_by_threshold(f"text {i}", 0.25) for i in range(4000))
    # the hash is fixed, so this is one number; 5 sigma of a fair one are 5 sqrt(4000 * 0.25 * 0.75) = 137
    assert abs(held - 1000) < 137


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5])
def test_an_impossible_fraction_is_refused(fraction):
    with pytest.raises(ValueError, match=rf"text: valid_fraction must lie between 0 and 1, got {fraction}"):
        check_fraction("text", fraction)
