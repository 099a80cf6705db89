"""protocol: how the numbers of an evaluation were measured, under a name of its own.

A score means something beside another only where both were measured on the same rows of the same data, with
as many draws. An evaluation says in its file how it was measured, and one that is measured in another way
than its run measures itself stands in a file of its own, `evaluation-<name>.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from calmkit.data.digest import digest
from calmkit.interfaces import KindWords
from calmkit.recipe.schema import Evaluation, PartSpec, Recipe
from calmkit.training.precision import choose_precision
from calmkit.training.run import Run, read_json

EVALUATION = "evaluation.json"
KEY = "protocol"  # in that file
NO_DATA = "none"  # no fingerprint is called so
MEASURES = 1  # raised when the same settings measure something else
SCORED = ("data", "sequence_length", "max_rows", "draws")
"""What a score depends on, whatever the model: scores that differ in one of these are not to be ranked."""
ASIDE = (
    "batch_size",
    "untrained",
    "metrics",
    *(one.name for one in fields(Evaluation) if one.name.startswith("sample_")),
)
"""Keys of a recipe's `evaluation` that change the meaning of no number: metrics only add some."""


@dataclass(frozen=True)
class Protocol:
    """How an evaluation was measured; None where it is not known.

    The first four fields decide what a score means. The others decide what speed means, and by rounding alone
    what a score is.

    Attributes:
        data: Fingerprint of the data and their split.
        sequence_length: Of a row, where rows have no length of their own.
        max_rows: Held-out rows, at most.
        draws: Per position, where scores depend on them.
        sampler: Its name and settings, which speed and what goes with it are measured with.
        precision: Lightning's name.
        device: Its kind, such as `cpu` or `cuda`.
        length: What `sequence_length` counts, in words; it changes no meaning.
        drawn: Whether scores depend on `draws`; where not, there are none to be known.
    """

    data: str | None = None
    sequence_length: int | None = None
    max_rows: int | None = None
    draws: int | None = None
    sampler: str | None = None
    precision: str | None = None
    device: str | None = None
    length: str = field(default="", compare=False)
    drawn: bool = field(default=True, compare=False)

    @property
    def scores(self) -> str:
        """The name of what scores depend on, such as `rows256-draws4-9f2a1c`."""
        drawn = "draws" if self.drawn else ""
        shown = [("rows", self.max_rows), (self.length, self.sequence_length), (drawn, self.draws)]
        words = (f"{word}{'?' if value is None else value}" for word, value in shown if word)
        return "-".join([*words, self._digest(SCORED)[:6]])

    @property
    def name(self) -> str:
        """The whole name: that of the scores, and four digits for the rest."""
        rest = [name for name in _FIELDS if name not in SCORED]
        return f"{self.scores}-{self._digest(rest)[:4]}"

    def told(self) -> str:
        """What scores depend on, in words."""
        known = (self.max_rows, self.sequence_length, self.draws)
        rows, length, draws = ("?" if value is None else value for value in known)
        data = "unknown data" if self.data is None else f"data {self.data[:8]}"
        of = f" of {length} {self.length}" if self.length else ""
        by = f"{draws} draws a position, " if self.drawn else ""
        return f"at most {rows} rows{of}, {by}{data}"

    def of_kind(self, words: KindWords) -> Protocol:
        """The same in the words of a kind of data, without the draws that its scores don't depend on: an
        evaluation from before that was asked said how many there would have been.
        """
        drawn = "draws" in words.evaluation
        return replace(self, length=words.length, draws=self.draws if drawn else None, drawn=drawn)

    def agrees(self, other: Protocol, names: tuple[str, ...] = ()) -> bool:
        """Whether all fields, or those named, are equal as far as both are known."""
        return not self.differing(other, names)

    def differing(self, other: Protocol, names: tuple[str, ...] = ()) -> list[str]:
        """The fields, of all or of those named, that are known of both and not equal."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in names or _FIELDS}
        return [name for name, (a, b) in pairs.items() if a is not None and b is not None and a != b]

    def known(self, names: tuple[str, ...]) -> bool:
        """Whether all fields of these names are; rows that have a length of their own need none, and draws
        only scores that depend on them.
        """
        without = {"sequence_length": not self.length, "draws": not self.drawn}
        return all(getattr(self, name) is not None or without.get(name, False) for name in names)

    def filled(self, other: Protocol) -> Protocol:
        """The same, with what is not known of it taken from another."""
        known = {n: v if v is not None else getattr(other, n) for n, v in vars(self).items()}
        said = {"length": self.length or other.length, "drawn": self.drawn and other.drawn}
        return Protocol(**known | said)

    def as_dict(self) -> dict[str, Any]:
        """As it stands in a file: the name, then every field."""
        return {"name": self.name, **{name: getattr(self, name) for name in _FIELDS}}

    def _digest(self, names: Any) -> str:
        return digest(str(MEASURES), *(f"{name}={getattr(self, name)}" for name in names))


_FIELDS = tuple(one.name for one in fields(Protocol) if one.compare)


def protocol_of(recipe: Recipe, fingerprint: str | None, device: str | None, words: KindWords) -> Protocol:
    """The protocol by which a recipe's evaluation measures here.

    Args:
        recipe: With all overrides.
        fingerprint: Of its prepared data.
        device: Kind of the device that measures.
        words: Of its kind of data.
    """
    return Protocol(
        data=fingerprint,
        sequence_length=recipe.data.sequence_length,
        max_rows=recipe.evaluation.max_rows,
        draws=recipe.evaluation.draws,
        sampler=_part(recipe.sampler),
        precision=choose_precision(recipe.trainer.precision, recipe.trainer.accelerator),
        device=device,
    ).of_kind(words)


def recorded(evaluation: Mapping[str, Any]) -> Protocol | None:
    """What an evaluation says of itself; None for one from before evaluations did."""
    said = evaluation.get(KEY)
    if not isinstance(said, dict):
        return None
    counted = [part.rstrip("?0123456789") for part in str(said.get("name", "")).split("-")[1:-2]]
    length = next((word for word in counted if word != "draws"), "")
    drawn = "draws" in counted or "name" not in said
    return Protocol(**{name: said.get(name) for name in _FIELDS}, length=length, drawn=drawn)


def own_protocol(run: Run, trained: Recipe, asked: Recipe, words: KindWords) -> Protocol:
    """How a run measures itself: by its recipe, on the data that it was trained on. What the recipe leaves to
    the machine is as it was when the run was measured, and unknown where it was not.

    Args:
        run: Its lock and its evaluation are asked.
        trained: Its recipe without overrides.
        asked: Its recipe as it is to be measured: where no lock knows the data, other ones are others.
        words: Of its kind of data.
    """
    before = (recorded(run.evaluation) if (run.folder / EVALUATION).exists() else None) or Protocol()
    data = locked_data(run) or before.data
    if data is None and asked.data.part != trained.data.part:
        data = NO_DATA
    said = protocol_of(trained, data, before.device, words)
    by_machine = trained.trainer.precision == "auto"
    return replace(said, precision=before.precision if by_machine else said.precision)


def locked_data(run: Run) -> str | None:
    """Fingerprint of the data that a run was trained on; None where its lock does not know one."""
    said = str(run.lock.get("data", ""))
    return None if not said or said.startswith("none") else said


def evaluation_file(now: Protocol, own: Protocol) -> str:
    """`evaluation.json` for the run's own protocol, else a name that tells the protocol."""
    return EVALUATION if now.agrees(own) else f"evaluation-{now.name}.json"


def written(path: Path, now: Protocol, own: Protocol) -> str:
    """A line: which file an evaluation went to, its protocol, and in what that is not the run's own."""
    apart = now.differing(own)
    if not apart:
        return f"written to {path}: protocol {now.name}, the run's own"
    told = [f"{name} {getattr(now, name)}, not {getattr(own, name)}" for name in apart if name != "data"]
    told += ["other data"] * ("data" in apart)
    return f"written to {path}: protocol {now.name}, not the run's own ({'; '.join(told)})"


def other_evaluations(folder: Path) -> dict[str, Protocol]:
    """Name of a file -> its protocol, of the evaluations of a run by other protocols than its own.

    Raises:
        RunFailed: One is damaged.
    """
    found = {path.name: recorded(read_json(path)) for path in sorted(folder.glob("evaluation-*.json"))}
    return {name: protocol for name, protocol in found.items() if protocol is not None}


def _part(spec: PartSpec) -> str:
    stated = sorted((name, value) for name, value in spec.options.items() if value is not None)
    settings = ", ".join(f"{name}={value}" for name, value in stated)
    return f"{spec.name}({settings})"
