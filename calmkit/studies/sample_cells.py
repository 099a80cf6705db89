"""sample_cells: measure every trained cell of a study under every sampler that its head can serve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calmkit.data.prepare import default_cache, prepare_data
from calmkit.generation import TextModel
from calmkit.interfaces import Sampler
from calmkit.metrics.sampling import SamplingScores, measure_sampling
from calmkit.recipe.parts import build_corpus
from calmkit.registry import Manager
from calmkit.studies.sampling import Row, SamplerSpec, SamplingWish, honoured
from calmkit.training.evaluate import datamodule, make_trainer
from calmkit.training.progress import Say
from calmkit.training.run import Run, load_run


def sample_cells(
    wish: SamplingWish, cells: Sequence[dict[str, Any]], folder: Path, manager: Manager, say: Say
) -> dict[str, Any]:
    """Accuracy against collision and the cost, per cell and sampler.

    Args:
        wish: Samplers and units.
        cells: Results, each with a `label` and the name of its `run` under `folder`.
        folder: Of the study.
        manager: Parts.
        say: Takes each line.

    Returns:
        `units`, `rows`, and `left_out`: which sampler was not measured on which cell, and why.
    """
    rows: list[Row] = []
    left_out: list[dict[str, str]] = []
    for cell in cells:
        run = Run(folder / cell["run"])
        say(f"[samplers] {cell['label']}")
        text_model, batches = _load(run, manager)
        for spec in wish.samplers:
            sampler: Sampler = manager.build("samplers", spec.part.name, spec.part.options)
            why = honoured(sampler, text_model.model.head.info.options)
            try:
                if not why:
                    seed = run.recipe(manager).seed
                    scores = measure_sampling(
                        text_model.model, sampler, batches, max_units=wish.units, seed=seed
                    )
                    rows.append(_row(cell["label"], spec, scores))
            except Exception as error:  # a guest's sampler may raise anything; the study's results stay
                why = f"{type(error).__name__}: {error}".split("\n", 1)[0]
            if why:
                left_out.append({"cell": cell["label"], "sampler": spec.label, "why": why})
                say(f"left out: {spec.label} for {cell['label']}: {why}")
    return {"units": wish.units, "rows": rows, "left_out": left_out}


def _load(run: Run, manager: Manager) -> tuple[TextModel, Any]:
    """The trained model on the device of its recipe, and its held-out rows."""
    recipe = run.recipe(manager)
    text_model = load_run(run.folder, manager)
    corpus = build_corpus(recipe, manager)
    prepared = prepare_data(corpus, text_model.tokenizer, default_cache())
    data = datamodule(recipe, prepared, text_model.model.chunk_size, 1, recipe.evaluation.max_rows)
    text_model.model.to(make_trainer(recipe).strategy.root_device)
    return text_model, data.val_dataloader()


def _row(cell: str, spec: SamplerSpec, scores: SamplingScores) -> Row:
    """One line of the table; accuracy, collision and their standard errors in percent."""
    exact = sum(scores.levels.values())
    mean_level = sum(level * share for level, share in scores.levels.items()) / exact if exact else None
    return {
        "cell": cell,
        "sampler": spec.label,
        "name": spec.part.name,
        "stated": dict(spec.stated),
        "units": scores.units,
        "accuracy": 100 * scores.accuracy_mean,
        "accuracy_se": _percent(scores.accuracy_mean_se),
        "collision": 100 * scores.collision_mean,
        "collision_se": _percent(scores.collision_mean_se),
        "accuracy_n": list(scores.accuracy),
        "collision_n": list(scores.collision),
        "brier_lm": scores.brier_lm,
        "brier_lm_low": scores.brier_lm_low,
        "brier_lm_high": scores.brier_lm_high,
        "draws_per_unit": scores.draws_per_unit,
        "network_calls_per_unit": scores.network_calls_per_unit,
        "levels": {f"{level:g}": share for level, share in scores.levels.items()},
        "mean_level": mean_level,
        "fallback_share": scores.fallback_share,
    }


def _percent(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else 100 * value
