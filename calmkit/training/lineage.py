"""Lineage: whether what one run made may be built upon by another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calmkit.interfaces import Autoencoder
from calmkit.recipe.schema import Gate
from calmkit.training.checkpoints import load_weights
from calmkit.training.errors import GateMissed, RunFailed
from calmkit.training.run import Run


def load_autoencoder(
    source: Path, autoencoder: Autoencoder, mine: Mapping[str, Any], gate: Gate | None
) -> dict[str, Any]:
    """Load the autoencoder of another run into `autoencoder`.

    Returns:
        The other run's facts.

    Raises:
        RunFailed: If it is of other units or other data.
        GateMissed: If it reconstructs less than the gate asks.
    """
    facts = Run(source).facts
    check_lineage(source, mine)
    check_gate(gate, facts.get("reconstruction", {}), f"The autoencoder of {source}", "Train it longer")
    load_weights(Run(source).weights, autoencoder, "autoencoder")
    return facts


def check_lineage(source: Path, mine: Mapping[str, Any]) -> None:
    """Refuse another run's weights that were trained for other units.

    Args:
        source: The other run.
        mine: Facts that must be equal (`KindWords.lineage`), such as the latent's width.

    Raises:
        RunFailed: If one differs.
    """
    facts = Run(source).facts
    for name, value in mine.items():
        if facts.get(name) != value:
            raise RunFailed(
                f"The autoencoder of {source} can't be used: its {name} is {facts.get(name)}, this "
                f"recipe's is {value}. Change the recipe, or train an autoencoder for it "
                "(stages.autoencoder.init_from=null)."
            )


def check_gate(
    gate: Gate | None, scores: Mapping[str, float], who: str, cure: str, kept: Path | None = None
) -> None:
    """Refuse an autoencoder that gives back too little.

    Raises:
        GateMissed: If the gate's metric is not among the scores, or below the gate; NaN is below every gate.
    """
    if gate is None:
        return
    name = gate.metric.rsplit("/", 1)[-1]
    if name not in scores:
        known = ", ".join(f"val/{score}" for score in sorted(scores)) or "nothing"
        raise GateMissed(
            f"The gate asks for '{gate.metric}', which stage 1 does not measure; it measures: {known}.", kept
        )
    if not scores[name] >= gate.min:
        raise GateMissed(
            f"{who} reaches {gate.metric} {scores[name]:.4f}, below the gate of {gate.min}. {cure}, widen "
            "the latent, or lower the gate (stages.autoencoder.gate.min=..., stages.autoencoder.gate=null).",
            kept,
        )
