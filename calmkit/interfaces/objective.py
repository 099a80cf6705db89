"""Objective: what stage 2 makes smaller; by itself the head's loss on the data, else something about draws.

An objective may ask other runs, such as a teacher: they are read when stage 2 begins, in eval mode and
without gradients, and are no part of what is trained or saved. It may also ask what the kind of data thinks
of a unit, a *reward*. Models lie in a room above this one, so their type is named in words only: `model` is
a `calmkit.model.CalmModel`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from jaxtyping import Bool, Float
from torch import Tensor

from calmkit.interfaces.batch import Batch
from calmkit.interfaces.head import SampleOptions

Reward = Callable[[Tensor], Tensor]
"""`reward(data)` -> one number for each unit of `data`, `[*, *unit]` -> `[*]`; higher is better."""


@dataclass(frozen=True)
class UnitLoss:
    """The loss of the units that count, and which ones they are.

    Attributes:
        per_unit: `[N]`, in the head's own unit.
        keep: `[B, L]`, true where a unit counts; N of them, in row-major order.
    """

    per_unit: Float[Tensor, " N"]
    keep: Bool[Tensor, "B L"]


class Objective(ABC):
    """What a training step of stage 2 makes smaller. The constructor is `(*, ...)`, all of it settable.

    Attributes:
        runs: Settings that name the folder of a finished run, whose model it asks.
        begins_with: The one of `runs` that means the run of `stages.lm.init_from` where it is null.
        numbers: Names of what `measured` gives.
        reward: The name of a reward of the kind of data, `DataKind.rewards`; None: it asks for none.
        draws: Draws of each run and unit in a training step, for its cost.
        decodes: Whether these are decoded.
        options: Of these draws.
    """

    runs: ClassVar[tuple[str, ...]] = ()
    begins_with: ClassVar[str] = ""
    numbers: ClassVar[tuple[str, ...]] = ()
    reward: str | None = None
    draws: int = 0
    decodes: bool = False
    options: SampleOptions | None = None

    @final
    def begin(self, models: Mapping[str, Any], reward: Reward | None) -> None:
        """Take what it asks: before the first `loss` both, before `measured` the reward alone.

        Args:
            models: Setting of `runs` -> that run's model, frozen.
            reward: Of the kind of data, where `reward` names one.
        """
        self.models, self.judge = dict(models), reward

    @abstractmethod
    def loss(self, model: Any, batch: Batch) -> UnitLoss:
        """Loss of each unit that counts, the model in training mode, by torch's default generator."""

    def measured(self, model: Any, batch: Batch) -> Mapping[str, Float[Tensor, " N"]]:
        """Numbers about held-out units, by the names of `numbers`; their means are kept beside the scores.

        The runs of `runs` are not there.
        """
        del model, batch
        return {}
