"""Equal cost: how many steps each cell of a study gets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from calmkit.data.prepare import default_cache, prepare_data
from calmkit.metrics.flops import autoencoder_train_flops, count_flops
from calmkit.recipe.assemble import assemble
from calmkit.recipe.parts import build_corpus, build_tokenizer
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.studies.schema import Cell, Study
from calmkit.training.errors import RunFailed
from calmkit.training.evaluate import make_trainer
from calmkit.training.progress import Say
from calmkit.training.run import Run

CURVE_POINTS = 8  # evaluations on the way, whatever the steps


def match_budgets(study: Study, cells: list[Cell], manager: Manager, say: Say) -> list[Cell]:
    """Give each cell the steps that cost what the baseline costs, autoencoders included.

    Raises:
        RunFailed: If the autoencoder of a cell alone costs the whole budget.
    """
    if study.match_by == "steps":
        return cells
    costs = {cell.label: _cost(cell.recipe, manager) for cell in cells}
    baseline = next(cell for cell in cells if cell.label == study.baseline)
    assert baseline.recipe.stages.lm is not None
    per_step, fixed = costs[study.baseline]
    budget = per_step * baseline.recipe.stages.lm.max_steps + fixed
    say(f"budget: {budget / 1e12:.2f} TFLOPs of training each, the autoencoder's {fixed / 1e12:.2f} included")
    matched = []
    for cell in cells:
        stage = cell.recipe.stages.lm
        per_step, fixed = costs[cell.label]
        steps = round((budget - fixed) / per_step)
        if stage is None or steps < 1:
            raise RunFailed(
                f"The cell '{cell.label}' can't be matched: its autoencoder alone costs the whole budget."
            )
        stage = dataclasses.replace(stage, max_steps=steps, eval_every=max(1, steps // CURVE_POINTS))
        stages = dataclasses.replace(cell.recipe.stages, lm=stage)
        matched.append(dataclasses.replace(cell, recipe=dataclasses.replace(cell.recipe, stages=stages)))
    return matched


def _cost(recipe: Recipe, manager: Manager) -> tuple[int, int]:
    """Training FLOPs of one step of stage 2, and of the whole of stage 1."""
    corpus = build_corpus(recipe, manager)
    tokenizer = build_tokenizer(recipe, manager)
    ready = prepare_data(corpus, tokenizer, default_cache()).tokenizer
    model = assemble(recipe, manager, ready.vocab_size, ready.eos_id)
    units = recipe.data.sequence_length // model.chunk_size
    assert recipe.stages.lm is not None
    batches = recipe.trainer.accumulate * make_trainer(recipe).world_size
    per_step = count_flops(model, units).total * recipe.stages.lm.batch_size * batches
    first = recipe.stages.autoencoder
    if first is None:
        return per_step, 0
    if first.init_from:
        return per_step, Run(Path(first.init_from)).facts.get("autoencoder_train_flops", 0)
    per_row = autoencoder_train_flops(model.autoencoder.requires_grad_(True), units, ready.vocab_size)
    return per_step, per_row * first.max_steps * first.batch_size * batches
