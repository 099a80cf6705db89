"""Measure: a number about a model, the words it is told in, and which way is better.

A measure is either only described, for numbers that every evaluation holds anyway, or a `HeldOutMeasure`,
which a recipe asks for and which sees held-out text through the eyes of a model, a batch at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from calmkit.interfaces.autoencoder import Autoencoder
from calmkit.interfaces.backbone import Context
from calmkit.interfaces.head import EVENT_KINDS, DensityHead, GenerativeHead
from calmkit.interfaces.posterior import Posterior

if TYPE_CHECKING:  # whoever only lists measures does not wait for it
    import torchmetrics

BETTER = ("higher", "lower")


@final
@dataclass(frozen=True)
class Number:
    """How one number is called, read and written, wherever it is shown.

    Attributes:
        label: In tables and figures; one line.
        better: Which of two values is the better one; what is ranked by the number is ranked that way.
        meaning: One sentence of what it says; it stands under the tables that are ranked by the number.
        unit: Told behind the label; empty where the label says it, or where there is none.
        digits: Behind the point.
        factor: Of what is stored; 100 for shares that are shown in percent.
        proper: True where no model scores better in expectation than the truth itself; the test kit holds it
            to that, and tables say so.
        mark: A value that means something by itself, such as 1 of a share; figures that have the number on
            an axis draw a line there. None: there is none.
        best: As stored, what no model can exceed where more is better, such as 100; None: nothing is said.

    Raises:
        ValueError: For words that are missing, another direction, digits below 0, or a best that is not above
            0 or of a number of which less is better.
    """

    label: str
    better: Literal["higher", "lower"]
    meaning: str
    unit: str = ""
    digits: int = 3
    factor: float = 1.0
    proper: bool = False
    mark: float | None = None
    best: float | None = None

    def __post_init__(self) -> None:
        if not self.label.strip() or "\n" in self.label:
            raise ValueError(f"a number's label is one line of words, got {self.label!r}")
        if self.better not in BETTER:
            raise ValueError(f"'{self.label}': better is 'higher' or 'lower', got {self.better!r}")
        if not self.meaning.strip().endswith("."):
            raise ValueError(
                f"'{self.label}': its meaning is a sentence with a full stop, got {self.meaning!r}"
            )
        if self.digits < 0 or not self.factor > 0:
            told = f"digits={self.digits}, factor={self.factor}"
            raise ValueError(f"'{self.label}': digits are at least 0 and the factor is above 0, got {told}")
        if self.best is not None and (self.better == "lower" or not self.best > 0):
            told = f"best={self.best:g}, better={self.better!r}"
            raise ValueError(
                f"'{self.label}': a best is above 0, of a number where higher is better, got {told}"
            )

    @property
    def name(self) -> str:
        """The label with its unit: `energy score, latent units`, `Brier-1 %`."""
        if not self.unit:
            return self.label
        return f"{self.label} %" if self.unit == "%" else f"{self.label}, {self.unit}"


@final
@dataclass(frozen=True)
class MeasureInfo:
    """Facts about a measure, read when it comes through the door and before a model is measured.

    Attributes:
        numbers: What it yields: one number, stored under the measure's own name, or several by key. The key
            `spread` of a measure `energy_score` is stored as `energy_score_spread`, the key `""` under the
            measure's name.
        needs: Capabilities of the head, such as `DensityHead`; the measure is left out, with a sentence,
            where a head has not all of them.
        events: Kinds of `EventSpec` it can be taken of; left out, with a sentence, for others.
        on_the_way: True for a `HeldOutMeasure` that is cheap enough to be taken at every validation of
            stage 2 too, over `stages.lm.eval_rows` rows: its numbers then stand in `metrics.csv`.

    Raises:
        ValueError: For no numbers, an event that there is not, or a need that is no class.
    """

    numbers: Number | Mapping[str, Number]
    needs: tuple[type, ...] = ()
    events: frozenset[str] = frozenset(EVENT_KINDS)
    on_the_way: bool = False

    def __post_init__(self) -> None:
        keyed = self.numbers if isinstance(self.numbers, Mapping) else {"": self.numbers}
        if not keyed or not all(isinstance(k, str) and isinstance(n, Number) for k, n in keyed.items()):
            raise ValueError(f"numbers is a Number, or a mapping of names and Numbers, got {self.numbers!r}")
        if not self.events or not self.events <= set(EVENT_KINDS):
            raise ValueError(f"events are some of {sorted(EVENT_KINDS)}, got {sorted(self.events)}")
        if not all(isinstance(need, type) for need in self.needs):
            raise ValueError(f"needs are classes such as DensityHead, got {self.needs!r}")

    def named(self, measure: str) -> dict[str, Number]:
        """Its numbers under the names by which they are stored, given the name of the measure."""
        keyed = self.numbers if isinstance(self.numbers, Mapping) else {"": self.numbers}
        return {stored_name(measure, key): number for key, number in keyed.items()}

    def why_not(self, head: GenerativeHead, event: str) -> str:
        """Why it can't be taken of a model with that head and kind of event; empty where it can."""
        if event not in self.events:
            return f"it is of {' or '.join(sorted(self.events))} events, and the model's are {event}"
        missing = [need.__name__ for need in self.needs if not isinstance(head, need)]
        return f"the head is no {' and no '.join(missing)}" if missing else ""


def stored_name(measure: str, key: str) -> str:
    """The name under which an evaluation stores a number of a measure."""
    return f"{measure}_{key}" if key else measure


DrawUnits = Callable[["int | None"], tuple[Tensor, Tensor]]
"""`draw(num)` -> data `[num, N, *data]` and the values they were decoded from, `[num, N, *E]`."""

Density = Callable[[Context, Tensor], Tensor]
"""`density(context, z)` -> log density of each value, nats per unit."""


@final
@dataclass(frozen=True)
class HeldOut:
    """The N predicted units of one batch of held-out rows, N at least 1, and what a model makes of them.

    The past is read as generation reads a prompt, with the mean of each posterior. Nothing here carries a
    gradient, and nothing is to be written to: the next measure sees the same tensors.

    Attributes:
        head: Of the model, in eval mode; its capabilities are its type.
        autoencoder: Of the model.
        context: Conditions of all units of the batch, `[B, L]`, as a head with a memory wants them.
        keep: `[B, L]`, true for the N units that are real and predicted.
        target: q(z | unit) of the N units.
        data: What the N units really are, such as their ids.
        rows: `[N]`, which row of the batch each unit belongs to.
        groups: `[N]`, what each unit comes from, such as its document, the same number in every batch (see
            `Batch.group`); None: unknown.
        draw: Behind `draws`.
        density: Behind `log_prob`: calls the head in the precision that its facts allow.
    """

    head: GenerativeHead
    autoencoder: Autoencoder
    context: Context
    keep: Bool[Tensor, "B L"]
    target: Posterior
    data: Shaped[Tensor, "*units_and_data"]
    rows: Int[Tensor, " N"]
    groups: Int[Tensor, " N"] | None
    draw: DrawUnits = field(repr=False)
    density: Density = field(repr=False)

    def draws(self, num: int | None = None) -> Shaped[Tensor, "num N *event"]:
        """`num` independent draws of the head per unit; None: as many as `evaluation.draws` says.

        They are made when they are first asked for, from a seed of their own, and shared: every measure that
        asks for as many gets the same ones, whoever else asks for what.
        """
        return self.draw(num)[1]

    def drawn_data(self, num: int | None = None) -> Shaped[Tensor, "*num_units_and_data"]:
        """The same draws, decoded. Nothing is replaced after an end."""
        return self.draw(num)[0]

    def log_prob(self, z: Shaped[Tensor, "N *event"]) -> Float[Tensor, " N"]:
        """Log density of a value per unit under the head, nats per unit.

        Raises:
            TypeError: The head is no `DensityHead`; a measure that calls this says so in `info.needs`.
        """
        if not isinstance(self.head, DensityHead):
            raise TypeError(f"{type(self.head).__name__} knows no density; state needs=(DensityHead,).")
        if not self.head.info.needs_memory:
            return self.density(self.context[self.keep], z)
        placed = torch.zeros((*self.keep.shape, *z.shape[1:]), dtype=z.dtype, device=z.device)
        placed[self.keep] = z
        return self.density(self.context, placed)[self.keep]


class Measure(ABC):
    """Numbers about a model, described. The constructor is `(*, ...)`, all of it settable in a recipe.

    One that is this and no `HeldOutMeasure` stands for numbers that every evaluation holds where they are
    known: runs can be ranked by it, and no recipe asks for it.

    Attributes:
        info: Facts about the class.
        data_kind: Which kind of data it is about, a name such as `text`; empty: any.
        sums: Stored name -> the columns of `Scores.table` that the number follows from, of those that do: its
            intervals are then made of sums by group, and differences taken in pairs. The numbers of a
            `HeldOutMeasure` follow from tables of their own.
    """

    info: ClassVar[MeasureInfo]
    data_kind: ClassVar[str] = ""
    sums: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @classmethod
    def of_sums(cls, name: str, sums: np.ndarray) -> np.ndarray:
        """A number of this measure from sums over groups, `[..., C]` -> `[...]`.

        Args:
            name: As it is stored.
            sums: Of the columns that `sums` names for it, or of the number over units and the units. This
                body is for a mean: the first column over the last.
        """
        del name
        return np.asarray(sums[..., 0] / sums[..., -1])


class HeldOutMeasure(Measure):
    """A measure that a recipe asks for under `evaluation.metrics`, taken over all held-out units."""

    @abstractmethod
    def metric(self) -> torchmetrics.Metric:
        """A fresh accumulator that has seen nothing; its states add up over updates and processes.

        Its `compute` gives the numbers of `info`: a scalar for a single number, else a mapping by key. What a
        mapping holds beyond them (`se`, `low`) is stored too. A mean over units is a
        `calmkit.metrics.unit_means.UnitMeans`, which knows its interval by group.
        """

    @abstractmethod
    def update(self, metric: torchmetrics.Metric, held: HeldOut) -> None:
        """Add the units of a batch to an accumulator that `metric` made.

        Randomness is torch's default generator, which the caller seeds and puts back; no result may depend
        on how the units are spread over batches, but for that randomness.
        """
