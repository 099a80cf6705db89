"""outcomes: what two runs of one recipe have in common to the last bit: metrics, weights, evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from calmkit.recipe.difference import alike
from calmkit.training.checkpoints import read_tensors
from calmkit.training.difference import results_of
from calmkit.training.metrics_file import read_metrics
from calmkit.training.run import Run


@final
@dataclass(frozen=True)
class Outcome:
    """What came of one comparison.

    Attributes:
        what: Such as `weights`.
        compared: How many numbers.
        equal: How many of them are the same to the last bit.
        largest: Largest absolute difference; infinite where one of two has no number.
        at: Where that is.
    """

    what: str
    compared: int
    equal: int
    largest: float = 0.0
    at: str = ""

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return self.equal == self.compared

    def row(self) -> list[str]:
        """Cells of a table."""
        return [self.what, f"{self.compared:,}", f"{self.equal:,}", f"{self.largest:.3g}", self.at]


def outcomes(run: Run, again: Run) -> list[Outcome]:
    """What came of comparing metrics, weights and the final numbers of two runs.

    Raises:
        RunFailed: A file of one of them is missing or damaged.
    """
    metrics = _metrics(run, again)
    return [*([] if metrics is None else [metrics]), _weights(run, again), _results(run, again)]


def _metrics(run: Run, again: Run) -> Outcome | None:
    """Every cell of `metrics.csv`, line by line; None where the run has none."""
    tables = [_lines(one.folder / "metrics.csv") for one in (run, again)]
    if not tables[0]:
        return None
    cells = [
        {f"line {n} {name}": text for n, row in enumerate(rows, 2) for name, text in row.items() if text}
        for rows in tables
    ]
    return _outcome("metrics.csv", cells[0], cells[1])


def _lines(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    return read_metrics(path.parent)


def _results(run: Run, again: Run) -> Outcome:
    """Numbers of `evaluation.json` and of the model's facts that are no measures of time."""
    found = [
        {key: value for key, value in results_of(one).items() if not measures_time(key)}
        for one in (run, again)
    ]
    return _outcome("evaluation.json, config.json", found[0], found[1])


def measures_time(key: str) -> bool:
    """Whether a number, by its stored name, is of the clock: seconds, or so many a second."""
    name = key.rpartition(".")[2]
    return name.endswith("_per_second") or "seconds" in name.split("_")


def _as_number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _outcome(what: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Outcome:
    keys = list(dict.fromkeys([*a, *b]))
    other = [key for key in keys if key not in a or key not in b or not alike(a[key], b[key])]
    sizes = {key: _distance(_as_number(a.get(key)), _as_number(b.get(key))) for key in other}
    at = max(sizes, key=lambda key: sizes[key], default="")
    return Outcome(what, len(keys), len(keys) - len(other), sizes.get(at, 0.0), at)


def _distance(a: float, b: float) -> float:
    distance = abs(a - b)
    return math.inf if math.isnan(distance) else distance


def _weights(run: Run, again: Run) -> Outcome:
    """Every tensor of the model, bit by bit."""
    tensors = [read_tensors(one.weights) for one in (run, again)]
    compared = equal = 0
    largest, at = 0.0, ""
    for name in dict.fromkeys([*tensors[0], *tensors[1]]):
        a, b = tensors[0].get(name), tensors[1].get(name)
        compared += max(0 if one is None else one.numel() for one in (a, b))
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            largest, at = math.inf, name
            continue
        equal += _equal_numbers(a, b)
        if _equal_numbers(a, b) < a.numel():
            apart = (a.double() - b.double()).abs().nan_to_num(math.inf, math.inf)
            if not at or float(apart.max()) > largest:
                largest, at = float(apart.max()), name
    return Outcome("weights", compared, equal, largest, at)


def _equal_numbers(a: torch.Tensor, b: torch.Tensor) -> int:
    """How many numbers of two tensors have the same bits."""
    bits = [one.reshape(-1, 1).view(torch.uint8) for one in (a, b)]
    return int((bits[0] == bits[1]).all(-1).sum())
