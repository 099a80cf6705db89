"""Parts that state their own cost. FLOPs are 2 per multiply-add of a matrix product; all else is free.

A formula is arithmetic on the sizes of a part, so it holds on the meta device, before there is a weight.
Attention is counted over all pairs, not halved for causality. The cost of a part that states nothing is
measured with `torch.utils.flop_counter` (`calmkit.metrics.measured_flops`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from calmkit.interfaces.head import SampleOptions

PASSES = 3
"""Forward passes that a training step costs: a backward pass takes two matrix products, for inputs and
weights, where the forward pass takes one."""


class StatesFlops(ABC):
    """What embedders, backbones, heads and transforms state, beside the contract of their kind.

    Those of the first two are `StatesStepFlops` as well, heads `StatesDrawFlops`. A transform's inverse is
    taken to cost what its forward pass costs.
    """

    @abstractmethod
    def forward_flops(self, units: int) -> int:
        """FLOPs of one training forward pass over one row of `units` real units, a head's loss included. Of a
        transform `units` are those that it gives.

        A training step counts `PASSES` times that, unless the part is a `StatesTrainingFlops`.
        """


class StatesTrainingFlops(StatesFlops):
    """A part whose backward pass does not cost two forward passes."""

    @abstractmethod
    def training_flops(self, units: int) -> int:
        """FLOPs of the forward and the backward pass over one row."""


class StatesStepFlops(StatesFlops):
    """An embedder or backbone that states the cost of generation too."""

    @abstractmethod
    def step_flops(self, past: int) -> int:
        """FLOPs of reading one more unit behind `past` units that are already read."""


class StatesDrawFlops(StatesFlops):
    """A head that states the cost of draws too."""

    @abstractmethod
    def draw_flops(self, num: int = 1, options: SampleOptions | None = None) -> int | None:
        """FLOPs of `num` draws of one unit, what they share counted once.

        None where no formula can say it, because the weights decide: an adaptive solver.
        """


class StatesDensityFlops(ABC):
    """A capability of heads that know their density, beside `StatesDrawFlops`."""

    @abstractmethod
    def density_flops(self) -> int:
        """FLOPs of the log density of one value of one unit."""


class StatesWeightedFlops(ABC):
    """A capability of heads that are a `WeightedHead`, beside `StatesDrawFlops`."""

    @abstractmethod
    def weighted_flops(self) -> int:
        """FLOPs of all weights and one value for each, of one unit."""


class StatesCodingFlops(ABC):
    """A capability of autoencoders. A step of stage 1 is `PASSES` times both; stage 2 encodes only."""

    @abstractmethod
    def encode_flops(self) -> int:
        """FLOPs of the posterior of one unit."""

    @abstractmethod
    def decode_flops(self) -> int:
        """FLOPs of one value back to its logits, or its ids."""


class StatesDraws(ABC):
    """A capability of samplers: how many draws of the head a unit takes, whatever they turn out to be."""

    @abstractmethod
    def draws_per_unit(self) -> int:
        """Draws."""
