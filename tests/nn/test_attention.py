"""Rotary positions, what units read, and the past that steps and branches keep."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from calmkit.nn.attention import attention, ffn_width, rotate, rotation, visible_units
from calmkit.nn.past import KeyValues, SharedPrefix, attention_and_lse, merge, slots


def test_rotation_turns_a_pair_by_position_times_frequency() -> None:
    # head width 4, theta 100: frequencies 100^0 = 1 and 100^(-1/2) = 0.1; at position 2 angles 2 and 0.2
    x = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 1, 4)  # pairs (x_0, x_2) and (x_1, x_3), both (1, 0)
    turned = rotate(x, rotation(torch.tensor([[2]]), 4, 100.0, x.dtype))
    by_hand = torch.tensor([math.cos(2), math.cos(0.2), math.sin(2), math.sin(0.2)])
    assert_close(turned.flatten(), by_hand)


def test_products_of_rotated_vectors_depend_on_the_distance_only() -> None:
    q, k = torch.randn(2, 1, 1, 1, 8)
    products = [
        (
            rotate(q, rotation(torch.tensor([[i + 3]]), 8, 1e4, q.dtype))
            * rotate(k, rotation(torch.tensor([[i]]), 8, 1e4, q.dtype))
        ).sum()
        for i in (0, 5, 1000)
    ]
    assert_close(products[1], products[0])
    assert_close(products[2], products[0])
    far = rotate(q, rotation(torch.tensor([[4]]), 8, 1e4, q.dtype)) * rotate(
        k, rotation(torch.tensor([[0]]), 8, 1e4, q.dtype)
    )
    assert not torch.isclose(far.sum(), products[0])


def test_rotation_in_bfloat16_knows_late_positions() -> None:
    # bfloat16 has 8 bits: 1001 would be read as 1000 if angles were taken in it
    late = rotation(torch.tensor([[1000, 1001]]), 2, 1e4, torch.bfloat16)[0].flatten()
    assert_close(late, torch.tensor([math.cos(1000), math.cos(1001)], dtype=torch.float32), atol=1e-4, rtol=0)


def test_visible_units_by_hand() -> None:
    valid = torch.tensor([[False, True, False, True]])
    assert visible_units(valid, 3)[0].long().tolist() == [
        [0, 1, 0, 0],  # unit 1 reads itself, not the invalid unit 0
        [0, 1, 1, 0],  # unit 2 is invalid and reads itself beside unit 1
        [0, 1, 0, 1],
    ]


def test_attention_of_equal_keys_is_the_running_mean() -> None:
    v = torch.tensor([3.0, 5.0, 10.0]).view(1, 1, 3, 1)
    q = k = torch.zeros(1, 1, 3, 1)
    assert_close(attention(q, k, v).flatten(), torch.tensor([3.0, 4.0, 6.0]))
    assert_close(attention(q[:, :, 1:], k, v).flatten(), torch.tensor([4.0, 6.0]))
    assert_close(attention(q[:, :, 2:], k, v).flatten(), torch.tensor([6.0]))


def test_grouped_heads_equal_repeated_keys() -> None:
    q, k, v = torch.randn(2, 6, 5, 4), torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    visible = visible_units(torch.ones(2, 5, dtype=torch.bool), 5)
    expected = attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))
    assert_close(attention(q, k, v), expected)
    assert_close(attention(q, k, v, visible), expected)
    assert_close(attention_and_lse(q, k, v, visible)[0], expected)


def test_merge_of_two_parts_is_attention_to_all() -> None:
    q, k, v = torch.randn(2, 4, 3, 4), torch.randn(2, 2, 7, 4), torch.randn(2, 2, 7, 4)
    visible = torch.rand(2, 3, 7) < 0.5
    visible[0, 0, :3] = False  # sees nothing of the first part
    visible[:, :, 6] = True
    parts = [attention_and_lse(q, k[:, :, s], v[:, :, s], visible[:, :, s]) for s in (slice(3), slice(3, 7))]
    assert_close(merge(*parts), attention(q, k, v, visible))


def test_log_sum_exp_by_hand() -> None:
    # scores 0 and ln 3 with width 1: the denominator is 1 + 3, the weights 1/4 and 3/4
    q, k = torch.ones(1, 1, 1, 1), torch.tensor([0.0, math.log(3)]).view(1, 1, 2, 1)
    mixed, lse = attention_and_lse(
        q, k, torch.tensor([4.0, 8.0]).view(1, 1, 2, 1), torch.ones(1, 1, 2).bool()
    )
    assert_close(mixed.item(), 7.0)
    assert_close(lse.item(), math.log(4))


def test_slots_by_hand() -> None:
    slot, width = slots(torch.tensor([1, 0, 1, 3, 1]), 4)
    assert slot.tolist() == [0, 0, 1, 0, 2]
    assert width == 3


def test_a_line_is_written_in_place_once_and_copied_for_an_older_holder() -> None:
    units = torch.arange(4.0).view(4, 1, 1, 1, 1)
    line = KeyValues(depth=1, room=4)
    line.claim(0, 1).append(0, 0, units[0], units[0])
    storage = line.buffers[0]
    ahead = line.claim(1, 1)
    ahead.append(0, 1, units[1], units[1])
    assert ahead is line
    assert ahead.buffers[0] is storage
    other = line.claim(1, 1)  # a second future of unit 0
    k, _ = other.append(0, 1, units[2], units[2])
    assert k.flatten().tolist() == [0.0, 2.0]
    assert storage is not None
    assert storage[0].flatten()[:2].tolist() == [0.0, 1.0]
    k, _ = line.claim(2, 1).append(0, 2, units[3], units[3])
    assert k.flatten().tolist() == [0.0, 1.0, 3.0]


def test_a_line_that_is_too_short_doubles() -> None:
    unit = torch.ones(1, 1, 1, 1)
    line = KeyValues(depth=1, room=1)
    sizes = []
    for length in range(6):
        line.claim(length, 1).append(0, length, unit * length, unit)
        sizes.append(line.buffers[0].shape[-2])  # type: ignore[union-attr]
    assert sizes == [1, 4, 4, 4, 10, 10]
    assert line.buffers[0][0].flatten()[:6].tolist() == [0, 1, 2, 3, 4, 5]  # type: ignore[index]


def test_gradients_flow_through_a_line() -> None:
    ks = torch.randn(3, 1, 1, 1, 1, requires_grad=True)
    line = KeyValues(depth=1, room=3)
    for length in range(3):
        k, _ = line.claim(length, 1).append(0, length, ks[length], ks[length])
        (k**2).sum().backward(retain_graph=True)
    assert_close(ks.grad, 2 * ks.detach() * torch.tensor([3.0, 2.0, 1.0]).view(3, 1, 1, 1, 1))


@pytest.mark.parametrize("owner", [[0, 0, 1], [1, 1, 1, 1], [0], []])
def test_shared_prefix_equals_a_copy_for_each_branch(owner: list[int]) -> None:
    rows = torch.tensor(owner, dtype=torch.long)
    keys, values, valid = torch.randn(2, 2, 5, 4), torch.randn(2, 2, 5, 4), torch.rand(2, 5) < 0.7
    seen = torch.randint(0, 6, (len(rows),))
    prefix = SharedPrefix(((keys, values),), valid, rows, seen, *slots(rows, 2))
    q, k, v = (
        torch.randn(len(rows), 4, 2, 4),
        torch.randn(len(rows), 2, 3, 4),
        torch.randn(len(rows), 2, 3, 4),
    )
    own = visible_units(torch.ones(len(rows), 3, dtype=torch.bool), 2)
    past = (valid[rows] & (torch.arange(5) < seen.unsqueeze(1))).unsqueeze(1).expand(-1, 2, -1)
    copied = attention(
        q, torch.cat([keys[rows], k], 2), torch.cat([values[rows], v], 2), torch.cat([past, own], 2)
    )
    assert_close(prefix.attention(0, q, k, v, None), copied)


def test_ffn_width_gives_the_sizes_of_calm() -> None:
    assert [ffn_width(dim) for dim in (768, 1024, 1536)] == [2048, 2752, 4096]
