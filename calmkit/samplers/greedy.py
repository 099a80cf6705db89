"""Greedy: the most frequent chunk of a batch of draws, the limit of `vote` at temperature 0.

A head that can only be sampled does not know its most likely chunk; the mode of N draws is it with a
probability that goes to 1 as N grows. The level says how sure the batch was: where it is 1, no two draws were
equal and the choice is a plain draw.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 5.2: Algorithm 2 with n = N.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Choice, Draw, Sampler, StatesDraws
from calmkit.samplers.chunk_counts import count_labels, label_chunks
from calmkit.samplers.head_wishes import head_wishes


@final
class GreedySampler(Sampler, StatesDraws):
    """The mode of a batch of draws; of chunks that came equally often, the one that was drawn first.

    `Choice.level` is the mode's count, and `Choice.index` its first draw.

    Args:
        candidates: N, draws per unit.
        head_temperature: The head's own temperature; None: as the head was built.
        num_steps: Steps of an iterative head; None: as it was built.
        solver: Solver of an iterative head; None: as it was built.

    Raises:
        ValueError: Fewer than two candidates.

    Source:
        Shao et al., 2025, Algorithm 2 with n = N, but for ties, which that algorithm breaks at random.
    """

    compares = True

    def __init__(
        self,
        *,
        candidates: int = 200,
        head_temperature: float | None = None,
        num_steps: int | None = None,
        solver: str | None = None,
    ) -> None:
        if candidates < 2:
            raise ValueError(f"greedy: candidates must be at least 2, got {candidates}; 200 would do.")
        self.candidates = candidates
        self.options = head_wishes("greedy", head_temperature, num_steps, solver)

    def draws_per_unit(self) -> int:
        """The candidates."""
        return self.candidates

    def choose(self, draw: Draw, rows: Int[Tensor, " R"], generator: torch.Generator | None = None) -> Choice:
        """Count `candidates` draws per row and take the mode; nothing random is left to do."""
        del generator
        ids = draw(self.candidates, rows)
        index, count = mode(label_chunks(ids))
        return Choice(
            ids[index, torch.arange(len(rows), device=ids.device)],
            index=index,
            draws=torch.full_like(index, self.candidates),
            level=count.to(torch.get_default_dtype()),
        )


def mode(labels: Int[Tensor, "N R"]) -> tuple[Int[Tensor, " R"], Int[Tensor, " R"]]:
    """First draw of the most frequent label of each row, and its count."""
    counts = count_labels(labels)
    index = counts.argmax(0)  # the first of equal ones, by torch's promise
    return index, counts.gather(0, index.unsqueeze(0))[0]


@hookimpl
def calmkit_samplers() -> dict[str, type[Sampler]]:
    """Register this part."""
    return {"greedy": GreedySampler}
