from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import LAWS
from torch.nn import functional as F

from calmkit.text.metrics import latent_geometry
from calmkit.text.metrics.latent_geometry import (
    hamming,
    mean_hamming,
    nearest_other,
    nearness,
    path_changes,
    path_strangers,
    random_pairs,
    ranks,
    read_paths,
    spearman,
)


def test_paths_by_hand() -> None:
    straight = torch.tensor([[[1, 2], [1, 4], [3, 4]]])  # both tokens change, once each
    assert path_changes(straight) == 1
    assert path_strangers(straight) == 0
    detour = torch.tensor([[[0], [0], [1], [2]]])  # one token must change; two changes; 1 is nobody's
    assert path_changes(detour) == 2
    assert path_strangers(detour) == 0.5
    # there and back: no pair of ends differs at that position, yet it counts
    both = torch.tensor([[[0, 7], [1, 8], [1, 7]]])
    assert path_changes(both) == 3
    assert path_strangers(both) == 0.5
    assert math.isnan(path_changes(torch.zeros(1, 3, 2, dtype=torch.long)))


@LAWS
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 6), st.integers(1, 3))
def test_every_token_that_must_change_does(seed: int, paths: int, points: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, (paths, points, size), generator=generator)
    assert not path_changes(ids) < 1  # or NaN
    assert path_changes(ids.flip(1)) == pytest.approx(path_changes(ids), nan_ok=True)


def test_a_line_is_read_at_equal_steps() -> None:
    start, end = torch.tensor([[0.0, 8.0]]), torch.tensor([[4.0, 0.0]])
    ids = read_paths(lambda z: z.long(), start, end, steps=4)
    assert ids.tolist() == [[[0, 8], [1, 6], [2, 4], [3, 2], [4, 0]]]


def test_random_pairs_are_all_the_pairs_of_two() -> None:
    one, other = random_pairs(3, 2000, torch.Generator().manual_seed(0))
    counts = torch.zeros(3, 3).index_put_((one, other), torch.ones(2000), accumulate=True)
    assert counts.diagonal().tolist() == [0, 0, 0]
    off = counts[~torch.eye(3, dtype=torch.bool)]
    assert (off / 2000 - 1 / 6).abs().max() < 6 * math.sqrt(5 / 36 / 2000)  # once in 1e8 seeds


def test_hamming_by_hand_and_over_all_pairs() -> None:
    assert hamming(torch.tensor([[1, 2, 3]]), torch.tensor([[1, 3, 2]])).tolist() == [2 / 3]
    chunks = torch.randint(3, (12, 4))
    pairs = [hamming(chunks[i : i + 1], chunks[j : j + 1]).item() for i in range(12) for j in range(i)]
    assert mean_hamming(chunks) == pytest.approx(sum(pairs) / len(pairs))


def test_nearest_other_by_hand_and_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert nearest_other(torch.tensor([[0.0], [1.0], [3.0]])).tolist() == [1, 0, 1]
    chunks = torch.tensor([[1.0, 2.0, 9.0], [1.0, 2.0, 1.0], [7.0, 7.0, 9.0]])
    assert nearest_other(chunks, 0.0).tolist() == [1, 0, 0]  # by value the first is near neither
    points = torch.randn(40, 3)
    whole = nearest_other(points)
    far = torch.cdist(points, points) + torch.eye(40) * 100
    assert torch.equal(whole, far.argmin(1))
    monkeypatch.setattr(latent_geometry, "NEIGHBOUR_BLOCK", 7)
    assert torch.equal(nearest_other(points), whole)


def test_ranks_and_spearman_by_hand() -> None:
    assert ranks(torch.tensor([5.0, 1.0, 5.0, 7.0])).tolist() == [2.5, 1.0, 2.5, 4.0]
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert spearman(x, torch.tensor([1.0, 3.0, 2.0, 4.0])) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert spearman(x, -x.exp()) == pytest.approx(-1)
    assert spearman(x, torch.tensor([0.0, 0.0, 1.0, 1.0])) == pytest.approx(4 / math.sqrt(5 * 4))
    assert math.isnan(spearman(x, torch.ones(4)))
    assert math.isnan(spearman(x[:2], x[:2]))


def test_nearness_by_hand() -> None:
    chunks = torch.tensor([[0, 0], [1, 1], [0, 9]])
    found = nearness(chunks, torch.tensor([[0.0], [1.0], [3.0]]), torch.Generator().manual_seed(0))
    assert found["neighbour_hamming"] == 1  # the nearest latents are 1, 0, 1; no token is shared
    assert found["closest_hamming"] == pytest.approx((0.5 + 1 + 0.5) / 3)  # as ids 9 is no further than 1
    assert found["random_hamming"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert found["distance_rank_correlation"] < 0  # the distances 1, 2, 3 go with 1, 1, 1/2


def test_latents_that_are_the_text_are_as_near_as_it() -> None:
    chunks = torch.cartesian_prod(*[torch.arange(4)] * 3)
    mean = F.one_hot(chunks).double().flatten(1)  # |m - m'|^2 = 2 K hamming
    found = nearness(chunks, mean, torch.Generator().manual_seed(0))
    assert found["distance_rank_correlation"] == pytest.approx(1)
    assert found["neighbour_hamming"] == pytest.approx(1 / 3)
    assert found["closest_hamming"] == pytest.approx(1 / 3)
    assert found["random_hamming"] == pytest.approx(0.75 * 64 / 63)


def test_latents_that_know_nothing_have_random_neighbours() -> None:
    chunks = torch.cartesian_prod(*[torch.arange(10)] * 3)
    found = nearness(chunks, torch.randn(1000, 8), torch.Generator().manual_seed(0))
    # standard errors of 1000 shares of three tokens, and of a correlation over 4096 pairs of 1000 points:
    # 0.0055 and 0.016; neighbours share chunks, so twice the first: 6 of them, once in 1e8 seeds
    assert found["neighbour_hamming"] == pytest.approx(found["random_hamming"], abs=0.066)
    assert abs(found["distance_rank_correlation"]) < 6 * 0.016
    assert found["closest_hamming"] == pytest.approx(1 / 3)
