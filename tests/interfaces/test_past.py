from __future__ import annotations

import torch

from calmkit.interfaces import Context, Past


def test_the_past_of_rows_by_hand() -> None:
    """Units 5, 6, 7 of which the first is not real; two before each, and before the one that would follow."""
    data, valid = torch.tensor([[[5], [6], [7]]]), torch.tensor([[False, True, True]])
    past = Past.of_rows(data, valid, 2)
    assert past.data[0, :, :, 0].tolist() == [[0, 0], [0, 5], [5, 6], [6, 7]]
    assert past.known[0].tolist() == [[False, False], [False, False], [False, True], [True, True]]


def test_the_past_of_the_next_unit_is_this_one_and_this_unit() -> None:
    data, valid = torch.randint(9, (2, 5, 3)), torch.ones(2, 5, dtype=torch.bool)
    for num in (1, 2, 7):
        past = Past.of_rows(data, valid, num)
        then = past[:, :-1].then(data)
        assert then.data.equal(past.data[:, 1:])
        assert then.known.equal(past.known[:, 1:])


def test_a_context_hands_its_past_on_where_it_is_indexed() -> None:
    data, valid = torch.randint(9, (2, 5, 3)), torch.ones(2, 5, dtype=torch.bool)
    past = Past.of_rows(data, valid, 2)[:, :-1]
    keep = torch.rand(2, 5) < 0.5
    context = Context(torch.randn(2, 5, 4)).behind(past)
    for index in (keep, slice(1, None), (slice(None), -1)):
        found = context[index].past
        assert found is not None
        assert found.data.equal(past.data[index])
        assert found.known.equal(past.known[index])
    assert Context(torch.randn(2, 4))[:1].past is None
