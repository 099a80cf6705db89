from __future__ import annotations

import pytest
import torch
from torch import Tensor

from calmkit.samplers import chunk_counts
from calmkit.samplers.chunk_counts import count_labels, label_chunks


def require_labels(ids: Tensor) -> None:
    labels = label_chunks(ids)
    same = (ids[:, None] == ids).all(-1)
    assert (labels[:, None] == labels).equal(same)
    assert labels.min() >= 0
    assert labels.max() < len(ids)
    assert count_labels(labels).equal(same.sum(0))


@pytest.mark.parametrize("chunk_size", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("top", [1, 2**8, 2**15, 2**16 - 1, 2**16, 2**31 - 1, 2**32 - 1])
def test_labels_are_equal_where_chunks_are(chunk_size: int, top: int) -> None:
    """At the ends of what fits a word, and beyond: few different chunks, some apart in one token only."""
    require_labels(torch.randint(2, (17, 6, chunk_size)) * top)
    require_labels(top - torch.randint(3, (40, 3, chunk_size)).clamp(max=top))


def test_labels_follow_any_whole_number_type() -> None:
    require_labels(torch.randint(3, (17, 6, 4)).to(torch.int32))
    require_labels(torch.randint(3, (5, 7, 4)).transpose(0, 1))  # not contiguous
    require_labels(torch.randint(3, (9, 1, 4)).expand(9, 5, 4))


def test_a_single_draw_and_no_row() -> None:
    assert label_chunks(torch.tensor([[[4, 5], [6, 7]]])).tolist() == [[0, 0]]
    assert label_chunks(torch.zeros(5, 0, 4, dtype=torch.long)).shape == (5, 0)


def test_rows_do_not_mix() -> None:
    """The same chunks in every row: each row has labels of its own, all of its own draws."""
    ids = torch.arange(50)[:, None, None].expand(50, 20, 4)
    labels = label_chunks(ids)
    assert all(sorted(column) == list(range(50)) for column in labels.T.tolist())


def test_chunks_that_share_every_slot_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a multiplier of 0 every key falls into one slot, in every turn: the worst that hashing can do."""
    monkeypatch.setattr(chunk_counts, "MULTIPLIER", 0)
    require_labels(torch.randint(3, (30, 4, 6)))


def test_counts_by_hand() -> None:
    labels = torch.tensor([[0, 1], [0, 0], [2, 0]])
    assert count_labels(labels).tolist() == [[2, 1], [2, 2], [1, 2]]
