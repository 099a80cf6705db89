"""The long-run law of a Markov chain of letters: the one law that a step leaves as it is.

Up to `DIRECT_CONTEXTS` contexts it is solved for by Grassmann, Taksar and Heyman's elimination, which
subtracts nothing, so a chain that changes its place once in 10^100 steps has its law as exactly as any other.
Above that it is iterated, with a bound on the work: what forgets its start too slowly is refused.

Source: Grassmann, Taksar and Heyman, Regenerative analysis and steady state distributions for Markov chains,
Operations Research 33(5), 1985. https://doi.org/10.1287/opre.33.5.1107
"""

from __future__ import annotations

import math
from typing import NoReturn

import numpy as np

DIRECT_CONTEXTS = 1024  # about a tenth of a second
PANEL = 32  # contexts eliminated before the others are told, in one product of matrices
MOST_WORK = 2**29  # probabilities read while iterating: seconds
MOST_STEPS = 20_000
STAY = 0.1  # share of the time that the iterated chain stays: the same law, and no period
SETTLED = 1e-14  # in total variation


def stationary_law(table: np.ndarray) -> np.ndarray:
    """pi of the last k letters, `[A] * k`, of a table `[A] * k + [A]`.

    Raises:
        ValueError: There is more than one such law, or the chain forgets its start too slowly.
    """
    contexts, size = math.prod(table.shape[:-1]), table.shape[-1]
    if contexts > DIRECT_CONTEXTS:
        return _iterated(table)
    place = np.arange(contexts)[:, None]
    chances = np.zeros((contexts, contexts))
    # added up, because without contexts (k = 0) all letters lead to the same place
    np.add.at(chances, (place, (place * size + np.arange(size)) % contexts), table.reshape(contexts, size))
    lasting = _lasting(chances > 0)
    law = np.zeros(contexts)
    law[lasting] = _eliminated(chances[np.ix_(lasting, lasting)])
    return law.reshape(table.shape[:-1])


def _lasting(moves: np.ndarray) -> np.ndarray:
    """The contexts that come again and again, `[N]` bool, where each can follow them `[N, N]`.

    From any context one walks on to one that cannot be come back from, until there is none: what can then be
    reached is never left. It is the only such part if it can be reached from everywhere.
    """
    back = np.ascontiguousarray(moves.T)
    context = 0
    while True:
        ahead, behind = _distances(moves, context), _distances(back, context)
        lost = np.where(behind < 0, ahead, -1)
        if lost.max() < 0:
            break
        context = int(lost.argmax())
    if (behind < 0).any():
        _refuse("the source has several parts that it never leaves, so it has no one long-run law")
    return ahead >= 0


def _distances(moves: np.ndarray, start: int) -> np.ndarray:
    """Steps from `start` to each context, `[N]`; -1 where it cannot be reached."""
    found = np.full(len(moves), -1)
    front = np.array([start])
    for steps in range(len(moves)):
        found[front] = steps
        front = (moves[front].any(0) & (found < 0)).nonzero()[0]
        if not len(front):
            break
    return found


def _eliminated(chances: np.ndarray) -> np.ndarray:
    """The stationary law `[N]` of a chain `[N, N]` in which all is reached from everywhere.

    Contexts are left out one by one, the last first, and the ways through each are added to the direct ones.
    Overwrites `chances`.
    """
    leave = np.ones(len(chances))  # the chance to go from a context to those before it
    for end in range(len(chances), 1, -PANEL):
        begin = max(1, end - PANEL)
        for k in range(end - 1, begin - 1, -1):
            leave[k] = chances[k, :k].sum()
            if leave[k] < np.finfo(np.float64).tiny:
                _refuse("the source all but never leaves some contexts, so its long-run law is not known")
            chances[k, :k] /= leave[k]
            chances[begin:k, :k] += np.outer(chances[begin:k, k], chances[k, :k])
            chances[:begin, begin:k] += np.outer(chances[:begin, k], chances[k, begin:k])
        chances[:begin, :begin] += chances[:begin, begin:end] @ chances[begin:end, :begin]
    law = np.zeros(len(chances))
    law[0] = 1
    for k in range(1, len(law)):
        law[k] = law[:k] @ (chances[:k, k] / leave[k])
        law /= law.sum()  # at once, since it may grow by 10^300 in one step
    return law


def _iterated(table: np.ndarray) -> np.ndarray:
    """The same by iteration from two starts, which must have met: one alone may rest where it stands."""
    size = table.shape[-1]
    turned = np.ascontiguousarray(np.moveaxis(table.reshape(size, -1, size), 2, 0))
    laws = np.stack([np.ones(table.size // size), np.random.default_rng(0).random(table.size // size)])
    laws /= laws.sum(1, keepdims=True)
    most = min(MOST_STEPS, MOST_WORK // table.size)
    for _ in range(most):
        moved = _moved(laws, turned)
        change, apart = np.abs(moved[0] - laws[0]).sum() / 2, np.abs(laws[0] - laws[1]).sum() / 2
        laws = STAY * laws + (1 - STAY) * moved
        if max(change, apart) < SETTLED:
            return (laws[0] / laws[0].sum()).reshape(table.shape[:-1])
    _refuse(
        f"after {most} steps the source still remembers where it began, so its long-run law is not known",
        "a larger concentration, another seed or a lower order",
    )


def _moved(laws: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Laws of the last k letters, `[2, A^k]`, one letter later.

    Args:
        laws: Before it.
        turned: p(x | c), `[A, A, A^(k - 1)]`: x, oldest letter of c, the others; a long last axis is quick.
    """
    moved = np.einsum("lor,xor->lxr", laws.reshape(2, *turned.shape[1:]), turned)
    return moved.swapaxes(1, 2).reshape(laws.shape)


def _refuse(why: str, cure: str = "a larger concentration or another seed") -> NoReturn:
    raise ValueError(f"markov: {why}; {cure} would do.")
