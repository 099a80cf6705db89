"""Sharpen: lower temperature at the price of one call of a head that knows the weights of its draws.

A draw of a mixture, or of a head with codes, picks one of M values by weights w that the head computes
anyway. Decoded, they are chunks, and the weights of equal ones add up to an estimate of their probability,

    p(x) = sum of w_m over the m that decode to x,

so the law P(x)^(1/T) / Z can be read off from M values, where `vote` and `rejection` must count among many
draws how likely a chunk is. A chunk is chosen by p(x)^(1/T), and of its values one by its weight. At T = 1
that is a draw of the head, exactly. Below 1 it is exact where every component decodes to one chunk. A
component that is spread over several counts for the one that it gave, with its whole weight, so less is
sharpened than T says. More draws of each component (`draws_per_weight`) or a head's own temperature below 1
bring it nearer; what temperature a nominal T really is can be measured (docs/samplers.md).

Without `merge` the weights themselves are raised to 1/T, as if every value were a chunk of its own. Then only
the value that is chosen has to be decoded, and the choice costs what a draw costs.

Source of the law: Shao et al., Continuous Autoregressive Language Models, 2025, section 5.
https://arxiv.org/abs/2510.27688 That known weights be sharpened in place of counts is calmkit's.
"""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Choice, Draw, Sampler, WeighingSampler, WeightedSource
from calmkit.samplers.chunk_counts import label_chunks
from calmkit.samplers.head_wishes import head_wishes
from calmkit.samplers.vote import pick

STEEPEST = 1e30  # of exponents that float32 holds; whatever is likelier at all wins long before


@final
class SharpenSampler(WeighingSampler):
    """The law of chunks at a lower temperature, from the weights of the head's components or codes.

    It costs `draws_per_weight` calls of the head, each with all of its M values, which are all decoded;
    without `merge`, one call and one decoded value. `Choice.draws` is the number of values decoded,
    `Choice.level` 1/T, and `Choice.index` the value chosen. Heads that don't know their weights are refused.

    Args:
        temperature: T, in (0, 1]; nominal, see above.
        draws_per_weight: n: values of each component or code, of which each has the n-th part of its weight.
        merge: Whether the weights of equal chunks add up. False: each value counts for itself.
        head_temperature: The head's own temperature; None: as the head was built.
        num_steps: Steps of an iterative head; None: as it was built.
        solver: Solver of an iterative head; None: as it was built.

    Raises:
        ValueError: A temperature outside (0, 1] or without a finite inverse, no draws, or several of each
            weight that are not merged.

    Source:
        Shao et al., 2025, section 5, for the law; the estimate of P from known weights is calmkit's.
    """

    compares = True

    def __init__(
        self,
        *,
        temperature: float = 0.5,
        draws_per_weight: int = 1,
        merge: bool = True,
        head_temperature: float | None = None,
        num_steps: int | None = None,
        solver: str | None = None,
    ) -> None:
        exponent = 1 / temperature if 0 < temperature <= 1 else math.inf
        if not math.isfinite(exponent):
            raise ValueError(
                f"sharpen: temperature must be in (0, 1] and its inverse finite, got {temperature}; "
                "0.5 would do."
            )
        if draws_per_weight < 1:
            raise ValueError(
                f"sharpen: draws_per_weight must be at least 1, got {draws_per_weight}; 1 would do."
            )
        if draws_per_weight > 1 and not merge:
            raise ValueError(
                f"sharpen: draws_per_weight {draws_per_weight} is for merging what is equal, and merge is "
                "false; 1 would do."
            )
        self.exponent = min(exponent, STEEPEST)
        self.rounds, self.decodes_all = draws_per_weight, merge
        self.options = head_wishes("sharpen", head_temperature, num_steps, solver)

    def choose(self, draw: Draw, rows: Int[Tensor, " R"], generator: torch.Generator | None = None) -> Choice:
        """Weigh the chunks of all values and choose one of each row.

        Raises:
            TypeError: The source of draws knows no weights.
        """
        if not isinstance(draw, WeightedSource):
            given = type(draw).__name__
            raise TypeError(f"sharpen: draws must come from a WeightedSource, and {given} is none.")
        if not self.decodes_all:
            return self._choose_by_weight(draw, rows, generator)
        asked = [draw.weighted(rows) for _ in range(self.rounds)]
        data = torch.cat([values for _, values in asked])  # [n M, R, *data]
        log_weights = torch.cat([weights for weights, _ in asked], -1).T  # [n M, R]
        index = sharpen(label_chunks(data), log_weights, self.exponent, generator)
        return Choice(
            data[index, torch.arange(len(rows), device=data.device)],
            index=index,
            draws=torch.full_like(index, len(data)),
            level=self._level(rows),
        )

    def _choose_by_weight(
        self, draw: WeightedSource, rows: Int[Tensor, " R"], generator: torch.Generator | None
    ) -> Choice:
        """A choice among values that are all taken to be chunks of their own."""

        def by_weight(log_weights: Tensor) -> Tensor:
            return pick((self.exponent * (log_weights - log_weights.amax(-1, True))).softmax(-1), generator)

        once = torch.ones_like(rows, dtype=torch.long)
        data = draw.picked(rows, by_weight)
        return Choice(data, index=once - 1, draws=once, level=self._level(rows))

    def _level(self, rows: Int[Tensor, " R"]) -> Float[Tensor, " R"]:
        return torch.full_like(rows, self.exponent, dtype=torch.get_default_dtype())


def sharpen(
    labels: Int[Tensor, "N R"],
    log_weights: Float[Tensor, "N R"],
    exponent: float,
    generator: torch.Generator | None = None,
) -> Int[Tensor, " R"]:
    """Choose one value per row: its chunk x with weight p(x)^exponent, and within x by the values' weights.

    Args:
        labels: Per row, equal labels in [0, N) where chunks are equal.
        log_weights: Of the values, up to a constant of the row; -inf is never chosen.
        exponent: 1/T, at least 1; 1 takes each value by its own weight.
        generator: Source of randomness; None: torch's default.
    """
    weight = log_weights.softmax(0)
    of_chunk = torch.zeros_like(weight).scatter_add_(0, labels, weight).gather(0, labels)
    log_p = of_chunk.clamp(min=torch.finfo(weight.dtype).tiny).log()
    # p^exponent w / p, against the likeliest chunk of the row, for which a large exponent multiplies 0
    score = (exponent - 1) * (log_p - log_p.amax(0)) + log_weights
    return pick(score.softmax(0).T.contiguous(), generator)


@hookimpl
def calmkit_samplers() -> dict[str, type[Sampler]]:
    """Register this part."""
    return {"sharpen": SharpenSampler}
