"""Rejection: exact lower temperature from draws alone, for any T in (0, 1].

Write 1/T = n + a with n whole and 0 <= a < 1. Stage A draws n chunks until all are equal, which proposes x
with probability P(x)^n. Stage B keeps drawing: it accepts when x comes again, and after the i-th draw that is
not x it gives up with probability a/i and starts over. With p = P(x) its chance to accept is
sum_k p (1 - p)^k prod_{j<=k} (1 - a/j) = p^a, so a trial returns x with probability P(x)^(1/T) and the law is
exact. For whole 1/T = n there is no stage B, and the disjoint n-tuples of a batch are independent trials: all
are tested at once and the first that agrees is taken. The price,

    E[draws] = (n + 1{a > 0} sum_x P(x)^(1/T - 1)) / sum_x P(x)^(1/T),

has no bound where no chunk is likely: hence a ceiling.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 5.1, Algorithm 1.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Choice, Draw, Sampler
from calmkit.samplers.chunk_counts import label_chunks
from calmkit.samplers.head_wishes import head_wishes
from calmkit.samplers.vote import vote

FIRST_TUPLES = 4  # n-tuples in a row's first block of draws; each later block doubles what the row has
BLOCK_DRAWS = 2**14  # most draws asked for in one call, over all rows, to bound the head's memory


@final
class RejectionSampler(Sampler):
    """Exact draws from P^(1/T), in blocks, for all rows together.

    Rows that have accepted ask for no more draws. What a row's last block holds beyond the accepted draw is
    thrown away but counted in `Choice.draws`; `Choice.index` + 1 is what Algorithm 1 alone would have drawn.
    A row without an accepted draw after `max_draws` falls back on the batch estimate of `vote` over all its
    draws, with n = 1/T rounded.

    `Choice.level` is 1/T where the choice is exact and NaN where it is a fallback. (The agreement that `vote`
    reached would not tell: at 1/T = 2 a fallback mostly reaches 2 as well, without the law being exact.)

    Args:
        temperature: T, in (0, 1].
        max_draws: Ceiling per row.
        head_temperature: The head's own temperature; None: as the head was built.
        num_steps: Steps of an iterative head; None: as it was built.
        solver: Solver of an iterative head; None: as it was built.

    Raises:
        ValueError: A temperature outside (0, 1] or without a finite inverse, or a ceiling below 1/T.

    Source:
        Shao et al., 2025, Algorithm 1 and its fallback Algorithm 2; the official code has only the latter.
    """

    compares = True

    def __init__(
        self,
        *,
        temperature: float = 0.5,
        max_draws: int = 10000,
        head_temperature: float | None = None,
        num_steps: int | None = None,
        solver: str | None = None,
    ) -> None:
        exponent = 1 / temperature if 0 < temperature <= 1 else math.inf
        if not math.isfinite(exponent):
            raise ValueError(
                f"rejection: temperature must be in (0, 1] and its inverse finite, got {temperature}; "
                "0.5 would do."
            )
        if math.isclose(exponent, round(exponent)):
            exponent = float(round(exponent))
        if max_draws < exponent:
            raise ValueError(
                f"rejection: max_draws must be at least 1/T = {exponent:g}, got {max_draws}; "
                f"{1000 * math.ceil(exponent)} would do."
            )
        self.exponent = exponent
        self.max_draws = max_draws
        self.options = head_wishes("rejection", head_temperature, num_steps, solver)

    def choose(self, draw: Draw, rows: Int[Tensor, " R"], generator: torch.Generator | None = None) -> Choice:
        """Run Algorithm 1 on a growing stream of draws per row; see the class for the fallback."""
        whole = math.floor(self.exponent)
        fresh = 1 if self.exponent == 1 else min(FIRST_TUPLES * whole, self.max_draws)
        stream = draw(fresh, rows)
        coins = torch.rand(stream.shape[:2], device=stream.device, generator=generator)
        chosen, level = stream[0].clone(), torch.full(rows.shape, self.exponent, device=rows.device)
        index, draws = torch.zeros_like(rows, dtype=torch.long), torch.zeros_like(rows, dtype=torch.long)
        active, trial = torch.arange(len(rows), device=rows.device), Trial.fresh(len(rows), rows.device)
        while True:
            found, trial = advance(stream, coins, fresh, trial, self.exponent)
            draws[active] = len(stream)
            if len(stream) == self.max_draws:
                guess, _ = vote(label_chunks(stream), round(self.exponent), generator)
                level[active[found < 0]] = math.nan
                found = torch.where(found < 0, guess, found)
            done, left = found >= 0, found < 0
            index[active[done]] = found[done]
            chosen[active[done]] = stream[found[done], done.nonzero().squeeze(-1)]
            if not left.any():
                return Choice(chosen, index=index, draws=draws, level=level)
            active, stream, coins, trial = active[left], stream[:, left], coins[:, left], trial[left]
            fresh = min(len(stream), self.max_draws - len(stream), max(whole, BLOCK_DRAWS // len(active)))
            stream = torch.cat([stream, draw(fresh, rows[active])])
            more = torch.rand(fresh, len(active), device=coins.device, generator=generator)
            coins = torch.cat([coins, more])


@dataclass(frozen=True)
class Trial:
    """Where each row stands in Algorithm 1 when its stream ends.

    Attributes:
        start: Place where the current trial began: its tuples of stage A start there and every n draws after.
        proposed: Place of the first draw of the tuple that stage B is testing, -1 in stage A.
    """

    start: Int[Tensor, " R"]
    proposed: Int[Tensor, " R"]

    @classmethod
    def fresh(cls, rows: int, device: torch.device) -> Trial:
        """Nothing drawn yet."""
        zero = torch.zeros(rows, dtype=torch.long, device=device)
        return cls(zero, zero - 1)

    def __getitem__(self, keep: Bool[Tensor, " R"]) -> Trial:
        return Trial(self.start[keep], self.proposed[keep])


def advance(
    stream: Int[Tensor, "N R K"], coins: Float[Tensor, "N R"], fresh: int, trial: Trial, exponent: float
) -> tuple[Int[Tensor, " R"], Trial]:
    """Run Algorithm 1 over the newest draws of all rows at once.

    Each turn of the loop takes every row from its proposal in stage A to the end of its stage B, so there
    are as many turns as proposals in the slowest row, not as draws. Only the fresh draws are looked at,
    and the n - 1 before them, where a tuple may have begun.

    Args:
        stream: All draws so far.
        coins: Uniform in [0, 1), one per draw: stage B gives up after that draw where it is below a/i.
        fresh: How many draws, at the end, are new.
        trial: Where each row stood before them.
        exponent: 1/T = n + a, at least 1.

    Returns:
        Place of the accepted draw, -1 where the stream ends before; and where each row stands now.
    """
    whole, end = math.floor(exponent), len(stream)
    if exponent == whole:
        tested = (end - fresh) // whole  # tuples that lie before the fresh draws
        found = first_agreeing_tuple(stream[tested * whole :], whole)
        return torch.where(found < 0, -1, (tested + found + 1) * whole - 1), trial
    column = torch.arange(stream.shape[1], device=stream.device)
    base = max(0, end - fresh - whole + 1)
    window, coins = stream[base:], coins[base:]
    place = torch.arange(base, end, device=stream.device)[:, None]
    agree = _tuples(window, whole)
    start, proposed = trial.start, trial.proposed
    result, running = torch.full_like(start, -1), torch.ones_like(start, dtype=torch.bool)
    while running.any():
        first, seen = _first(agree & (place >= start) & ((place - start) % whole == 0))
        proposed = torch.where((proposed < 0) & seen, base + first, proposed)
        running &= proposed >= 0
        last = proposed + whole - 1
        again = (window == stream[proposed.clamp(min=0), column]).all(-1)
        turn = place - last  # i in the paper's loop
        first, seen = _first((turn >= 1) & (again | (coins * turn < exponent - whole)))
        running &= seen
        accepted = again[first, column]
        result = torch.where(running & accepted, base + first, result)
        running &= ~accepted
        start = torch.where(running, base + first + 1, start)
        proposed = torch.where(running, -1, proposed)
    return result, Trial(start, proposed)


def first_agreeing_tuple(chunks: Int[Tensor, "N R K"], agreement: int) -> Int[Tensor, " R"]:
    """Which disjoint n-tuple of draws is the first of equal chunks: exact for T = 1/n, all rows in parallel.

    Tuple j holds the draws j n to j n + n - 1; the tuples are independent trials that all give x with
    probability P(x)^n, so the first that agrees gives x with probability P(x)^n / sum P^n.

    Args:
        chunks: Independent draws of each row; those that fill no tuple are not looked at.
        agreement: n.

    Returns:
        Number of the tuple from 0, -1 where none agrees. It takes (j + 1) n draws.

    Source:
        Shao et al., 2025, Algorithm 1 with a = 0.
    """
    whole = len(chunks) // agreement
    tuples = chunks[: whole * agreement].unflatten(0, (whole, agreement))  # [tuples, n, R, K]
    first, seen = _first((tuples[:, 1:] == tuples[:, :1]).all(-1).all(1))
    return torch.where(seen, first, -1)


def _tuples(window: Int[Tensor, "N R K"], whole: int) -> Bool[Tensor, "N R"]:
    """Where a tuple of `whole` equal chunks starts."""
    equal = (window[1:] == window[:-1]).all(-1)
    agree = torch.ones(window.shape[:2], dtype=torch.bool, device=window.device)
    agree[len(window) - whole + 1 :] = False
    for j in range(1, whole):
        agree[:-j] &= equal[j - 1 :]
    return agree


def _first(where: Bool[Tensor, "N R"]) -> tuple[Int[Tensor, " R"], Bool[Tensor, " R"]]:
    """Per column, index of the first true entry (0 where there is none), and whether there is one."""
    if len(where) == 0:
        return torch.zeros(where.shape[1:], dtype=torch.long, device=where.device), where.any(0)
    return where.int().argmax(0), where.any(0)


@hookimpl
def calmkit_samplers() -> dict[str, type[Sampler]]:
    """Register this part."""
    return {"rejection": RejectionSampler}
