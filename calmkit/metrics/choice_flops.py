"""FLOPs of a sampler's choice: all calls of the head that it took, and every value decoded.

The backbone is not in it: it reads a unit once, however its successor is chosen.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 5 (what sampling at a lower
temperature costs). https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from calmkit.generation import UnitDraws
from calmkit.head_calls import head_weighted_draws
from calmkit.interfaces import (
    Context,
    GenerativeHead,
    SampleOptions,
    StatesDrawFlops,
    StatesWeightedFlops,
    WeighingSampler,
    WeightedHead,
)
from calmkit.metrics.flops import count_flops, flops_of_decoding, flops_of_draws
from calmkit.metrics.made_up import MadeUpInput
from calmkit.metrics.measured_flops import copied, flops_of
from calmkit.metrics.transform_flops import transform_inverse_flops
from calmkit.model import CalmModel

FEWEST_UNITS = 2  # of a row that FLOPs are counted on; choices don't depend on it


@final
class ChoiceFlops:
    """What the draws of a model cost, by what was asked for.

    Args:
        model: Of units that are decoded one by one.
        options: Of each draw.
    """

    def __init__(self, model: CalmModel, options: SampleOptions | None = None) -> None:
        self.model, self.options = model, options
        self.samples = MadeUpInput.of(model, FEWEST_UNITS)
        coded = self.samples
        row = 0
        if model.transform is not None:
            coded = MadeUpInput.coded(model.autoencoder, FEWEST_UNITS)
            row = transform_inverse_flops(model.transform, coded, model.autoencoder.event)
        self.decode = flops_of_decoding(model.autoencoder, coded) + row // self.samples.units
        self._calls: dict[int, int | None] = {}
        self._weighted: int | None = None

    def of(self, draws: UnitDraws) -> int | None:
        """Of all that was asked of a source, over its rows; None for a head without a formula."""
        total = 0
        for place, (rows, z) in enumerate(draws.calls):
            head = self.weighted() if place in draws.weighted_calls else self._drawn(len(z))
            if head is None:
                return None
            total += len(rows) * (head + len(z) * self.decode)
        return total

    def weighted(self) -> int:
        """Of the head, for all weighted values of one unit.

        Raises:
            ValueError: A head on the meta device that does not state it.
        """
        if self._weighted is None:
            head = self.model.head
            if isinstance(head, StatesWeightedFlops):
                self._weighted = head.weighted_flops()
            else:
                with copied(head) as (part, device, dtype):
                    self._weighted = flops_of(lambda: self._values(part, device, dtype))
        return self._weighted

    def num_weighted(self) -> int:
        """M: how many values one call gives."""
        head = self.model.head
        parameter = next(head.parameters(), torch.empty(0))
        if parameter.is_meta:  # shapes alone, and no random number is used up
            return len(self._values(head, parameter.device, parameter.dtype))
        with copied(head) as (part, device, dtype):
            return len(self._values(part, device, dtype))

    @torch.no_grad()
    def _values(self, head: GenerativeHead, device: torch.device, dtype: torch.dtype) -> Tensor:
        assert isinstance(head, WeightedHead)
        context = Context(self.samples.hidden(device, dtype)[0, :1])
        return head_weighted_draws(head, context, self.options)[1]

    def _drawn(self, num: int) -> int | None:
        """Of the head in one call; one that states nothing is measured at one and at two draws."""
        head = self.model.head
        if num not in self._calls and (num <= 2 or isinstance(head, StatesDrawFlops)):
            self._calls[num] = flops_of_draws(head, num, self.options, self.samples)
        elif num not in self._calls:
            one, two = self._drawn(1), self._drawn(2)
            self._calls[num] = None if one is None or two is None else one + (num - 1) * (two - one)
        return self._calls[num]


def weighing_cost(model: CalmModel, units: int, sampler: WeighingSampler) -> tuple[int, int]:
    """How many values a sampler decodes for a unit, and FLOPs of writing one behind `units` - 1 others."""
    flops, read = ChoiceFlops(model, sampler.options), count_flops(model, units).inference
    values = sampler.rounds * (flops.num_weighted() if sampler.decodes_all else 1)
    chosen = sampler.rounds * flops.weighted() + values * flops.decode
    return values, chosen + sum(read[name] or 0 for name in ("embedder", "backbone"))
