"""Corpora, rows and the known law of series."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from calmkit_series.bars import crps_of_normal
from calmkit_series.corpus import Stretch
from calmkit_series.csv_corpus import CsvCorpus
from calmkit_series.law import best_by_unit
from calmkit_series.measures import crps, energy_score
from calmkit_series.rows import SeriesRows
from calmkit_series.waves import WavesCorpus

from calmkit.interfaces import DataError

TABLE = "time,a,b\n0,1.0,10\n1,2.0,20\n2,3.0,30\n3,4.0,40\n4,5.0,50\n"


def table(folder: Path, text: str = TABLE) -> str:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def told(stretches: list[Stretch]) -> list[tuple[int, list[float]]]:
    return [(one.series, one.values.tolist()) for one in stretches]


def test_columns_are_series_and_the_last_values_are_held_out(tmp_path: Path) -> None:
    corpus = CsvCorpus(train=table(tmp_path), columns=["a", "3"], valid_fraction=0.4)
    assert told(corpus.stretches("train")) == [(0, [1.0, 2.0, 3.0]), (1, [10.0, 20.0, 30.0])]
    assert told(corpus.stretches("valid")) == [(0, [4.0, 5.0]), (1, [40.0, 50.0])]


def test_a_file_without_a_header_gives_all_its_columns(tmp_path: Path) -> None:
    corpus = CsvCorpus(train=table(tmp_path, "1;2\n3;4\n"), delimiter=";", valid_fraction=0.5)
    assert told(corpus.stretches("train")) == [(0, [1.0]), (1, [2.0])]


def test_a_broken_line_is_named_and_refused(tmp_path: Path) -> None:
    corpus = CsvCorpus(train=table(tmp_path, TABLE.replace("3.0", "nan")), columns=["a"])
    with pytest.raises(DataError, match=r"table.csv:4: column 2 holds 'nan'.*data.on_bad=skip"):
        corpus.stretches("train")


def test_a_skipped_line_leaves_a_gap_and_is_told(tmp_path: Path) -> None:
    path = table(tmp_path, TABLE.replace("3.0,30", "3.0"))
    corpus = CsvCorpus(train=path, columns=["b"], on_bad="skip", max_bad=0.5, valid_fraction=0.25)
    assert told(corpus.stretches("train")) == [(0, [10.0, 20.0]), (0, [40.0])]
    assert told(corpus.stretches("valid")) == [(0, [50.0])]
    (note,) = corpus.notes()
    assert "skipped 1 bad line of 5" in note
    assert "table.csv:4 (too few cells)" in note


def test_more_bad_lines_than_allowed_are_refused(tmp_path: Path) -> None:
    corpus = CsvCorpus(train=table(tmp_path, TABLE.replace("3.0", "x")), on_bad="skip")
    with pytest.raises(DataError, match=r"1 of 5 lines is bad \(20 %\), more than data.max_bad allows"):
        corpus.stretches("train")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": ["c"]}, r"table.csv has no column 'c' \(data.columns\); there are: time, a, b"),
        ({"train": "nowhere.csv"}, "data.train: there is no file nowhere.csv"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        CsvCorpus(**{"train": table(tmp_path), **settings}).stretches("train")  # type: ignore[arg-type]


def test_identity_follows_the_numbers_and_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    first, copy = CsvCorpus(train=table(tmp_path)), CsvCorpus(train=table(tmp_path / "copy"))
    assert first.identity() == copy.identity()
    assert first.identity() != CsvCorpus(train=table(tmp_path), valid_fraction=0.4).identity()


def test_rows_are_cut_where_a_stretch_ends() -> None:
    rows = SeriesRows([Stretch(0, np.arange(7.0)), Stretch(4, np.arange(3.0))], length=4, width=2)
    batch = rows.__getitems__([0, 1, 2, -1])
    assert batch.data.tolist()[:2] == [[[0, 1], [2, 3]], [[4, 5], [6, 0]]]
    assert batch.valid.tolist() == [[True, True], [True, False], [True, False], [False, False]]
    assert batch.group is not None
    assert batch.group[:3, 0].tolist() == [0, 0, 4]


def test_waves_obey_their_recursion() -> None:
    """Residuals of the recursion are pushes: mean 0, deviation `noise`. 32,000 of them; a false alarm lies
    beyond 5 standard errors of either, less than once in a million.
    """
    corpus = WavesCorpus(noise=0.5, train_series=500, length=66)
    x = np.stack([one.values for one in corpus.stretches("train")])
    pushes = x[:, 2:] - corpus.first * x[:, 1:-1] - corpus.second * x[:, :-2]
    assert abs(pushes.mean()) < 5 * 0.5 / math.sqrt(pushes.size)
    assert abs(pushes.std() - 0.5) < 5 * 0.5 / math.sqrt(2 * pushes.size)


def test_covariance_by_hand() -> None:
    # without a wave (period 4: the first coefficient is 0) x_t = -r^2 x_{t-2} + e: variance 1 / (1 - r^4)
    corpus = WavesCorpus(period=4.0, damping=0.5, noise=1.0)
    variance = 1 / (1 - 0.5**4)
    expected = variance * np.array([[1, 0, -0.25], [0, 1, 0], [-0.25, 0, 1]])
    np.testing.assert_allclose(corpus.covariance(3), expected, atol=1e-12)


def test_best_scores_by_hand() -> None:
    # independent values of deviation 2: CRPS 2 / sqrt(pi), entropy log(2 sqrt(2 pi e)), whatever the unit
    crps_best, nats_best = best_by_unit(4 * np.eye(4), 2)
    np.testing.assert_allclose(crps_best, 2 / math.sqrt(math.pi))
    np.testing.assert_allclose(nats_best, math.log(2 * math.sqrt(2 * math.pi * math.e)))
    # x_2 = x_1 + e: given x_1 the deviation is 1; the first value has 1 too
    crps_best, _ = best_by_unit(np.array([[1.0, 1.0], [1.0, 2.0]]), 1)
    np.testing.assert_allclose(crps_best, 1 / math.sqrt(math.pi))
    # as one unit nobody knows x_1 beforehand, so x_2 has the deviation sqrt(2)
    crps_best, nats_best = best_by_unit(np.array([[1.0, 1.0], [1.0, 2.0]]), 2)
    np.testing.assert_allclose(crps_best, (1 + math.sqrt(2)) / 2 / math.sqrt(math.pi))


def test_crps_by_hand() -> None:
    # draws 0 and 4, truth 3: distances 3 and 1, mean 2; 4 apart, half of it 2
    draws = torch.tensor([[[0.0]], [[4.0]]])
    assert float(crps(draws, torch.tensor([[3.0]]))) == pytest.approx(0.0)
    # draws (0, 0) and (3, 4), truth (3, 0): 3 and 4, mean 3.5; 5 apart, half of it 2.5
    draws, truth = torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]]]), torch.tensor([[3.0, 0.0]])
    assert float(energy_score(draws, truth)) == pytest.approx(1.0)


def test_crps_agrees_with_torchmetrics_but_for_its_pairs_of_a_draw_with_itself() -> None:
    functional = pytest.importorskip("torchmetrics.functional.regression.crps")
    draws, truth = torch.randn(5, 7, 1), torch.randn(7, 1)
    theirs = functional.continuous_ranked_probability_score(draws[..., 0].T, truth[:, 0])
    apart = (draws[:, None] - draws[None]).abs().sum((0, 1)).mean()
    ours = crps(draws, truth).mean()
    torch.testing.assert_close(ours, theirs + apart / (2 * 25) - apart / (2 * 20))


def test_crps_of_a_normal_law_is_what_many_draws_give() -> None:
    torch.manual_seed(0)
    truth = torch.tensor([[0.7]])
    exact = crps_of_normal(torch.tensor(0.5), torch.tensor(2.0), truth)
    draws = 0.5 + 2 * torch.randn(4000, 1, 1)
    torch.testing.assert_close(crps(draws, truth), exact[0], atol=0.05, rtol=0)
