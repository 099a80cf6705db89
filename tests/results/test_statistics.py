"""Two sources of chance, kept apart: t by hand, the bootstrap by law, ranks by what is settled."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from calmkit.results.statistics import (
    Interval,
    Table,
    difference,
    interval,
    ranks,
    read_table,
    replicates,
    t_975,
    t_interval,
)
from calmkit.text.metrics.described import COLUMNS, brier_lm_of


def table(rng: np.random.Generator, documents: int = 60, quality: float = 0.3, size: float = 20.0) -> Table:
    """Documents of uneven difficulty; accuracy falls with n, nothing collides."""
    found = {}
    for document in range(documents):
        hard = rng.uniform(0.5, 1.5)
        accuracy = [size * min(1.0, quality * hard) / n for n in (1, 2, 3, 4)]
        found[document] = np.array([*accuracy, 0, 0, 0, 0, size])
    return found


def test_student_by_hand() -> None:
    """1, 2, 3: mean 2, s = 1, t(2) = 4.3027, half the width 4.3027 / sqrt(3) = 2.4841."""
    low, high = t_interval([1.0, 2.0, 3.0])
    assert (low, high) == (pytest.approx(2 - 2.4841, abs=1e-4), pytest.approx(2 + 2.4841, abs=1e-4))
    assert t_interval([1.0]) == (None, None)
    low, _ = t_interval([0.0, 2.0])  # s = sqrt 2, over sqrt 2: 1 * 12.7062
    assert low == pytest.approx(1 - 12.7062, abs=1e-4)
    assert t_interval([5.0] * 40) == (5.0, 5.0)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (30, 2.0423), (31, 2.0395), (40, 2.0211), (120, 1.9799), (1000, 1.9623)],
)
def test_student_as_printed_tables_have_it(freedom: int, quantile: float) -> None:
    """Four digits of t_{0.975}: nothing ends at 30 degrees of freedom, and 1.9600 is reached by nobody."""
    assert t_975(freedom) == pytest.approx(quantile, abs=5e-5)


def test_the_quantile_falls_with_every_seed() -> None:
    """32 seeds, 31 degrees of freedom: half 0s, half 2s; s = sqrt(32 / 31), half the width t sqrt(1 / 31)."""
    quantiles = [t_975(freedom) for freedom in range(1, 200)]
    assert quantiles == sorted(quantiles, reverse=True)
    assert quantiles[-1] > 1.96
    _, high = t_interval([0.0, 2.0] * 16)
    assert high == pytest.approx(1 + 2.0395 / 31**0.5, abs=1e-5)


def test_brier_lm_by_hand() -> None:
    """Two positions; Brier-n = (2 a - c) / 2: 0.8, 0.4, 0.2, 0.1; their product is 0.0064."""
    sums = np.array([0.9, 0.5, 0.25, 0.125, 0.2, 0.2, 0.1, 0.05, 2.0])
    assert float(brier_lm_of(sums)) == pytest.approx(100 * (0.8 * 0.4 * 0.2 * 0.1) ** 0.25)
    sums[3] = 0.0  # Brier-4 is negative now
    assert float(brier_lm_of(sums)) == 0
    both = brier_lm_of(np.stack([sums, 2 * sums]))
    assert both.shape == (2,)


def test_the_text_interval_is_that_of_an_independent_bootstrap() -> None:
    """Against a plain loop with another generator: an end of 2000 replicates strays by 3 % of the width,
    and three times that has a chance far below 1e-3.
    """
    rng = np.random.default_rng(1)
    one = table(rng)
    drawn = replicates([[one]], brier_lm_of)
    assert drawn is not None
    other = np.random.default_rng(2)
    keys = list(one)
    loop = [float(brier_lm_of(sum(one[k] for k in other.choice(keys, len(keys))))) for _ in range(2000)]
    got = np.quantile(drawn[0], [0.025, 0.975])
    wanted = np.quantile(loop, [0.025, 0.975])
    assert got == pytest.approx(wanted, abs=0.1 * (wanted[1] - wanted[0]))


def test_pairs_share_documents_so_what_they_have_in_common_cancels() -> None:
    """Ours is theirs and a tenth more on every document: the difference is far surer than either score."""
    rng = np.random.default_rng(3)
    theirs = table(rng)
    ours = {document: sums * np.array([1.1] * 4 + [1.0] * 5) for document, sums in theirs.items()}
    scores = [float(brier_lm_of(sum(one.values()))) for one in (ours, theirs)]
    drawn = replicates([[ours], [theirs]], brier_lm_of)
    assert drawn is not None
    alone = interval([scores[0]], drawn[0])
    apart = difference({1: scores[0]}, {1: scores[1]}, {1: ours}, {1: theirs}, brier_lm_of)
    assert apart is not None
    assert None not in (apart.text_low, apart.text_high, alone.text_low, alone.text_high)
    assert apart.text_high - apart.text_low < 0.2 * (alone.text_high - alone.text_low)
    assert apart.text_low > 0
    assert apart.mean == pytest.approx(0.1 * scores[1])
    assert apart.settled == 0  # one seed leaves it open


def test_differences_are_over_the_seeds_that_both_have() -> None:
    apart = difference({1: 3.0, 2: 4.0, 9: 100.0}, {1: 1.0, 2: 3.0, 3: -5.0})
    assert apart is not None
    assert (apart.mean, apart.seeds) == (1.5, 2)
    half = pytest.approx(12.7062 / 2, abs=1e-4)  # differences 2 and 1: s = sqrt(1 / 2), over sqrt 2
    assert (1.5 - apart.seed_low, apart.seed_high - 1.5) == (half, half)
    assert difference({1: 3.0}, {2: 3.0}) is None


def test_too_few_documents_or_a_missing_table_give_no_text_interval() -> None:
    rng = np.random.default_rng(4)
    assert replicates([[table(rng, documents=9)]], brier_lm_of) is None
    assert replicates([[table(rng), {}]], brier_lm_of) is None
    assert replicates([], brier_lm_of) is None
    alone, apart = table(rng, documents=30), {k + 25: v for k, v in table(rng, documents=30).items()}
    assert replicates([[alone], [apart]], brier_lm_of) is None  # five in common


@pytest.mark.parametrize(
    ("bounds", "settled"),
    [
        ((0.1, 0.5, 0.2, 0.3), 1),
        ((-0.5, -0.1, -0.3, -0.2), -1),
        ((-0.1, 0.5, 0.2, 0.3), 0),  # the seeds leave it open
        ((0.1, 0.5, -0.2, 0.3), 0),  # the text does
        ((None, None, 0.2, 0.3), 0),  # one seed
        ((0.1, 0.5, None, None), 1),  # a measure without a table by document
    ],
)
def test_settled_wants_both_intervals_on_one_side(bounds: tuple[float | None, ...], settled: int) -> None:
    assert Interval(0.0, 3, *bounds).settled == settled


def test_ranks_by_hand() -> None:
    """a beats c, b beats c, a and b are open, d is open to all: 1-3, 1-3, 3-4, 1-4."""
    settled = [[0, 0, 1, 0], [0, 0, 1, 0], [-1, -1, 0, 0], [0, 0, 0, 0]]
    assert ranks(settled) == [(1, 3), (1, 3), (3, 4), (1, 4)]
    total = [[0, 1, 1], [-1, 0, 1], [-1, -1, 0]]
    assert ranks(total) == [(1, 1), (2, 2), (3, 3)]


def test_coverage_of_the_text_interval() -> None:
    """Samples of 60 documents from a known law: the truth lies within in 95 %, give or take.

    With 100 samples and a true coverage of .93 (percentile intervals are a little short), 84 or fewer hits
    have a chance of 0.1 %.
    """
    truth_of = [table(np.random.default_rng(1000 + i), documents=200) for i in range(20)]
    truth = float(brier_lm_of(sum(sums for one in truth_of for sums in one.values())))
    hits = 0
    for seed in range(100):
        drawn = replicates([[table(np.random.default_rng(seed))]], brier_lm_of)
        assert drawn is not None
        low, high = np.quantile(drawn[0], [0.025, 0.975])
        hits += low <= truth <= high
    assert hits > 84


def test_tables_are_read_as_they_are_written(tmp_path: Path) -> None:
    import torch

    from calmkit.training.groups import groups_file, write_groups

    evaluation = tmp_path / "evaluation.json"
    lines = torch.tensor([[7.0, *[0.5] * 4, *[0.25] * 4, 3.0], [9.0, *[1 / 3] * 4, *[0.0] * 4, 2.0]])
    write_groups(evaluation, "document", (COLUMNS, lines))
    found = read_table(groups_file(evaluation, "document"), COLUMNS[1:])
    assert list(found) == [7, 9]
    assert found[7].tolist() == lines[0, 1:].tolist()
    assert math.isclose(found[9][0], 1 / 3, rel_tol=1e-9)
    assert read_table(tmp_path / "nothing.csv", COLUMNS[1:]) == {}
    write_groups(evaluation, "document", None)  # another evaluation, of text whose documents are not known
    assert read_table(groups_file(evaluation, "document"), COLUMNS[1:]) == {}
