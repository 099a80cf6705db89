from __future__ import annotations

import itertools

import pytest
from torch.utils.data import DistributedSampler

from calmkit.data.order import NO_ROW, SeededOrder, evaluation_order, training_order


def test_training_order_is_a_function_of_seed_and_epoch():
    first = training_order(100, seed=3, epoch=5).tolist()
    assert training_order(100, seed=3, epoch=5).tolist() == first
    assert sorted(first) == list(range(100))
    # two random orders of 100 rows are equal with probability 1 / 100! < 1e-157
    orders = {tuple(training_order(100, s, e).tolist()) for s in range(3) for e in range(3)}
    assert len(orders) == 9


@pytest.mark.parametrize(("num_rows", "world_size"), [(12, 3), (13, 3), (14, 4), (2, 3)])
def test_ranks_share_the_rows_of_training(num_rows, world_size):
    whole = training_order(num_rows, 0, 0).tolist()
    shares = [training_order(num_rows, 0, 0, rank, world_size).tolist() for rank in range(world_size)]
    assert {len(share) for share in shares} == {num_rows // world_size}
    together = [row for share in shares for row in share]
    assert sorted(together) == sorted(whole[: len(together)])  # all different, a tail left out
    # step i takes the same rows as one process with a batch `world_size` times as large
    assert [row for turn in zip(*shares, strict=True) for row in turn] == whole[: len(together)]


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


@pytest.mark.parametrize("options", [{"train": True}, {"train": False}, {"train": False, "max_rows": 4}])
@pytest.mark.parametrize("world_size", [1, 3])
def test_the_sampler_is_these_functions(options, world_size):
    for rank in range(world_size):
        order = SeededOrder(11, seed=2, rank=rank, world_size=world_size, **options)
        order.set_epoch(4)
        if options["train"]:
            expected = training_order(11, 2, 4, rank, world_size)
        else:
            expected = evaluation_order(11, rank, world_size, options.get("max_rows"))
        assert list(order) == list(order) == expected.tolist()
        assert len(order) == len(expected)


def test_lightning_leaves_it_alone():
    assert isinstance(SeededOrder(3, train=True), DistributedSampler)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="must be 0 or more, got -1"):
        SeededOrder(3, seed=-1, train=True)
    with pytest.raises(ValueError, match="max_eval_rows must be at least 1, got 0"):
        SeededOrder(3, train=False, max_rows=0)


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
