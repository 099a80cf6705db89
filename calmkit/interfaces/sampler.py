"""Sampler: chooses one unit among a head's draws, knowing neither head nor autoencoder.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 5. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from calmkit.interfaces.head import SampleOptions

Draw = Callable[[int, Tensor], Tensor]
"""`draw(n, rows)` -> data `[n, len(rows), *data]`, such as ids: n fresh independent draws for each of the
rows `[R]`. In generation, what follows an end inside a unit is already replaced (`Ending`)."""


@final
@dataclass(frozen=True)
class Choice:
    """What a sampler chose.

    Attributes:
        data: `[R, *data]`, the chosen unit of each row, such as its ids `[R, K]`.
        index: `[R]`, which draw of the row it is, counting all draws asked for that row from 0 in their
            order.
        draws: `[R]`, how many draws the row cost.
        level: `[R]`, the agreement really used, a float: 1 for a plain draw, n for the law P^n (exact, or
            estimated by a vote), the count of the mode where the mode is taken, NaN where the sampler fell
            back: the law asked for was not reached below its ceiling on draws.
    """

    data: Shaped[Tensor, "*rows_and_data"]
    index: Int[Tensor, " R"]
    draws: Int[Tensor, " R"]
    level: Float[Tensor, " R"]


Pick = Callable[[Tensor], Tensor]
"""`pick(log_weights)` -> `[R]`: of log weights `[R, M]` the place of one value of each row."""


class WeightedSource(ABC):
    """A source of draws that also hands out the values which a draw is picked from, with their weights.

    Whether the head knows its weights shows at the first call of `weighted`.
    """

    @abstractmethod
    def __call__(self, num: int, rows: Int[Tensor, " R"]) -> Shaped[Tensor, "*num_rows_and_data"]:
        """As `Draw`."""

    @abstractmethod
    def weighted(
        self, rows: Int[Tensor, " R"]
    ) -> tuple[Float[Tensor, "R M"], Shaped[Tensor, "*values_rows_and_data"]]:
        """Log weights `[R, M]` and data `[M, R, *data]` of one call of the head (`WeightedHead`).

        Picking one of the data of a row by its weight is one draw. Each call makes the values afresh, of the
        same weights in the same order. They count as M draws of the row.

        Raises:
            TypeError: The head does not know its weights.
        """

    @abstractmethod
    def picked(self, rows: Int[Tensor, " R"], pick: Pick) -> Shaped[Tensor, "*rows_and_data"]:
        """As `weighted`, but of each row only the value is decoded that `pick` takes by the weights alone.

        It counts as one draw of the row.

        Raises:
            TypeError: The head does not know its weights.
        """


class Sampler(ABC):
    """A rule for choosing among draws. The constructor is `(*, ...)`, all of it settable in a recipe.

    Attributes:
        compares: On the class: True where it asks which draws are equal; a recipe whose units are real
            numbers, which never are, is refused.
        options: What it asks of the head for every single draw; a head that does not honour it is refused
            when the recipe is composed.
    """

    compares: ClassVar[bool] = False
    options: SampleOptions

    @abstractmethod
    def choose(self, draw: Draw, rows: Int[Tensor, " R"], generator: torch.Generator | None = None) -> Choice:
        """Choose a unit for each of the rows `[R]`.

        Args:
            draw: The source of draws; its randomness is its own.
            rows: Which rows to choose for, one at least.
            generator: Of the choice's own randomness, on the device of the draws; None: torch's default.
        """


class WeighingSampler(Sampler):
    """A sampler that asks for values and their weights, so its source is a `WeightedSource`.

    A head that is no `WeightedHead` is refused when the recipe is composed.

    Attributes:
        rounds: How often it asks for the values of a unit; each time the head is called once.
        decodes_all: Whether it asks by `weighted`, so that all values are decoded, or by `picked`.
    """

    rounds: int
    decodes_all: bool


Schedule = Literal["constant", "rising", "falling"]
"""How a guidance weight moves over the steps of a row. `rising` ends at the weight, by the share of the units
that is known after a step (MAR calls it linear); `falling` begins at it, by the share known before the step
(NextStep-1 calls it linear too). So a row of one step is guided by the weight itself."""


@final
@dataclass(frozen=True)
class Guidance:
    """How strongly draws are pushed away from the null condition.

    Attributes:
        weight: w: conditions are combined as w c + (1 - w) null. 1 is no guidance.
        schedule: How it moves.

    Sources: Li et al., MAR, 2024, and its code. https://arxiv.org/abs/2406.11838 NextStep-1, 2025, and its
    code. https://arxiv.org/abs/2508.10711
    """

    weight: float = 1.0
    schedule: Schedule = "constant"

    def at(self, before: float, after: float) -> float:
        """The weight of a step, by the shares of the units known before and after it, in [0, 1]."""
        if self.schedule == "constant":
            return self.weight
        return 1 + (self.weight - 1) * (after if self.schedule == "rising" else 1 - before)


class RowSampler(ABC):
    """How whole rows of a fixed number of units are drawn, in latents, along an `Order`.

    The constructor is `(*, ...)`, all of it settable in a recipe. `calmkit.rows.draw_rows` goes by it.

    Attributes:
        options: What it asks of the head for every single draw; a head that does not honour it is refused
            when the recipe is composed.
        guidance: How draws are guided; a weight other than 1 needs a conditioner that was dropped in
            training, and a head that can be guided.
        beams: Rows kept side by side for each row wished for; 1: none but itself. More need a `DensityHead`
            and a causal order, and leave the guidance at 1.
        fan: Draws per beam and unit, of which the best are kept.
    """

    options: SampleOptions
    guidance: Guidance
    beams: int = 1
    fan: int = 1
