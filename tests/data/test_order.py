from __future__ import annotations

import itertools

import pytest
from torch.utils.data import DistributedSampler

from calmkit.data.order import NO_ROW, EvaluationOrder, TrainingStream, epoch_order, evaluation_order


def test_an_epoch_is_a_permutation_by_seed_and_number():
    first = epoch_order(100, seed=3, epoch=5).tolist()
    assert epoch_order(100, seed=3, epoch=5).tolist() == first
    assert sorted(first) == list(range(100))
    # two random orders of 100 rows are equal with probability 1 / 100! < 1e-157
    orders = {tuple(epoch_order(100, s, e).tolist()) for s in range(3) for e in range(3)}
    assert len(orders) == 9


def places(count: int, **options: int) -> list[list[int]]:
    return list(itertools.islice(TrainingStream(10, seed=4, **options), count))


def test_the_stream_by_hand():
    """Batches of 4 of 10 rows: the third holds the end of epoch 0 and the beginning of epoch 1."""
    first, second = (epoch_order(10, 4, epoch).tolist() for epoch in (0, 1))
    batches = places(3, batch_size=4)
    assert batches == [first[:4], first[4:8], [*first[8:], *(10 + row for row in second[:2])]]


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_what_one_process_reads(world_size):
    whole = places(7, batch_size=2 * world_size)
    shares = [places(7, batch_size=2, rank=rank, world_size=world_size) for rank in range(world_size)]
    for number, batch in enumerate(whole):
        turns = zip(*(share[number] for share in shares), strict=True)
        assert [place for turn in turns for place in turn] == batch


@pytest.mark.parametrize(("before", "after"), [((3, 4), (3, 4)), ((4, 3), (2, 8)), ((6, 5), (15, 2))])
def test_a_stream_goes_on_with_another_batch(before, after):
    """Every row once, whatever the sizes: 30 rows are 3 epochs of 10."""
    (size, count), (other, more) = before, after
    begun = places(count, batch_size=size)
    seen = size * count
    went_on = places(more, batch_size=other, start=seen)
    together = [place for batch in (*begun, *went_on) for place in batch]
    whole = [place for batch in places(len(together), batch_size=1) for place in batch]
    assert together == whole
    epochs = len(together) // 10
    assert sorted(together[: 10 * epochs]) == list(range(10 * epochs))


@pytest.mark.parametrize(("num_rows", "world_size"), [(12, 3), (13, 3), (14, 4), (2, 3)])
def test_ranks_share_the_rows_of_evaluation(num_rows, world_size):
    shares = [evaluation_order(num_rows, rank, world_size).tolist() for rank in range(world_size)]
    assert {len(share) for share in shares} == {-(-num_rows // world_size)}
    together = [row for share in shares for row in share]
    assert sorted(row for row in together if row != NO_ROW) == list(range(num_rows))
    assert together.count(NO_ROW) == -num_rows % world_size


def test_evenly_spaced_rows_by_hand():
    assert evaluation_order(12, max_rows=3).tolist() == [2, 6, 10]  # middles of 0-3, 4-7, 8-11
    assert evaluation_order(10, max_rows=4).tolist() == [1, 3, 6, 8]
    assert evaluation_order(5, max_rows=9).tolist() == evaluation_order(5).tolist() == [0, 1, 2, 3, 4]
    assert evaluation_order(12, max_rows=2, among=6).tolist() == [3, 9]  # of 1, 3, 5, 7, 9, 11
    assert evaluation_order(12, max_rows=9, among=3).tolist() == [2, 6, 10]  # no more than there are
    assert [evaluation_order(12, rank, 2, max_rows=3).tolist() for rank in (0, 1)] == [[2, 10], [6, NO_ROW]]


@pytest.mark.parametrize("max_rows", [None, 4])
@pytest.mark.parametrize("world_size", [1, 3])
def test_the_sampler_is_this_function(max_rows, world_size):
    for rank in range(world_size):
        order = EvaluationOrder(11, rank=rank, world_size=world_size, max_rows=max_rows)
        expected = evaluation_order(11, rank, world_size, max_rows)
        assert list(order) == list(order) == expected.tolist()
        assert len(order) == len(expected)


def test_lightning_leaves_it_alone():
    assert isinstance(EvaluationOrder(3), DistributedSampler)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="must be 0 or more, got -1"):
        TrainingStream(3, seed=-1, batch_size=1)
    with pytest.raises(ValueError, match="0 rows from 0"):
        TrainingStream(0, seed=0, batch_size=1)
    with pytest.raises(ValueError, match="max_eval_rows must be at least 1, got 0"):
        EvaluationOrder(3, max_rows=0)


@pytest.mark.parametrize("num_rows", [5, 100, 256, 1017])
@pytest.mark.parametrize(("few", "many"), [(16, 256), (3, 64), (64, 64), (300, 16)])
def test_the_rows_on_the_way_are_rows_of_the_table(num_rows: int, few: int, many: int) -> None:
    """So that a curve and its end speak of the same text; and they are spread evenly, not its beginning."""
    table = evaluation_order(num_rows, max_rows=many).tolist()
    way = evaluation_order(num_rows, max_rows=few, among=many).tolist()
    assert set(way) <= set(table)
    assert len(set(way)) == len(way) == min(few, len(table))
    places = [table.index(row) for row in way]
    gaps = {b - a for a, b in itertools.pairwise(places)}
    assert not gaps or max(gaps) - min(gaps) <= 1
