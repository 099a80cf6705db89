"""Power law: how a loss falls with the size of a model and the length of its training.

    loss = E + A (N / N0)^-alpha + B (D / D0)^-beta        N0, D0: means of log N and log D over the runs

Several series of runs may share their two exponents; E, A and B are each series' own. N0 and D0 only set
where A and B are read: there they are the two parts of the loss that more size and more training would take
away.

The fit minimises Huber's loss of the differences in log loss, which a single run gone astray moves little.
Its width follows the spread of the differences, 1.345 of them, but is never below `NARROWEST`. Intervals
come from a bootstrap over runs: each replicate gives every run the fitted loss times a difference drawn
from all runs, widened by sqrt(P / (P - parameters)) and by Student's t, and is fitted anew. That takes the
spread of log loss for equal over the grid, and holds where each cell has one seed; what the law itself
misses is part of the differences.

Source: the law, with Huber's loss on logarithms and many starts, Hoffmann et al., Training Compute-Optimal
Large Language Models, 2022, section 3.3, https://arxiv.org/abs/2203.15556; 1.345, Huber, Robust Statistics,
1981; the bootstrap of errors, Davison and Hinkley, Bootstrap Methods and their Application, 1997, section
7.3.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

EXPONENTS = (0.01, 3.0)
"""Between which an exponent is looked for: below, the part is a constant like E; above, it ends at once."""

STARTS = (0.1, 0.25, 0.5, 1.0, 2.0)  # of each exponent
POLISHED = 3  # of all starts, the best
NARROWEST = 1e-3  # of Huber's loss: the width of Hoffmann et al.
REPLICATES = 500
SEED = 0
FEWEST = 3  # different sizes, and lengths, of a series
AT_EDGE = 1e-4  # of the mean loss: a part below it is 0


@dataclass(frozen=True)
class Runs:
    """Finished runs of one or more series, `[P]` each: series from 0, parameters, elements read, loss above
    0.
    """

    series: np.ndarray
    size: np.ndarray
    length: np.ndarray
    loss: np.ndarray

    @property
    def parameters(self) -> int:
        """Numbers that are fitted: two exponents, and three parts of each series."""
        return 2 + 3 * (int(self.series.max()) + 1)

    @property
    def centre(self) -> tuple[float, float]:
        """N0 and D0."""
        return float(np.exp(np.log(self.size).mean())), float(np.exp(np.log(self.length).mean()))


@dataclass(frozen=True)
class Law:
    """A fitted law.

    Attributes:
        numbers: alpha, beta, then E, A and B of each series, `[2 + 3 S]`.
        centre: N0 and D0.
        width: Of Huber's loss.
        apart: log of measured over fitted loss of each run, `[P]`.
        replicates: `numbers` of each replicate, `[R, 2 + 3 S]`.
    """

    numbers: np.ndarray
    centre: tuple[float, float]
    width: float
    apart: np.ndarray
    replicates: np.ndarray

    def interval(self, number: int) -> tuple[float, float]:
        """The 2.5 % and 97.5 % percentiles of one of the numbers over the replicates."""
        low, high = np.quantile(self.replicates[:, number], [0.025, 0.975])
        return float(low), float(high)

    @property
    def at_edge(self) -> float:
        """Share of the replicates in which an exponent or a part ended at an edge of what is allowed."""
        exponents, parts = self.replicates[:, :2], self.replicates[:, 2:]
        small = (parts < AT_EDGE * parts.reshape(len(parts), -1, 3).sum(-1).mean()).any(1)
        low, high = EXPONENTS
        return float((small | (exponents < 1.01 * low).any(1) | (exponents > 0.99 * high).any(1)).mean())

    def loss(self, series: int, size: np.ndarray, length: np.ndarray) -> np.ndarray:
        """The fitted loss of a series at sizes and lengths."""
        n, d = np.log(size / self.centre[0]), np.log(length / self.centre[1])
        return _loss(self.numbers, np.full(np.shape(n), series), n, d)


def unidentified(runs: Runs) -> str:
    """Why runs of these sizes and lengths can't tell the law, whatever their losses; empty: they can."""
    for series in np.unique(runs.series):
        here = runs.series == series
        for what, values in (("sizes", runs.size[here]), ("lengths", runs.length[here])):
            if len(np.unique(values)) < FEWEST:
                told = ", ".join(f"{value:,.0f}" for value in np.unique(values))
                return f"the {what} of a series are {told}, and {FEWEST} different ones are needed"
    cells = len({*zip(runs.series.tolist(), runs.size.tolist(), runs.length.tolist(), strict=True)})
    if cells <= runs.parameters:
        return f"{cells} cells for {runs.parameters} numbers to fit; there must be more"
    n, d = _centred(runs)
    numbers = np.array([0.5, 0.5] + [1.0] * (runs.parameters - 2))
    slopes = _slopes(numbers, runs.series, n, d)
    if np.linalg.matrix_rank(slopes / np.linalg.norm(slopes, axis=0), tol=1e-6) < runs.parameters:
        return "size and length go up and down together, so what each does can't be told"
    return ""


def fit_law(runs: Runs, replicates: int = REPLICATES) -> Law:
    """Fit the law, and a bootstrap over runs; the same on every call.

    Raises:
        ValueError: A loss that is not above 0, or runs that can't identify the law, and why.
    """
    if not (runs.loss > 0).all():
        raise ValueError(f"a loss must be above 0 to have a logarithm, got {runs.loss.min():g}")
    if why := unidentified(runs):
        raise ValueError(f"the law can't be told from these runs: {why}")
    n, d = _centred(runs)
    at = (runs.series, n, d)
    log_loss = np.log(runs.loss)
    first = min((_polished(start, at, log_loss, NARROWEST) for start in _starts(runs)), key=lambda x: x[1])[0]
    width = max(NARROWEST, 1.345 * _spread(log_loss - np.log(_loss(first, *at)), runs.parameters))
    begun = [*_starts(runs), first]
    numbers = min((_polished(start, at, log_loss, width) for start in begun), key=lambda x: x[1])[0]
    fitted = np.log(_loss(numbers, *at))
    apart = log_loss - fitted
    widened = apart * _widening(len(apart), runs.parameters)
    rng = np.random.default_rng(SEED)
    drawn = np.empty((replicates, len(numbers)))
    for one in drawn:
        made = fitted + widened[rng.integers(len(apart), size=len(apart))]
        again = Runs(runs.series, runs.size, runs.length, np.exp(made))
        starts = [numbers, *_starts(again)[:1]]
        one[:] = min((_polished(start, at, made, width) for start in starts), key=lambda x: x[1])[0]
    return Law(numbers, runs.centre, width, apart, drawn)


def _centred(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    return np.log(runs.size / runs.centre[0]), np.log(runs.length / runs.centre[1])


def _widening(runs: int, parameters: int) -> float:
    """What makes differences from a fitted law as wide as from the true one, with Student's t for the
    normal.
    """
    from scipy.stats import norm, t

    free = runs - parameters
    return float((runs / free) ** 0.5 * t.ppf(0.975, free) / norm.ppf(0.975))


def _spread(apart: np.ndarray, parameters: int) -> float:
    """Standard deviation by the median, of what is left when as many differences are 0 as were fitted."""
    return float(1.4826 * np.median(np.sort(np.abs(apart))[parameters:]))


def _loss(numbers: np.ndarray, series: np.ndarray, n: np.ndarray, d: np.ndarray) -> np.ndarray:
    floor, by_size, by_length = numbers[2:].reshape(-1, 3)[series].T
    return floor + by_size * np.exp(-numbers[0] * n) + by_length * np.exp(-numbers[1] * d)


def _slopes(numbers: np.ndarray, series: np.ndarray, n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """d log loss / d numbers, `[P, numbers]`."""
    u, v = np.exp(-numbers[0] * n), np.exp(-numbers[1] * d)
    _, by_size, by_length = numbers[2:].reshape(-1, 3)[series].T
    slopes = np.zeros((len(n), len(numbers)))
    slopes[:, 0], slopes[:, 1] = -by_size * n * u, -by_length * d * v
    for place, value in enumerate((np.ones_like(u), u, v)):
        slopes[np.arange(len(n)), 2 + 3 * series + place] = value
    return slopes / _loss(numbers, series, n, d)[:, None]


def _starts(runs: Runs) -> list[np.ndarray]:
    """The best of a grid of exponents, best first: with these given, the parts are a linear problem."""
    from scipy.optimize import nnls

    n, d = _centred(runs)
    found = []
    for alpha, beta in itertools.product(STARTS, STARTS):
        missed = 0.0
        parts: list[float] = []
        for series in range(int(runs.series.max()) + 1):
            here = runs.series == series
            columns = [np.ones(here.sum()), np.exp(-alpha * n[here]), np.exp(-beta * d[here])]
            solved, rest = nnls(np.stack(columns, 1) / runs.loss[here, None], np.ones(here.sum()))
            parts, missed = [*parts, *solved], missed + rest**2
        found.append((missed, np.array([alpha, beta, *parts])))
    return [numbers for _, numbers in sorted(found, key=lambda one: one[0])[:POLISHED]]


def _polished(
    start: np.ndarray, at: tuple[np.ndarray, np.ndarray, np.ndarray], log_loss: np.ndarray, width: float
) -> tuple[np.ndarray, float]:
    """The numbers that minimise Huber's loss from a start, and that loss."""
    from scipy.optimize import least_squares

    bounds = np.array([EXPONENTS] * 2 + [(0.0, np.inf)] * (len(start) - 2)).T
    found = least_squares(
        lambda numbers: np.log(np.maximum(_loss(numbers, *at), 1e-300)) - log_loss,
        start + 1e-6,  # an edge of what is allowed has a slope to one side only
        lambda numbers: _slopes(numbers, *at),
        bounds=tuple(bounds),
        loss="huber",
        f_scale=width,
        ftol=1e-10,
        xtol=1e-10,
        gtol=1e-12,
    )
    return found.x, float(found.cost)
