"""A Markov source of letters whose best possible scores are finite sums.

    p(x | c)     a table, c the last k letters
    pi(c)        the stationary law: pi(c_2..c_k x) = sum over c_1 of pi(c_1..c_k) p(x | c_1..c_k)
    p_j(x | c)   with j < k letters seen: pi(c x) / pi(c), the best forecast from them
    C_n(c)       sum_x P(x_1..x_n | c)^2 = sum_x p(x | c)^2 C_{n-1}(c x), the expected Brier-n of the true law

No forecast of the next n letters that sees c has a higher expected Brier score than C_n(c), and none has a
lower expected cross-entropy than the entropy of p(. | c).

Source: Shannon, A Mathematical Theory of Communication, 1948, sections 4 to 7.
https://doi.org/10.1002/j.1538-7305.1948.tb01338.x
Brier's decomposition: Shao et al., Continuous Autoregressive Language Models, 2025, Eq. 13.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import math
from typing import final

import numpy as np

from calmkit.nn.settings import require_at_least
from calmkit.text.stationary_law import stationary_law

BRIER_LENGTHS = (1, 2, 3, 4)  # Eq. 15 of Shao et al.
LARGEST_TABLE = 2**20  # probabilities: what is computed of them takes seconds
LARGEST_ALPHABET = 256  # letters are drawn as bytes
LARGEST_CONCENTRATION = 1e12  # all letters are alike far below; the law cannot be drawn far above
ROUNDING = 1e-9  # that a row may sum to more or less than 1


@final
class MarkovSource:
    """Letters 0..A-1, each drawn given the `order` letters before it.

    Args:
        table: p(x | c), `[A] * k + [A]`, the next letter last.

    Attributes:
        order: k, letters that the next one depends on; 0: independent letters.
        alphabet: A, number of letters.
        tables: p_j for j = 0..k letters seen, `[A] * j + [A]`, the next letter last.
        laws: pi_j, the stationary law of j successive letters, j = 0..k, `[A] * j`.

    Raises:
        ValueError: The axes differ, a row is no distribution, or the chain has no one long-run law that can
            be computed (see `stationary_law`).
    """

    def __init__(self, table: np.ndarray) -> None:
        self.order, self.alphabet = table.ndim - 1, table.shape[-1]
        sums = table.sum(-1)
        rows = (table >= 0).all() and abs(sums - 1).max() <= ROUNDING  # False for NaN
        if set(table.shape) != {self.alphabet} or not rows:
            raise ValueError(
                "A Markov source needs a table with all axes of one length, the alphabet's, and a "
                f"distribution in each row; got the shape {table.shape}, entries from {table.min():.6g}, and "
                f"rows that sum to {sums.min():.6g} up to {sums.max():.6g}."
            )
        require_at_most(LARGEST_ALPHABET, self.alphabet)
        law = stationary_law(table)
        self.laws = [np.asarray(law.sum(tuple(range(self.order - seen)))) for seen in range(self.order + 1)]
        self.tables = [_given(self.laws[seen], self.laws[seen + 1]) for seen in range(self.order)] + [table]
        self._entropies = [_entropy(*pair) for pair in zip(self.laws, self.tables, strict=True)]
        self._collisions: list[list[np.ndarray]] = [[np.ones_like(law) for law in self.laws]]
        self._best: list[list[float]] = [[1.0] * len(self.laws)]

    @classmethod
    def random(cls, order: int, alphabet: int, concentration: float, seed: int) -> MarkovSource:
        """A source whose rows are drawn from a symmetric Dirichlet law.

        Args:
            order: k.
            alphabet: A.
            concentration: Near 0 one letter of each row is nearly certain, 1 is uniform over all rows, large
                makes all letters alike.
            seed: Of the table.

        Raises:
            ValueError: See `check_source` and the class.
        """
        check_source(order, alphabet, concentration)
        rows = np.random.default_rng([seed, 0]).dirichlet([concentration] * alphabet, alphabet**order)
        return cls(rows.reshape([alphabet] * (order + 1)))

    @property
    def entropy_rate(self) -> float:
        """H, nats per letter: the best cross-entropy of a model that sees `order` letters or more."""
        return self.entropy(self.order)

    def entropy(self, seen: int) -> float:
        """Entropy of the next letter given the `seen` letters before it, nats, in the long run."""
        return self._entropies[min(seen, self.order)]

    def best_brier(self, seen: int, length: int) -> float:
        """Expected Brier score of the true law of the next `length` letters given the `seen` before them.

        It is sum_c pi(c) C_length(c), between 0 and 1; with length 0 it is 1.
        """
        while len(self._best) <= length:
            terms = zip(self.laws, self.collisions(len(self._best)), strict=True)
            self._best.append([float((law * collision).sum()) for law, collision in terms])
        return self._best[length][min(seen, self.order)]

    def best_brier_lm(self, seen: int) -> float:
        """100 times the geometric mean of the best Brier-1 to Brier-4 of a model that sees `seen` letters."""
        product = math.prod(self.best_brier(seen, n) for n in BRIER_LENGTHS)
        return float(100 * product ** (1 / len(BRIER_LENGTHS)))

    def collisions(self, length: int) -> list[np.ndarray]:
        """C_length of every context of 0..order letters, `[A] * j` for j letters."""
        while len(self._collisions) <= length:
            after = self._collisions[-1]
            # C of the context one letter longer; a full context drops its oldest letter, over which it
            # broadcasts
            self._collisions.append(
                [
                    np.asarray((table**2 * after[min(seen + 1, self.order)]).sum(-1))
                    for seen, table in enumerate(self.tables)
                ]
            )
        return self._collisions[length]

    def draw(self, rng: np.random.Generator, documents: int, length: int) -> np.ndarray:
        """Independent stretches of letters, each begun from the stationary law: `[documents, length]` uint8.

        All stretches are drawn together, one letter of each at a time.
        """
        size, contexts = self.alphabet, self.alphabet**self.order
        below = self.tables[-1].reshape(contexts, size).cumsum(1)[:, :-1]  # P(letter <= x)
        begin = self.laws[-1].ravel().cumsum()
        context = begin[:-1].searchsorted(rng.random(documents), side="right")
        letters = np.empty((length + self.order, documents), dtype=np.uint8)
        for place in range(self.order):
            letters[place] = context // size ** (self.order - 1 - place) % size
        for place in range(self.order, length):
            letter = (below[context] <= rng.random(documents)[:, None]).sum(1)
            letters[place] = letter
            context = (context * size + letter) % contexts
        return np.ascontiguousarray(letters[:length].T)


def _given(law: np.ndarray, longer: np.ndarray) -> np.ndarray:
    """p(x | c) = pi(c x) / pi(c); 0 after a context that never comes."""
    before = np.broadcast_to(law[..., None], longer.shape)
    return np.divide(longer, before, out=np.zeros_like(longer), where=before > 0)


def _entropy(law: np.ndarray, table: np.ndarray) -> float:
    logs = np.log(table, out=np.zeros_like(table), where=table > 0)
    return float(-(law * (table * logs).sum(-1)).sum())


def require_at_most(most: int, alphabet: int) -> None:
    """Refuse an alphabet that is too large.

    Raises:
        ValueError: Naming the setting and what would do.
    """
    if alphabet > most:
        raise ValueError(f"markov: alphabet must be at most {most}, got {alphabet}; {most} would do.")


def check_source(order: int, alphabet: int, concentration: float) -> None:
    """Refuse a source that cannot be built.

    Raises:
        ValueError: Naming the setting and what would do.
    """
    require_at_least("markov", 0, order=order)
    require_at_least("markov", 2, alphabet=alphabet)
    require_at_most(LARGEST_ALPHABET, alphabet)
    if not 0 < concentration <= LARGEST_CONCENTRATION:
        raise ValueError(
            f"markov: concentration must be above 0 and at most {LARGEST_CONCENTRATION:g}, got "
            f"{concentration}; 0.3 would do."
        )
    if (order + 1) * math.log(alphabet) > math.log(LARGEST_TABLE) + 1e-9:
        raise ValueError(
            f"markov: order {order} over {alphabet} letters has {alphabet}^{order + 1} probabilities, more "
            f"than {LARGEST_TABLE}; order {int(math.log(LARGEST_TABLE, alphabet) + 1e-9) - 1} would do."
        )
