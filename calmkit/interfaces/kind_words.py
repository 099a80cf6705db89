"""KindWords: how a kind of data is told: what studies and reports ask instead of its name.

All of it are plain values, so that results can bring the words they are to be shown in, and whoever shows
them needs no plugin. What a kind leaves out, its reports leave out too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, final, get_args, get_origin, get_type_hints


@final
@dataclass(frozen=True)
class ColumnWords:
    """A number of an evaluation, or a fact of a run, as a column of a table.

    Attributes:
        name: Under which it is stored.
        head: What stands above the column; a number that stands alone has a sentence's beginning here.
        digits: Behind the point.
        factor: Of what is stored; 100 for shares that are shown in percent.
        bound: Stored name of an upper bound, shown behind `<=` where the number itself is not known.
        missing: What stands where neither is known.
        called: What a reader calls the column who chooses it; empty: by its stored name.
    """

    name: str
    head: str
    digits: int = 0
    factor: float = 1.0
    bound: str = ""
    missing: str = "-"
    called: str = ""


@final
@dataclass(frozen=True)
class RivalWords:
    """What models are held against, by the primary number.

    Attributes:
        label: Above its column, and beside its line in figures.
        name: Stored name of its score, in the evaluation of each model.
        line: In figures: `:` dotted for what is simpler (curves show the last of them), `--` for what is
        best possible; empty: none.
    """

    label: str
    name: str
    line: str = ""


@final
@dataclass(frozen=True)
class RelateWords:
    """What the points on the way hold that can be set against each other, beside steps and FLOPs.

    Attributes:
        names: Stored name -> what a figure calls it.
        either: A name for the exact number where it is known, else its bound; empty: there is none.
        exact: Stored name of the exact one.
        bound: Stored name of the bound.
        clamped: Numbers that are 0 where they are cut off; such points are left out.
        published: `[x, y, pearson, spearman]`, as others found them.
    """

    names: Mapping[str, str]
    either: str = ""
    exact: str = ""
    bound: str = ""
    clamped: tuple[str, ...] = ()
    published: tuple[tuple[Any, ...], ...] = ()


EVALUATION_OF_A_KIND = ("draws", "sample_prompt", "sample_tokens", "sample_rows")
"""Keys of a recipe's `evaluation` that not every kind of data reads."""

GROUP_BEFORE = "document"
"""How every kind's tables by group were called before they had the word of their kind; some runs still hold
such files.
"""


@final
@dataclass(frozen=True)
class KindWords:
    """How a kind is told.

    Attributes:
        element: What rates and costs are told by, in the singular, such as `token` or `image`: a run's facts
            hold `inference_flops_per_<element>`.
        primary: The number that models of this kind are ranked by, a stored name such as `brier_lm`.
        shown: Scores of a validation that are worth a line while a stage is trained.
        curve: Scores on the way that a run keeps for curves, as stored in `metrics.csv`.
        untrained: How the names begin of what is kept of a model before its first step.
        lineage: Facts of a run that must be equal for another to build upon its autoencoder.
        row: What one row is called, such as `row of text`.
        data: What models learn and are measured on: `held-out <data>`, `95 % over <data>`.
        group: What units come from, in the singular (`Batch.group`): the witnesses of an interval.
        unit: What one unit is called.
        reads: Facts of a run without which its scores mean something else than those of another.
        size: A fact of a run that stands beside a model's name; None: none does.
        size_told: A sentence for tables whose models differ in it.
        scale: Over what was measured; `{name}` is a stored number of the evaluation, as a range.
        scale_ungrouped: The same, where the number `<group>s` is not known.
        own_interval: True where the primary number has an interval of each evaluation alone, and none that
            follows from sums by group.
        explained: True where the main table says what the primary number means.
        scores: Columns of the table of scores, the primary number left out.
        over: Columns behind them: over how much was measured.
        scores_note: A sentence under that table.
        costs: Columns of the table of costs behind parameters, training FLOPs, seconds and FLOPs.
        costs_note: A sentence under that table.
        flops_told: On the axis of the figure of FLOPs in use.
        speed: Stored name of the speed that quality is drawn against; empty: none is.
        speed_told: On the axis of that figure.
        averaged: Numbers whose mean over seeds has an interval in `results.json`, beside the primary one.
        csv: Stored names that `table.csv` holds, in order; those of `over` stand behind.
        facts: Facts of a run that `trials.csv` holds beside those of every kind.
        rivals: What models are held against.
        rivals_told: Title of that table.
        rivals_note: A sentence under it.
        lines_told: What the dotted ones of them are, in a caption.
        ceiling: A sentence of the best possible; `{name}` stands for the stored `ceiling_<name>`.
        leaked: Stored name of the share of held-out groups that were trained on; empty: nobody looks.
        coding: How well autoencoders give back what they read, as a sentence's beginning and a number.
        relate: What can be set against each other.
        sampled: What a sampler is scored by beside the primary number: how often a choice is right, and how
            often two agree. An evaluation may hold both of plain draws, as `<name>_1`, `<name>_2` and so on.
        first: What samplers are scored over, such as `the first 1 to 4 tokens`; empty: they are not.
        log: True where curves of the primary number are read on a logarithmic axis.
        sample: File in a run's folder that `DataKind.sample` writes; its name begins with `samples.`.
        sample_media: What it holds, `text/plain` or `image/png`.
        samples_told: A sentence above the samples of a report.
        kept: Name of the folder in a run's `model/` that holds what `Prepared.save` writes.
        length: What rows are measured in, in the plural, such as `tokens`; empty where all are of one size.
        evaluation: Keys of a recipe's `evaluation` that models of this kind are measured or shown by, of
            those that not every kind reads (`EVALUATION_OF_A_KIND`). The others are not shown, and refused
            where they say something; scores that need no `draws` are alike whatever that key says.
    """

    element: str
    primary: str
    shown: tuple[str, ...] = ("loss",)
    curve: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()
    lineage: tuple[str, ...] = ("event",)
    row: str = "row"
    data: str = "data"
    group: str = "group"
    unit: str = "unit"
    reads: tuple[str, ...] = ()
    size: ColumnWords | None = None
    size_told: str = ""
    scale: str = "{rows} held-out rows"
    scale_ungrouped: str = ""
    own_interval: bool = False
    explained: bool = False
    scores: tuple[ColumnWords, ...] = ()
    over: tuple[ColumnWords, ...] = ()
    scores_note: str = ""
    costs: tuple[ColumnWords, ...] = ()
    costs_note: str = ""
    flops_told: str = ""
    speed: str = ""
    speed_told: str = ""
    averaged: tuple[str, ...] = ()
    csv: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    rivals: tuple[RivalWords, ...] = ()
    rivals_told: str = ""
    rivals_note: str = ""
    lines_told: str = ""
    ceiling: str = ""
    leaked: str = ""
    coding: ColumnWords | None = None
    relate: RelateWords | None = None
    sampled: tuple[ColumnWords, ...] = (
        ColumnWords("accuracy", "accuracy %", 2),
        ColumnWords("collision", "collision %", 2),
    )
    first: str = ""
    log: bool = False
    sample: str = "samples.txt"
    sample_media: str = "text/plain"
    kept: str = "data"
    length: str = ""
    evaluation: tuple[str, ...] = EVALUATION_OF_A_KIND
    samples_told: str = "What each model made, sampled as its recipe says; nothing was picked."

    @property
    def flops(self) -> str:
        """The fact of a run that holds its FLOPs in use."""
        return f"inference_flops_per_{self.element}"

    @property
    def groups(self) -> str:
        """What comes from several: the name of tables by group, of what a study's row holds of each, and of
        how many an evaluation saw.
        """
        return f"{self.group}s"

    def as_plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def words_from(said: Mapping[str, Any]) -> KindWords:
    """What `KindWords.as_plain` gave, read back; what another version said beyond it is left out."""
    return _read(KindWords, said)


def _read(form: Any, said: Any) -> Any:
    """A plain value in the form of a type hint."""
    if get_origin(form) is UnionType:
        return None if said is None else _read(get_args(form)[0], said)
    if get_origin(form) is tuple:
        return tuple(_read(get_args(form)[0], one) for one in said)
    if is_dataclass(form):
        hints = get_type_hints(form)
        known = {field.name for field in fields(form)}
        return form(**{name: _read(hints[name], one) for name, one in said.items() if name in known})  # type: ignore[operator]
    return said
