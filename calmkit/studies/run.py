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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from calmkit.interfaces import DataError
from calmkit.recipe.assemble import validate
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, make_manager
from calmkit.studies.budget import match_budgets
from calmkit.studies.relation import CURVE_SCORES, relation
from calmkit.studies.report import write_report
from calmkit.studies.sample_cells import sample_cells
from calmkit.studies.schema import Cell, Study, load_study
from calmkit.studies.table import as_text
from calmkit.training.checkpoints import write_json, write_text
from calmkit.training.errors import RunFailed
from calmkit.training.progress import Say, said_once
from calmkit.training.run import Run, agreed_folder, claim_folder, git_state, is_rank_zero, wait_for_all
from calmkit.training.train import train

STUDY_FOLDER_OF_RANK_ZERO = "CALMKIT_STUDY_FOLDER"


def run_study(
    name_or_path: str,
    *,
    overrides: Sequence[str] = (),
    out: Path | None = None,
    say: Say = print,
    manager: Manager | None = None,
) -> Path:
    """Run a study.

    Args:
        name_or_path: A shipped study (`quickstart`) or a file.
        overrides: Laid over the base recipe of every cell, such as `data.train=a.txt`.
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
    study = load_study(name_or_path, manager, overrides)
    for cell in study.cells:
        validate(cell.recipe, manager)
    say = said_once(say)
    folder = _open_folder(study, out)
    say(f"study {study.name}: {len(study.cells)} models, matched by {study.match_by}; {folder}")
    cells = match_budgets(study, list(study.cells), manager, say)
    results, failed = _train_cells(study, cells, folder, manager, say)
    if is_rank_zero():
        asked = _asked_for(study, results, folder, manager, say)
        wait_for_all()
        summary = _summary(study, results, list(failed), time.perf_counter() - began) | asked
        _write_results(summary, folder, say)
    else:
        wait_for_all()
    if failed and is_rank_zero():
        told = "; ".join(f"{label} ({_in_words(error)})" for label, error in failed.items())
        last = list(failed.values())[-1]
        raise RunFailed(f"{len(failed)} of {len(cells)} cells failed: {told}.", folder) from last
    return folder


def _open_folder(study: Study, out: Path | None) -> Path:
    """The folder of this run, the same in every process, with the study's text in it."""
    stamped = Path("runs") / "studies" / study.name / time.strftime("%Y%m%d-%H%M%S")
    folder = out or agreed_folder(lambda: claim_folder(stamped), STUDY_FOLDER_OF_RANK_ZERO)
    if is_rank_zero():
        if (folder / "results.json").exists():
            raise RunFailed(f"{folder} already holds a study; name another folder with --out, or delete it.")
        write_text(folder / "study.yaml", study.text)
    return folder


def _summary(
    study: Study, results: list[dict[str, Any]], failed: list[str], seconds: float
) -> dict[str, Any]:
    """What `results.json` says of the whole."""
    return {
        "study": study.name,
        "description": study.description,
        "base": study.base,
        "matched_by": study.match_by,
        "baseline": study.baseline,
        "overrides": list(study.overrides),
        "commit": git_state(),
        "hardware": hardware(),
        "seconds": seconds,
        "failed": failed,
        "cells": results,
    }


def _write_results(summary: dict[str, Any], folder: Path, say: Say) -> None:
    """`results.json`, and where a cell ended well the table and the report."""
    write_json(folder / "results.json", summary)
    if summary["cells"]:
        table = as_text(summary)
        write_text(folder / "table.txt", table)
        write_report(summary, folder / "report.html")
        say(table)
        say(f"report: {folder / 'report.html'}")


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


def _asked_for(
    study: Study, results: list[dict[str, Any]], folder: Path, manager: Manager, say: Say
) -> dict[str, Any]:
    """`relation` and `sampling`, where the study asks for them."""
    found: dict[str, Any] = {}
    if study.relate is not None and results:
        found["relation"] = relation(results, study.relate)
    if study.sampling is not None and results:
        found["sampling"] = sample_cells(study.sampling, results, folder, manager, say)
    return found


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
    """The scores on the way: step, training FLOPs of the second stage, BrierLM, nats per token where they are
    known; the untrained model first.
    """
    per_step = facts["lm_train_flops"] / facts["lm_steps"]
    points: list[dict[str, int | float]] = []
    before = {name: evaluation.get(f"untrained_{name}") for name in CURVE_SCORES}
    if before["brier_lm"] is not None:
        known = {name: value for name, value in before.items() if value is not None}
        points.append({"step": 0, "flops": 0.0, **known})
    if not (run.folder / "metrics.csv").exists():  # a study without the csv logger has no curves
        return points
    with (run.folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row.get("lm/val/brier_lm"):
                step = int(row["step"]) + 1
                known = {name: float(v) for name in CURVE_SCORES if (v := row.get(f"lm/val/{name}"))}
                points.append({"step": step, "flops": step * per_step, **known})
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


def _slug(label: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in label)
