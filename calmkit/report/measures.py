"""measures: how each number that a study can be about is called and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calmkit.report.kind import number_of


@dataclass(frozen=True)
class Shown:
    """A number as it is shown.

    Attributes:
        name: In tables and figures, with its unit.
        digits: Behind the point.
        factor: Of what is stored; 100 for shares that are shown in percent.
        meaning: Its sentences, of what it says; empty where nobody here knows it.
        label: Its name without the unit; empty: the name says it.
        unit: Behind a value in a sentence.
    """

    name: str
    digits: int = 3
    factor: float = 1.0
    meaning: str = ""
    label: str = ""
    unit: str = ""

    def told(self, value: float | None) -> str:
        """A value in a sentence: `accuracy 5.25`, `energy score 2.113 latent units`."""
        if not self.unit or self.unit == "%":
            return f"{self.name} {self.text(value)}"
        return f"{self.label} {self.text(value)} {self.unit}"

    def text(self, value: float | None, sign: str = "") -> str:
        """A value, `-` where it is unknown. `sign='+'` shows the sign of a difference."""
        return "-" if value is None else f"{self.factor * value:{sign}.{self.digits}f}"

    def interval(self, low: float | None, high: float | None, sign: str = "") -> str:
        """Both ends, `-` where they are unknown."""
        if low is None or high is None:
            return "-"
        return f"[{self.text(low, sign)}, {self.text(high, sign)}]"


PROPER = "It is a proper score: no model scores better on average than the truth."


PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def quantity(value: float) -> str:
    """Three significant digits and a prefix, to stand before a unit: `11.1 T`, `512 `."""
    for factor, letter in PREFIXES:
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:.3g} "


def measure(name: str, summary: Mapping[str, Any] | None = None) -> Shown:
    """How a number is shown: by the words that the results bring, else by those of a measure here.

    Args:
        name: As it is stored.
        summary: Results, with the words of what was measured.
    """
    number = number_of(name, summary)
    if number is None:
        return Shown(name.replace("_", " "))
    meaning = f"{number.meaning} {PROPER}" if number.proper else number.meaning
    return Shown(number.name, number.digits, number.factor, meaning, number.label, number.unit)


def asked_measures(summary: Mapping[str, Any]) -> list[str]:
    """Names of the numbers that recipes asked for and some run has, but for the primary one."""
    return [name for name in summary.get("measures", {}) if name != summary["primary"]]
