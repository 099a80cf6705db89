"""measures: how each number that a study can be about is called and written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """How a number is shown.

    Attributes:
        name: In tables and figures.
        digits: Behind the point.
        factor: Of what is stored; 100 for shares that are shown in percent.
    """

    name: str
    digits: int = 2
    factor: float = 1.0

    def text(self, value: float | None, sign: str = "") -> str:
        """A value, `-` where it is unknown. `sign='+'` shows the sign of a difference."""
        return "-" if value is None else f"{self.factor * value:{sign}.{self.digits}f}"

    def interval(self, low: float | None, high: float | None, sign: str = "") -> str:
        """Both ends, `-` where they are unknown."""
        if low is None or high is None:
            return "-"
        return f"[{self.text(low, sign)}, {self.text(high, sign)}]"


MEASURES = {
    "brier_lm": Measure("BrierLM"),
    **{f"brier_{n}": Measure(f"Brier-{n} %", 2, 100.0) for n in (1, 2, 3, 4)},
    "nll_per_token": Measure("nats/token", 3),
    "nll_bound_per_token": Measure("nats/token, bound", 3),
    "latent_nll": Measure("latent nats/chunk", 3),
    "tokens_per_second": Measure("tokens/s", 0),
    "reconstruction_token_accuracy": Measure("tokens given back %", 2, 100.0),
    "reconstruction_chunk_accuracy": Measure("chunks given back %", 2, 100.0),
}


MATCHED = {
    "train_flops": "equal training FLOPs",
    "tokens": "equal training tokens",
    "steps": "the steps of each recipe",
    "wall_clock": "equal training time",
    "parameters": "equal parameters",
    "inference_flops": "equal FLOPs per token",
}
PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def quantity(value: float) -> str:
    """Three significant digits and a prefix, to stand before a unit: `11.1 T`, `512 `."""
    for factor, letter in PREFIXES:
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:.3g} "


def measure(name: str) -> Measure:
    """Of a primary measure."""
    return MEASURES.get(name, Measure(name.replace("_", " "), 3))
