"""run_study: train every cell on an equal budget, then one table and one report.

study -> all cells validated -> shared autoencoders, once each -> budget -> cells -> results.json, table,
report.html
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

from calmkit.data.prepare import default_cache, prepare_data
from calmkit.interfaces import DataError
from calmkit.metrics.flops import autoencoder_train_flops, count_flops
from calmkit.recipe.assemble import assemble, validate
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, make_manager
from calmkit.studies.report import write_report
from calmkit.studies.schema import Cell, Study, load_study
from calmkit.studies.table import as_text
from calmkit.training.checkpoints import write_json, write_text
from calmkit.training.errors import RunFailed
from calmkit.training.evaluate import make_trainer
from calmkit.training.progress import Say, said_once
from calmkit.training.run import Run, agreed_folder, git_state, is_rank_zero, wait_for_all
from calmkit.training.train import train

CURVE_POINTS = 8
STUDY_FOLDER_OF_RANK_ZERO = "CALMKIT_STUDY_FOLDER"


def run_study(
    name_or_path: str, *, out: Path | None = None, say: Say = print, manager: Manager | None = None
) -> Path:
    """Run a study.

    Args:
        name_or_path: A shipped study (`quickstart`) or a file.
        out: Folder for everything; default `runs/studies/<name>/<stamp>/`.
        say: Takes each line of what happens.
        manager: Parts; default all that are installed.

    Returns:
        The folder: `results.json`, `table.txt`, `report.html`, and a run folder per cell.

    Raises:
        RecipeError: Before anything is trained.
        RunFailed: At the end, if a cell failed; what the others made is kept and reported.
    """
    began = time.perf_counter()
    manager = manager or make_manager()
    study = load_study(name_or_path, manager)
    for cell in study.cells:
        validate(cell.recipe, manager)
    say = said_once(say)
    stamped = Path("runs") / "studies" / study.name / time.strftime("%Y%m%d-%H%M%S")
    folder = out or agreed_folder(lambda: stamped, STUDY_FOLDER_OF_RANK_ZERO)
    if is_rank_zero():
        if (folder / "results.json").exists():
            raise RunFailed(f"{folder} already holds a study; name another folder with --out, or delete it.")
        write_text(folder / "study.yaml", study.text)
    say(f"study {study.name}: {len(study.cells)} models, matched by {study.match_by}; {folder}")
    cells = _match_budgets(study, list(study.cells), manager, say)
    results, failed = _train_cells(study, cells, folder, manager, say)
    wait_for_all()
    if not is_rank_zero():
        return folder
    summary = {
        "study": study.name,
        "description": study.description,
        "base": study.base,
        "matched_by": study.match_by,
        "baseline": study.baseline,
        "commit": git_state(),
        "hardware": hardware(),
        "seconds": time.perf_counter() - began,
        "failed": list(failed),
        "cells": results,
    }
    write_json(folder / "results.json", summary)
    if results:
        table = as_text(summary)
        write_text(folder / "table.txt", table)
        write_report(summary, folder / "report.html")
        say(table)
        say(f"report: {folder / 'report.html'}")
    if failed:
        told = "; ".join(f"{label} ({_in_words(error)})" for label, error in failed.items())
        last = list(failed.values())[-1]
        raise RunFailed(f"{len(failed)} of {len(cells)} cells failed: {told}.", folder) from last
    return folder


def _train_cells(
    study: Study, cells: list[Cell], folder: Path, manager: Manager, say: Say
) -> tuple[list[dict[str, Any]], dict[str, Exception]]:
    """Train every cell, shared autoencoders first; what failed, by label. None stops the others."""
    results: list[dict[str, Any]] = []
    failed: dict[str, Exception] = {}
    shared: dict[str, Path | Exception] = {}
    for number, cell in enumerate(cells, 1):
        try:
            if "autoencoder" in study.share:
                cell = _with_shared_autoencoder(cell, shared, folder, manager, say)
            say(f"[{number}/{len(cells)}] {cell.label}")
            run = train(cell.recipe, out=folder / _slug(cell.label), say=say, manager=manager)
            if is_rank_zero():
                results.append(cell_result(cell, run, folder))
        except Exception as error:  # a guest's part may raise anything
            failed[cell.label] = error
            say(f"failed: {cell.label}: {_in_words(error)}")
    return results, failed


def _in_words(error: Exception) -> str:
    """The first line of an error, with its type where that isn't one of ours."""
    told = str(error).strip().split("\n", 1)[0]
    return (
        told if isinstance(error, RunFailed | DataError | RecipeError) else f"{type(error).__name__}: {told}"
    )


def hardware() -> str:
    """The device in words."""
    if torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator()
        module = torch.get_device_module(device)
        return f"{torch.accelerator.device_count()} x {module.get_device_name()}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def cell_result(cell: Cell, run: Run, folder: Path) -> dict[str, Any]:
    """What the table and the report show of one run."""
    facts, evaluation = run.facts, run.evaluation
    return {
        "label": cell.label,
        "run": str(run.folder.relative_to(folder)),
        "recipe": cell.recipe.name,
        "overrides": list(cell.overrides),
        "seed": cell.recipe.seed,
        "chunk_size": facts["chunk_size"],
        "facts": facts,
        "evaluation": evaluation,
        "curve": _curve(run, facts, evaluation),
        "resolved": (run.folder / "resolved.yaml").read_text(encoding="utf-8"),
        "sample": (run.folder / "samples.txt").read_text(encoding="utf-8"),
    }


def _curve(run: Run, facts: dict[str, Any], evaluation: dict[str, Any]) -> list[dict[str, int | float]]:
    """BrierLM on the way: step, training FLOPs of the second stage, score; the untrained model first."""
    per_step = facts["lm_train_flops"] / facts["lm_steps"]
    points: list[dict[str, int | float]] = []
    if "untrained_brier_lm" in evaluation:
        points.append({"step": 0, "flops": 0.0, "brier_lm": evaluation["untrained_brier_lm"]})
    if not (run.folder / "metrics.csv").exists():  # a study without the csv logger has no curves
        return points
    with (run.folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row.get("lm/val/brier_lm"):
                step = int(row["step"]) + 1
                points.append(
                    {"step": step, "flops": step * per_step, "brier_lm": float(row["lm/val/brier_lm"])}
                )
    return points


def _with_shared_autoencoder(
    cell: Cell, shared: dict[str, Path | Exception], folder: Path, manager: Manager, say: Say
) -> Cell:
    """The cell with the autoencoder that all cells like it share, trained when the first of them comes.

    Args:
        cell: One of the study's.
        shared: Run folder, or what went wrong, by key; a new autoencoder is added.
        folder: Of the study.
        manager: Parts.
        say: Takes each line.
    """
    stage = cell.recipe.stages.autoencoder
    if stage is None or stage.init_from:
        return cell
    key = _autoencoder_key(cell.recipe)
    if key not in shared:
        say(f"[shared] autoencoder {cell.recipe.autoencoder.name}")
        alone = dataclasses.replace(cell.recipe, stages=dataclasses.replace(cell.recipe.stages, lm=None))
        try:
            shared[key] = train(alone, out=folder / f"autoencoder-{key}", say=say, manager=manager).folder
        except Exception as error:
            shared[key] = error
    source = shared[key]
    if isinstance(source, Exception):
        raise source
    stage = dataclasses.replace(stage, init_from=str(source))
    stages = dataclasses.replace(cell.recipe.stages, autoencoder=stage)
    return dataclasses.replace(cell, recipe=dataclasses.replace(cell.recipe, stages=stages))


def _autoencoder_key(recipe: Recipe) -> str:
    """Equal for recipes that would train the same autoencoder."""
    made_of = (
        recipe.seed,
        recipe.data,
        recipe.tokenizer,
        recipe.autoencoder,
        recipe.stages.autoencoder,
        recipe.trainer,
    )
    text = json.dumps(
        [dataclasses.asdict(x) if dataclasses.is_dataclass(x) else x for x in made_of], sort_keys=True
    )  # type: ignore[arg-type]
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def _match_budgets(study: Study, cells: list[Cell], manager: Manager, say: Say) -> list[Cell]:
    """Give each cell the steps that cost what the baseline costs, autoencoders included."""
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
    corpus = manager.build("corpora", recipe.data.part.name, recipe.data.part.options)
    tokenizer = manager.build("tokenizers", recipe.tokenizer.name, recipe.tokenizer.options)
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


def _slug(label: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in label)
