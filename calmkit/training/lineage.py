"""Lineage: whether what one run made may be built upon by another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from calmkit.interfaces import Autoencoder
from calmkit.recipe.objectives import build_objective, recipe_of_run, runs_asked
from calmkit.recipe.resolved import RESOLVED
from calmkit.recipe.schema import Gate, Recipe
from calmkit.registry import Manager
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


def check_trained_anew(recipe: Recipe, manager: Manager) -> None:
    """Refuse, before stage 1, to train an autoencoder that can't come out as that of a run which stage 2
    begins with or asks: one that began otherwise. What may come out the same is compared behind stage 1.

    Args:
        recipe: Validated, with an autoencoder that has weights.
        manager: Where parts are looked up.

    Raises:
        RunFailed: Naming the run, and what differs.
    """
    if recipe.stages.lm is None or recipe.stages.autoencoder is None or recipe.stages.autoencoder.init_from:
        return
    asked = runs_asked(recipe, build_objective(recipe, manager))
    for run in dict.fromkeys(filter(None, (recipe.stages.lm.init_from, *asked.values()))):
        other = _origin(recipe, run, manager)
        if other is None or other.autoencoder != recipe.autoencoder:
            continue
        there = dict(_beginnings(other))
        differs = [name for name, value in _beginnings(recipe) if there.get(name) != value]
        if differs:
            raise RunFailed(
                f"The weights of {run} rest on another autoencoder than this run's, which stage 1 trains "
                f"with another {' and '.join(differs)}; take it from there too: "
                f"stages.autoencoder.init_from={run}"
            )


def _origin(recipe: Recipe, run: str, manager: Manager) -> Recipe | None:
    """The recipe that the autoencoder of a run was trained by; None where that is not known."""
    seen = set[str]()
    while run not in seen and (Path(run) / RESOLVED).is_file():
        seen.add(run)
        other = recipe_of_run(recipe, run, manager)
        if other.stages.autoencoder is None or other.stages.autoencoder.init_from is None:
            return other
        run = other.stages.autoencoder.init_from
    return None


def _beginnings(recipe: Recipe) -> Iterator[tuple[str, object]]:
    """What decides the weights of an autoencoder that is trained, whatever the machine."""
    yield "seed", recipe.seed
    if stage := recipe.stages.autoencoder:
        yield "stages.autoencoder.max_steps", stage.max_steps
        yield "stages.autoencoder.batch_size", stage.batch_size
        yield "stages.autoencoder.optimizer", stage.optimizer


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
