"""What one run of a study found, as plain values: a trial of `results.json`."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calmkit.interfaces import KindWords
from calmkit.recipe.resolved import flat
from calmkit.studies.failures import failure
from calmkit.studies.losses import losses_of
from calmkit.studies.protocols import protocol_in
from calmkit.studies.store import is_trained
from calmkit.training.checkpoints import check_file
from calmkit.training.metrics_file import read_metrics
from calmkit.training.protocol import EVALUATION
from calmkit.training.reading import read_resolved
from calmkit.training.run import Run, read_json


@dataclass(frozen=True)
class TrialRun:
    """A run that belongs to a cell.

    Attributes:
        cell: Label of the cell.
        seed: Of its recipe.
        folder: Its run folder, which need not hold a finished run.
        asked: What the study asked of it, as `ask` found it.
        steps: Those of its budget; None where it had none.
        evaluation: Name of the file that its scores are taken from.
    """

    cell: str
    seed: int
    folder: Path
    asked: Mapping[str, Any]
    steps: int | None = None
    evaluation: str = EVALUATION


def trial_results(run: TrialRun, words: KindWords, asked: Collection[str] = ()) -> dict[str, Any]:
    """Its state, `done`, `short`, `failed` or `open`, and why; of a finished run everything it wrote.

    Args:
        run: A run folder.
        words: Of its kind of data.
        asked: Numbers that recipes ask for, which points on the way may hold beside those of the kind.
    """
    known: dict[str, Any] = {"seed": run.seed, "key": run.folder.name, "run": str(run.folder), "why": ""}
    known["steps"] = run.steps
    if not is_trained(run.folder):
        why = failure(run.folder)
        return known | {"state": "failed" if why else "open", "why": why or "it has not been run"}
    folder = Run(run.folder)
    lock, facts, evaluation = folder.lock, folder.facts, read_json(run.folder / run.evaluation)
    check_file(run.folder / words.sample)
    resolved = read_resolved(run.folder)
    recipe = flat(resolved)
    missed = run.steps is not None and facts["lm_steps"] != run.steps
    why = f"it took {facts['lm_steps']} of {run.steps} steps" if missed else ""
    return known | {
        "state": "short" if why else "done",
        "why": why,
        **({} if words.size is None else {words.size.name: facts[words.size.name]}),
        "facts": facts,
        "evaluation": evaluation,
        "evaluation_file": run.evaluation,
        "eval_rows": int(recipe["stages.lm.eval_rows"]) if "stages.lm.eval_rows" in recipe else None,
        "protocol": protocol_in(folder, evaluation, recipe, words).as_dict(),
        "curve": curve(folder, facts, evaluation, words, asked),
        "losses": losses_of(folder),
        "resolved": resolved,
        "sample": _sample(run.folder / words.sample, words.sample_media),
        "git": str(lock.get("git", "none")),
        "threads": lock.get("threads"),
        "hardware": lock.get("hardware"),
        "latents": latents_of(folder, facts),
        **run.asked,
    }


def _sample(path: Path, media: str) -> str:
    """What a model made: a text as it is, anything else in base64."""
    data = path.read_bytes()
    return data.decode("utf-8") if media.startswith("text/") else base64.b64encode(data).decode("ascii")


def curve(
    run: Run,
    facts: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    words: KindWords,
    asked: Collection[str] = (),
) -> list[dict[str, int | float]]:
    """The scores on the way: step, training FLOPs and seconds of the second stage, and what its kind of data
    keeps for curves and recipes ask for, where that is known; the untrained model first, and last the trained
    one, as the evaluation scored them.

    Only the points between these two were measured on `stages.lm.eval_rows` of the evaluation's rows.
    """
    per_step = facts["lm_train_flops"] / facts["lm_steps"]
    pace = facts["lm_seconds"] / facts["lm_steps"]
    points: list[dict[str, int | float]] = []
    before = {name: evaluation.get(f"untrained_{name}") for name in words.curve}
    if before.get(words.primary) is not None:
        known = {name: value for name, value in before.items() if value is not None}
        points.append({"step": 0, "flops": 0.0, "seconds": 0.0, **known})
    if not (run.folder / "metrics.csv").exists():  # a run without the csv logger has no curve
        return points
    last, rows = int(facts["lm_steps"]), read_metrics(run.folder)
    on_the_way = [name for name in asked if any(row.get(f"lm/val/{name}") for row in rows)]
    names = dict.fromkeys((*words.curve, *on_the_way))
    for row in rows:
        if row.get(f"lm/val/{words.primary}"):
            step = int(row["step"]) + 1
            if step >= last:
                continue
            known = {name: float(v) for name in names if (v := row.get(f"lm/val/{name}"))}
            points.append({"step": step, "flops": step * per_step, "seconds": step * pace, **known})
    known = {name: float(evaluation[name]) for name in names if name in evaluation}
    return [*points, {"step": last, "flops": last * per_step, "seconds": last * pace, **known}]


def latents_of(run: Run, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Diagnostics of a run's autoencoder: its own, or those of the run that it was taken from."""
    source = facts.get("autoencoder_from")
    for folder in (run.folder, *([Path(source)] if source else [])):
        if (folder / "latents.json").is_file():
            return Run(folder).latents
    return None
