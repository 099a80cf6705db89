"""What the values of a model are like as a whole, over all contexts, and how far draws of them are from it.

The law that is meant is the one of y, a draw of the posterior of a unit that is itself drawn at random: what
a model knows that has learned everything but the context.

Source: energy score: Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, 2007,
section 4.2. https://doi.org/10.1198/016214506000001437
Variogram score: Scheuerer and Hamill, Variogram-Based Proper Scoring Rules for Probabilistic Forecasts of
Multivariate Quantities, 2015, Eq. 12. https://doi.org/10.1175/MWR-D-14-00269.1
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

PAIRS = 2**15
"""Of values, over which a mean distance is taken: with distances that spread by a fifth of their mean, as
those in 16 dimensions about do, its standard error is 0.1 %.
"""

BLOCK = 2**22  # elements of one block of differences


def mean_distance(y: Float[Tensor, "N D"], pairs: int = PAIRS) -> Float[Tensor, ""]:
    """E|y - y'| over pairs of two different rows, drawn at random by a seed of its own; all of them where
    there are no more than `pairs`.

    Raises:
        ValueError: For fewer than 2 rows.
    """
    first, second = _pairs_of(len(y), pairs)
    return (y[first] - y[second]).norm(dim=-1).mean()


def gaussian_score(y: Float[Tensor, "N D"], pairs: int = PAIRS) -> Float[Tensor, ""]:
    """Energy score of one Gaussian that has the mean and the covariance of y: 2 E|g - y| - E|g - g'|.

    It was fitted to what it is scored on, so it is a little too low, by a share of about D / N.

    Args:
        y: N at least 2.
        pairs: Over which each mean is taken, drawn by a seed of its own.
    """
    generator = torch.Generator().manual_seed(0)
    values, vectors = torch.linalg.eigh(torch.atleast_2d(y.T.cov()))
    root = vectors * values.clamp(min=0).sqrt()
    noise = torch.randn(2, pairs, y.shape[1], generator=generator, dtype=y.dtype)
    one, other = y.mean(0) + noise @ root.T
    drawn = y[torch.randint(len(y), (pairs,), generator=generator)]
    return 2 * (one - drawn).norm(dim=-1).mean() - (one - other).norm(dim=-1).mean()


def dimension_pairs(dim: int, most: int) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
    """Pairs i < j of dimensions: all of them, or `most`, evenly spread over their list."""
    first, second = torch.triu_indices(dim, dim, 1)
    if len(first) > most:
        chosen = torch.linspace(0, len(first) - 1, most).round().long()
        first, second = first[chosen], second[chosen]
    return first, second


def variogram_score(
    draws: Float[Tensor, "S N D"],
    y: Float[Tensor, "N D"],
    power: float = 0.5,
    most: int = 1024,
) -> Float[Tensor, " N"]:
    """How far the differences between dimensions are from those of the truth:
    mean over i < j of (|y_i - y_j|^p - E|x_i - x_j|^p)^2.

    The expectation is estimated without bias in the score: with v_s = |x_i - x_j|^p of draw s and a that of
    y, the square is the mean of (a - v_s)(a - v_t) over pairs of different draws, which may be negative.
    (The plug-in square would be too high by Var(v) / S, so by more for fewer draws.)

    Args:
        draws: Independent, S at least 2.
        y: The truth of the same units.
        power: p, above 0.
        most: Pairs of dimensions that are looked at (`dimension_pairs`).

    Returns:
        One value per unit, in latent units to the power 2p. In expectation no law scores better than the
        truth, and others may score as well: one that is shifted alike in all dimensions does.

    Raises:
        ValueError: For fewer than 2 draws.

    Source:
        Scheuerer and Hamill, 2015, Eq. 12, with equal weights. https://doi.org/10.1175/MWR-D-14-00269.1
    """
    if len(draws) < 2:
        raise ValueError(f"the variogram score needs at least 2 draws, got {len(draws)}.")
    first, second = dimension_pairs(y.shape[-1], most)
    found = []
    for units in torch.arange(y.shape[0], device=y.device).split(max(1, BLOCK // (len(draws) * len(first)))):
        apart = variogram(y[units], first, second, power) - variogram(draws[:, units], first, second, power)
        several = apart.sum(0).square() - apart.square().sum(0)  # [n, P], over ordered pairs of draws
        found.append(several.mean(-1) / (len(draws) * (len(draws) - 1)))
    return torch.cat(found)


def variogram(
    y: Float[Tensor, "*units D"], first: Int[Tensor, " P"], second: Int[Tensor, " P"], power: float
) -> Float[Tensor, "*units P"]:
    """|y_i - y_j|^p of pairs of dimensions."""
    return (y[..., first] - y[..., second]).abs().pow(power)


def variogram_variance(y: Float[Tensor, "N D"], power: float = 0.5, most: int = 1024) -> Float[Tensor, ""]:
    """Mean over pairs of dimensions of the variance of |y_i - y_j|^p over the rows: what the variogram score
    of the law of y itself is in expectation.
    """
    first, second = dimension_pairs(y.shape[-1], most)
    size = max(1, BLOCK // len(y))
    blocks = zip(first.split(size), second.split(size), strict=True)
    return torch.cat([variogram(y, one, other, power).var(0) for one, other in blocks]).mean()


def _pairs_of(rows: int, most: int) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
    """Two different rows each."""
    if rows < 2:
        raise ValueError(f"a distance between two units needs 2 of them, got {rows}.")
    if rows * (rows - 1) // 2 <= most:
        first, second = torch.triu_indices(rows, rows, 1)
        return first, second
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(rows, (most,), generator=generator)
    return first, (first + torch.randint(1, rows, (most,), generator=generator)) % rows
