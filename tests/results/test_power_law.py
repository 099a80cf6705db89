"""Power laws: exact numbers give exact exponents back, a stray run moves little, and intervals cover."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from calmkit.results.power_law import Runs, _widening, fit_law, unidentified

SIZES, LENGTHS = (3e4, 6e4, 12e4, 24e4), (2e5, 4e5, 8e5, 16e5)
ALPHA, BETA = 0.5, 0.4
PARTS = ((1.5, 0.3, 0.4), (2.0, 0.6, 0.1))


def runs(series: int = 1, noise: float = 0.0, seed: int = 0, copies: int = 1) -> Runs:
    """Losses of the law of ALPHA, BETA and PARTS, times exp(noise) of a Gaussian of that width."""
    grid = list(itertools.product(range(series), SIZES, LENGTHS, range(copies)))
    which, size, length = (np.array(values) for values in [*zip(*grid, strict=True)][:3])
    size0, length0 = 6e4 * 2**0.5, 4e5 * 2**0.5  # the means of the logarithms
    floor, a, b = np.array(PARTS)[which].T
    loss = floor + a * (size / size0) ** -ALPHA + b * (length / length0) ** -BETA
    rng = np.random.default_rng(seed)
    return Runs(which, size, length, loss * np.exp(noise * rng.normal(size=len(loss))))


def test_a_law_by_hand() -> None:
    """At N0 and D0 the loss is E + A + B; at four times N0 with alpha = 1/2, A halves."""
    law = fit_law(runs(), replicates=1)
    size, length = law.centre
    at = law.loss(0, np.array([size, 4 * size]), np.array([length, length]))
    assert at == pytest.approx([1.5 + 0.3 + 0.4, 1.5 + 0.15 + 0.4], abs=1e-5)


def test_exact_losses_give_exact_numbers_back() -> None:
    """Of two series that share their exponents; the interval of numbers without noise is a point."""
    law = fit_law(runs(series=2), replicates=3)
    assert law.numbers == pytest.approx([ALPHA, BETA, *PARTS[0], *PARTS[1]], abs=1e-4)
    assert law.interval(0) == pytest.approx((ALPHA, ALPHA), abs=1e-4)
    assert law.at_edge == 0


def test_one_stray_run_moves_little() -> None:
    """Half again its loss: least squares would put alpha far off; the others decide."""
    clean = runs(copies=2)
    loss = clean.loss.copy()
    loss[0] *= 1.5
    law = fit_law(Runs(clean.series, clean.size, clean.length, loss), replicates=1)
    assert law.numbers[:2] == pytest.approx([ALPHA, BETA], abs=0.02)
    assert law.apart[0] == pytest.approx(np.log(1.5), abs=0.02)


def test_intervals_cover_the_exponents_that_made_the_numbers() -> None:
    """Sixteen worlds of 0.3 % noise. At a rate of 0.95, fewer than 11 of 16 happen once in 12,000 times (of
    0.90, once in 300), for each of two exponents; and they say something: half are narrower than 0.25.
    """
    covered, widths = np.zeros(2), []
    for seed in range(16):
        law = fit_law(runs(noise=0.003, seed=seed), replicates=30)
        for place, true in enumerate((ALPHA, BETA)):
            low, high = law.interval(place)
            covered[place] += low <= true <= high
            widths.append(high - low)
    assert (covered >= 11).all(), covered
    assert np.median(widths) < 0.25


def test_differences_are_widened_for_what_was_fitted_by_hand() -> None:
    """16 runs and 5 numbers leave 11: sqrt(16 / 11) = 1.206, and Student's 2.201 over the normal 1.960."""
    assert _widening(16, 5) == pytest.approx((16 / 11) ** 0.5 * 2.201 / 1.960, abs=1e-3)


def test_the_same_runs_give_the_same_intervals() -> None:
    noisy = runs(noise=0.01)
    assert np.array_equal(fit_law(noisy, 5).replicates, fit_law(noisy, 5).replicates)


def part(keep: np.ndarray) -> Runs:
    whole = runs()
    return Runs(whole.series[keep], whole.size[keep], whole.length[keep], whole.loss[keep])


def test_a_grid_that_cannot_tell_says_why() -> None:
    whole = runs()
    assert unidentified(whole) == ""
    assert unidentified(part(whole.size < 1e5)).startswith("the sizes of a series are 30,000, 60,000, and 3")
    assert unidentified(part(whole.length > 5e5)).startswith(
        "the lengths of a series are 800,000, 1,600,000, and 3"
    )
    corner = (whole.size == 3e4) | (whole.length == 2e5)
    assert unidentified(part(corner)) == ""  # 7 cells, 5 numbers
    few = corner & (whole.size < 2e5) & (whole.length < 1e6)
    assert unidentified(part(few)) == "5 cells for 5 numbers to fit; there must be more"
    twice = runs(copies=2)
    again = np.isin(twice.size, SIZES[:3]) & (twice.length == 2e5) | (twice.size == 3e4) & (
        twice.length < 1e6
    )
    few_twice = Runs(twice.series[again], twice.size[again], twice.length[again], twice.loss[again])
    assert unidentified(few_twice).startswith("5 cells")  # a second seed is no other cell
    size = np.geomspace(1e4, 1e5, 6)
    line = Runs(np.zeros(6, dtype=int), size, 10 * size, np.ones(6))
    assert "go up and down together" in unidentified(line)


def test_what_has_no_logarithm_or_tells_no_law_is_refused() -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        fit_law(Runs(*[np.zeros(1, dtype=int)] * 4))
    with pytest.raises(ValueError, match="the sizes of a series are 30,000, and 3"):
        fit_law(part(runs().size == 3e4))
