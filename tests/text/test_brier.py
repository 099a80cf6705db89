from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from calmkit.metrics.blocks import ratio_standard_error
from calmkit.text.metrics.brier import BrierLM, bootstrap_interval, brier_lm, brier_terms


def one_token(values: list[int]) -> Tensor:
    """Continuations `[..., 4]` whose first token varies and whose other three are 0."""
    return torch.tensor([[value, 0, 0, 0] for value in values])


def expected_brier(p: list[float], q: list[float], num_draws: int) -> Tensor:
    """The estimator's expectation over every tuple of draws and every truth."""
    total = torch.zeros(4)
    for *draws, truth in itertools.product(range(len(p)), repeat=num_draws + 1):
        accuracy, collision = brier_terms(one_token(draws).unsqueeze(1), one_token([truth]))
        weight = np.prod([p[draw] for draw in draws]) * q[truth]
        total += weight * (2 * accuracy - collision)[0]
    return total


@pytest.mark.parametrize("num_draws", [2, 3, 4])
def test_brier_lm_estimator_is_unbiased_for_any_number_of_draws(num_draws: int) -> None:
    # E = 2 sum p q - sum p^2 = 2 (.7 * .6 + .3 * .4) - (.49 + .09) = .5; the other three tokens are certain
    assert torch.allclose(expected_brier([0.7, 0.3], [0.6, 0.4], num_draws), torch.full((4,), 0.5))


def test_brier_lm_is_best_at_the_truth() -> None:
    at_truth = expected_brier([0.6, 0.4], [0.6, 0.4], 2)[0]
    assert at_truth.item() == pytest.approx(0.52)
    for p in (0.5, 0.59, 0.61, 0.7):
        assert expected_brier([p, 1 - p], [0.6, 0.4], 2)[0] < at_truth


def test_brier_lm_of_certain_answers() -> None:
    """Draws that are always right score 1 for every n, and 100; always one wrong answer: 2 * 0 - 1, and 0."""
    truth = torch.randint(5, (6, 4))
    for draws, brier, score in ((truth, 1.0, 100.0), ((truth + 1) % 5, -1.0, 0.0)):
        accuracy, collision = brier_terms(draws.expand(3, 6, 4), truth)
        assert torch.equal(2 * accuracy - collision, torch.full((6, 4), brier))
        metric = BrierLM()
        metric.update(accuracy, collision, torch.arange(6))
        assert metric.compute()["brier_lm"].item() == score


def test_terms_count_prefixes_over_all_pairs() -> None:
    truth = torch.tensor([[1, 2, 3, 4, 9]])
    draws = torch.tensor([[1, 2, 3, 4, 0], [1, 2, 0, 4, 0], [1, 0, 3, 4, 0], [0, 2, 3, 4, 0]]).unsqueeze(1)
    accuracy, collision = brier_terms(draws, truth)
    # prefixes right: 3, 2, 1, 1 of 4 draws; pairs alike: {1,2} {1,3} {2,3}, then {1,2}, then none, of 6 pairs
    assert torch.allclose(accuracy, torch.tensor([[3, 2, 1, 1]]) / 4)
    assert torch.allclose(collision, torch.tensor([[3, 1, 0, 0]]) / 6)


@pytest.mark.parametrize(("draws", "tokens"), [(1, 4), (2, 3)])
def test_too_few_draws_or_tokens_are_refused(draws: int, tokens: int) -> None:
    with pytest.raises(ValueError, match="got"):
        brier_terms(torch.zeros(draws, 1, tokens, dtype=torch.long), torch.zeros(1, tokens, dtype=torch.long))


def test_brier_lm_is_a_percentage_and_two_negative_factors_give_nothing() -> None:
    assert brier_lm(torch.ones(4)).item() == pytest.approx(100)
    assert brier_lm(torch.tensor([0.4, 0.2, 0.1, 0.05])).item() == pytest.approx(100 * 0.0004**0.25)
    assert brier_lm(torch.tensor([0.4, 0.2, -0.1, -0.05])).item() == 0


def table(seed: int, rows: int, positions: int, mean: float = 0.4) -> tuple[Tensor, Tensor, Tensor]:
    """Terms of uneven rows, correlated within a row."""
    generator = torch.Generator().manual_seed(seed)
    row = torch.randint(rows, (positions,), generator=generator)
    shared = torch.rand(rows, 4, generator=generator)
    accuracy = mean * (shared[row] + torch.rand(positions, 4, generator=generator))
    collision = 0.2 * torch.rand(positions, 4, generator=generator)
    return accuracy, collision, row


def test_standard_errors_follow_the_cluster_formula() -> None:
    accuracy, collision, row = table(seed=1, rows=7, positions=60)
    metric = BrierLM()
    metric.update(accuracy, collision, row)
    result = metric.compute()
    score = (2 * accuracy - collision).numpy()
    rows = np.unique(row.numpy())
    brier = score.mean(0)
    sums = np.stack([score[row.numpy() == r].sum(0) for r in rows])
    counts = np.array([(row.numpy() == r).sum() for r in rows])
    residuals = sums - counts[:, None] * brier
    factor = len(rows) / (len(rows) - 1)
    for n in range(4):
        by_hand = np.sqrt(factor * (residuals[:, n] ** 2).sum()) / 60
        assert result[f"brier_{n + 1}"].item() == pytest.approx(brier[n])
        assert result[f"brier_{n + 1}_se"].item() == pytest.approx(by_hand)
        assert result[f"accuracy_{n + 1}"].item() == pytest.approx(accuracy[:, n].mean().item())
        assert result[f"collision_{n + 1}"].item() == pytest.approx(collision[:, n].mean().item())
    covariance = factor * residuals.T @ residuals / 60**2
    slope = 100 * brier.prod() ** 0.25 / (4 * brier)  # of the geometric mean
    assert result["brier_lm"].item() == pytest.approx(100 * brier.prod() ** 0.25)
    assert result["brier_lm_se"].item() == pytest.approx(np.sqrt(slope @ covariance @ slope))
    assert (result["units"].item(), result["rows"].item()) == (60, len(rows))


def test_rows_of_one_unit_give_the_textbook_standard_error() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 5.0])
    # mean 3, sum of squares 4 + 1 + 1 + 4 = 10, variance of the mean 10 / 3 / 4
    assert ratio_standard_error(values, torch.ones(4)).item() == pytest.approx((10 / 12) ** 0.5)


def test_the_interval_is_near_the_normal_one_where_that_holds() -> None:
    accuracy, collision, row = table(seed=2, rows=200, positions=4000)
    metric = BrierLM()
    metric.update(accuracy, collision, row)
    result = metric.compute()
    half = (result["brier_lm_high"] - result["brier_lm_low"]) / 2
    # Of 1000 replicates the share below an end has a standard deviation of sqrt(.025 * .975 / 1000) = .0049,
    # and the normal density there is .058: an end strays by .085 se, half the width by .06 se = 3.1 %. Five
    # times that has a chance of 6e-7.
    assert half.item() == pytest.approx(1.96 * result["brier_lm_se"].item(), rel=0.155)
    assert result["brier_lm_low"] < result["brier_lm"] < result["brier_lm_high"]


def test_a_negative_factor_gives_zero_and_an_honest_interval() -> None:
    accuracy, collision, row = table(seed=3, rows=20, positions=100)
    score = (2 * accuracy - collision)[:, 3]
    collision[:, 3] += score.mean() + 0.1 * score.std() / 10  # brier_4 just below 0, well within its noise
    metric = BrierLM()
    metric.update(accuracy, collision, row)
    result = metric.compute()
    assert result["brier_4"] < 0
    assert result["brier_lm"] == 0
    assert result["brier_lm_low"] == 0
    assert 0 < result["brier_lm_high"] < 100
    assert 0 < result["brier_lm_se"] < 100


def test_an_interval_is_certain_of_certain_rows_and_knows_nothing_from_one() -> None:
    sums, counts = torch.full((5, 4), 0.6), torch.full((5,), 2.0)
    assert [end.item() for end in bootstrap_interval(sums, counts)] == pytest.approx([30, 30])
    assert [end.item() for end in bootstrap_interval(sums[:1], counts[:1])] == [0, 100]


def test_two_processes_joined_equal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, whole = BrierLM(), BrierLM(), BrierLM()
    for rank, metric in enumerate((first, second)):
        batch = table(4 + rank, rows=5, positions=30)
        metric.distributed_available_fn = lambda: True
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        metric.update(*batch)
        whole.update(*batch)
    joined = BrierLM()
    joined.lines = [torch.cat([*first.lines, *second.lines])]  # what a gather of "cat" states leaves
    expected = whole.compute()
    joined.update(torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))  # an empty batch
    for name, value in joined.compute().items():
        assert torch.equal(value, expected[name]), name


def test_a_document_is_one_block_however_many_rows_and_updates_it_spans() -> None:
    """Twelve documents, each over two rows of two updates: as if each were one row."""
    accuracy, collision, document = table(seed=6, rows=12, positions=200)
    halves, as_rows = BrierLM(), BrierLM()
    for part in (slice(0, 100), slice(100, 200)):
        rows = torch.arange(100) // 10
        halves.update(accuracy[part], collision[part], rows, document[part])
    as_rows.update(accuracy, collision, document)
    got, wanted = halves.compute(), as_rows.compute()
    for name in ("brier_lm", "brier_lm_low", "brier_lm_high", "brier_lm_se", "brier_2_se"):
        assert got[name].item() == pytest.approx(wanted[name].item(), abs=1e-12), name
    assert [got[name].item() for name in ("rows", "documents", "blocks")] == [20, 12, 12]
    assert [wanted[name].item() for name in ("rows", "documents", "blocks")] == [12, 0, 12]
    assert as_rows.per_document is None
    assert halves.per_document is not None
    third = halves.per_document[3]
    assert third[0] == 3
    assert third[1:5].tolist() == pytest.approx(accuracy[document == 3].sum(0).tolist())
    assert third[5:9].tolist() == pytest.approx(collision[document == 3].sum(0).tolist())
    assert third[9] == (document == 3).sum()


def test_a_handful_of_documents_is_no_sample_so_rows_are_the_blocks() -> None:
    accuracy, collision, row = table(seed=7, rows=30, positions=200)
    few = BrierLM()
    few.update(accuracy, collision, row, row % 9)
    rows = BrierLM()
    rows.update(accuracy, collision, row)
    got, wanted = few.compute(), rows.compute()
    assert [got[name].item() for name in ("documents", "blocks")] == [9, 30]
    assert got["brier_lm_low"].item() == pytest.approx(wanted["brier_lm_low"].item(), abs=1e-12)


def test_nothing_seen_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="saw no position"), pytest.warns(UserWarning, match="before"):
        BrierLM().compute()
