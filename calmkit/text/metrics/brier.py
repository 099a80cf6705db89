"""BrierLM: a strictly proper score for models that can only be sampled.

    Brier(P, y) = 2 P(y) - sum_x P(x)^2        accuracy: P(y), estimated by 1{x = y}
                                               collision: sum P^2, estimated by 1{x = x'}

Brier-n takes the first n tokens of the continuation as one outcome; BrierLM is 100 times the geometric mean
of n = 1..4.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, Eq. 12-15. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from typing import final

import torch
import torchmetrics
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from calmkit.metrics.blocks import FEWEST_GROUPS, UNKNOWN, grouped, ratio_standard_error, resampled_means
from calmkit.text.metrics.num_tokens import NUM_TOKENS

NORMAL_975 = 1.959964  # 97.5 % quantile of N(0, 1)


def prefix_hits(draws: Int[Tensor, "S *N n"], truth: Int[Tensor, "*N n"]) -> Float[Tensor, "*N n"]:
    """Share of the draws whose first 1, 2, ... tokens equal the truth's: unbiased for P(y_1..y_n)."""
    return (draws == truth).cumprod(-1).to(torch.get_default_dtype()).mean(0)


def pair_collisions(draws: Int[Tensor, "S *N n"]) -> Float[Tensor, "*N n"]:
    """Share of the pairs of distinct draws that agree in their first 1, 2, ... tokens: unbiased for sum P^2.

    Raises:
        ValueError: With fewer than two draws.
    """
    num = len(draws)
    if num < 2:
        raise ValueError(f"Brier scores compare draws with each other: at least 2 are needed, got {num}.")
    pairs = torch.zeros(draws.shape[1:], dtype=torch.long, device=draws.device)
    for i in range(num - 1):  # never a [S, S, N, n] buffer
        pairs += (draws[i] == draws[i + 1 :]).cumprod(-1).sum(0)
    return pairs.to(torch.get_default_dtype()) / (num * (num - 1) // 2)


def brier_terms(
    draws: Int[Tensor, "S N n"], truth: Int[Tensor, "N n"]
) -> tuple[Float[Tensor, "N 4"], Float[Tensor, "N 4"]]:
    """Accuracy and collision of the first 1, 2, 3 and 4 tokens, by U-statistics over the draws.

    Brier-n is the mean of `2 * accuracy - collision` over positions.

    Args:
        draws: Independent continuations of each position, S at least 2, n at least 4.
        truth: What really followed.

    Raises:
        ValueError: With fewer than two draws or four tokens.

    Source:
        Shao et al., 2025, Eq. 14, there with S = 2.
    """
    if truth.shape[-1] < NUM_TOKENS:
        raise ValueError(f"BrierLM scores {NUM_TOKENS} tokens per position, got {truth.shape[-1]}.")
    draws, truth = draws[..., :NUM_TOKENS], truth[..., :NUM_TOKENS]
    return prefix_hits(draws, truth), pair_collisions(draws)


def brier_lm(brier: Float[Tensor, "*replicates 4"]) -> Float[Tensor, "*replicates"]:
    """100 times the geometric mean of Brier-1 to Brier-4; 0 where any of them is not positive.

    Each factor is clamped by itself, so that two negative ones never make a score.
    """
    return 100 * brier.clamp(min=0).prod(-1).pow(1 / NUM_TOKENS)


def bootstrap_interval(
    row_sums: Float[Tensor, "R 4"], row_counts: Float[Tensor, " R"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """95 % interval of BrierLM: percentiles over resampled rows, (0, 100) with a single row.

    A percentile interval stays defined where a factor is near or below 0, where the delta method does not:
    replicates with a factor that is not positive count as 0. It is the same on every call.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    if len(row_counts) < 2:
        return row_sums.new_zeros(()), row_sums.new_full((), 100.0)
    means = resampled_means(row_sums, row_counts)
    low, high = brier_lm(means).quantile(row_sums.new_tensor([0.025, 0.975]))
    return low, high


@final
class BrierLM(torchmetrics.Metric):
    """BrierLM with its parts and its uncertainty, over any number of updates and processes.

    Positions that share their text are not independent: standard errors and interval treat whole blocks as
    such. A block is a document, or a row where documents are not known or fewer than `FEWEST_GROUPS`: an
    interval over a handful of blocks says nothing.

    Attributes:
        per_document: Set by `compute`: `[documents, 10]`, a document's number and its sums of accuracy (4)
            and collision (4), and its positions; None where documents are not known.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    lines: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        # Flat, because torchmetrics joins a process that saw nothing as an empty vector.
        self.add_state("lines", default=[], dist_reduce_fx="cat")
        self.rows_before = 0
        self.per_document: Tensor | None = None

    def update(
        self,
        accuracy: Float[Tensor, "N 4"],
        collision: Float[Tensor, "N 4"],
        rows: Int[Tensor, " N"],
        documents: Int[Tensor, " N"] | None = None,
    ) -> None:
        """Add positions.

        Args:
            accuracy: Unbiased estimates of P(y_1..y_n), n = 1..4.
            collision: Unbiased estimates of sum P^2 of the same outcomes.
            rows: Which evaluation row each position belongs to. Rows of two updates are different rows.
            documents: Which document it belongs to, from 0, the same number in every update; None: unknown.
        """
        if len(rows) == 0:
            return
        if documents is None:
            documents = torch.full_like(rows, UNKNOWN)
        pairs, line = torch.stack([rows, documents], 1).unique(dim=0, return_inverse=True)
        ones = accuracy.new_ones(len(rows), 1)
        columns = torch.cat([accuracy, collision, ones], 1).to(self.dtype)  # [N, 9]
        sums = columns.new_zeros(len(pairs), 9).index_add_(0, line, columns)
        row = pairs[:, :1] + self.rows_before
        together = self.distributed_available_fn is not None and self.distributed_available_fn()
        rank = torch.full_like(row, torch.distributed.get_rank() if together else 0)
        self.lines.append(torch.cat([rank, row, pairs[:, 1:], sums], 1).flatten())
        self.rows_before += int(rows.max()) + 1

    def reset(self) -> None:
        """Forget all positions; `per_document` of the last `compute` stays."""
        super().reset()
        self.rows_before = 0

    def compute(self) -> dict[str, Tensor]:
        """All numbers as scalars in double precision.

        Returns:
            `brier_lm`; `brier_lm_se` by the delta method, or half the interval over 1.96 where a factor is
            not positive and the score has no slope (NaN with a single block); `brier_lm_low`,
            `brier_lm_high`, the 95 % interval; `brier_n`, `brier_n_se`, `accuracy_n`, `collision_n` for
            n = 1..4, between -1 and 1; `units`, the positions evaluated, `rows`, `documents` (0 where they
            are not known) and `blocks`, over which the interval was taken: the documents or the rows.

        Raises:
            ValueError: Before any position came in.
        """
        if len(self.lines) == 0:
            raise ValueError("BrierLM saw no position: the evaluation data has no unit that 4 tokens follow.")
        lines = dim_zero_cat(self.lines).cpu().double().view(-1, 12)
        by_row = grouped(lines[:, :2], lines[:, 3:])
        known = bool((lines[:, 2] != UNKNOWN).all())
        numbers = lines[:, 2].unique()
        by_document = grouped(lines[:, 2:3], lines[:, 3:])
        self.per_document = torch.cat([numbers.unsqueeze(1), by_document], 1) if known else None
        table = by_document if known and len(by_document) >= FEWEST_GROUPS else by_row
        accuracy, collision, counts = table[:, :4], table[:, 4:8], table[:, 8]
        sums = 2 * accuracy - collision
        brier = sums.sum(0) / counts.sum()
        score = brier_lm(brier)
        low, high = bootstrap_interval(sums, counts)
        low, high = torch.minimum(low, score), torch.maximum(high, score)
        if bool((brier > 0).all()):
            score_se = score / NUM_TOKENS * ratio_standard_error((sums / brier).sum(1), counts)
        else:
            score_se = (high - low) / (2 * NORMAL_975) if len(table) > 1 else score + float("nan")
        result = {"brier_lm": score, "brier_lm_se": score_se, "brier_lm_low": low, "brier_lm_high": high}
        columns = {
            "brier_{}": brier,
            "brier_{}_se": ratio_standard_error(sums, counts),
            "accuracy_{}": accuracy.sum(0) / counts.sum(),
            "collision_{}": collision.sum(0) / counts.sum(),
        }
        for name, values in columns.items():
            result |= {name.format(n): value for n, value in enumerate(values, start=1)}
        sizes = {"rows": len(by_row), "documents": len(numbers) if known else 0, "blocks": len(table)}
        return (
            result
            | {"units": counts.sum()}
            | {name: counts.new_tensor(float(size)) for name, size in sizes.items()}
        )
