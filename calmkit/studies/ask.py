"""What a study asks of its trained trials: every sampler and every block length, measured once and kept.

Each trial is measured by a process of its own, `calmkit study measure FOLDER KEY`, which writes
`<key>.work/asked-<wish>.json`; another wish has another file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from calmkit.data.digest import digest
from calmkit.data.prepare import PreparedData, default_cache, prepare_data
from calmkit.generation import TextModel
from calmkit.interfaces import Job, Launcher, Sampler
from calmkit.metrics.sampling import measure_sampling
from calmkit.recipe.parts import build_corpus
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.studies.asked_rows import DOCUMENTS
from calmkit.studies.failures import in_words, work_folder
from calmkit.studies.jobs import job_of, launch
from calmkit.studies.plan import StudyPlan, Trial
from calmkit.studies.sampling import Row, honoured
from calmkit.studies.sampling_rows import sampler_row
from calmkit.studies.schema import Study
from calmkit.studies.store import is_trained
from calmkit.training.checkpoints import write_json
from calmkit.training.evaluate import datamodule, measure
from calmkit.training.progress import Say, quiet_libraries
from calmkit.training.run import Run, load_run, read_json
from calmkit.training.trainer import make_trainer

MEASURE_LOG = "measure.txt"
BLOCK_SCORES = ("brier_lm", "brier_lm_low", "brier_lm_high", "block_tokens", "context_tokens", "units")


def ask_trials(
    planned: StudyPlan, launcher: Launcher | None, say: Say
) -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
    """What is known of every trained trial; what is not, is measured if there is a launcher.

    Returns:
        Key of a trial -> `sampling` {rows, left_out} and `blocks`, as far as the study asks for them; and
        label of a trial -> why it could not be measured.
    """
    study, where = planned.study, planned.places
    if not _wishes(study):
        return {}, {}
    trained = [trial for trial in planned.trials if is_trained(where.trial(trial.key))]
    missing = [trial for trial in trained if not _file(planned, trial).is_file()]
    if missing and launcher is not None:
        say(f"measuring {len(missing)} trials as the study asks")
        launch(
            launcher,
            [_job(planned, trial) for trial in missing],
            lambda job, code: say(f"{job.name}: {'done' if code == 0 else in_words(code, job.log)}"),
        )
    files = {trial.key: _file(planned, trial) for trial in trained}
    failed = {
        trial.label: f"see {work_folder(where.trial(trial.key)) / MEASURE_LOG}"
        for trial in trained
        if not files[trial.key].is_file()
    }
    return {key: read_json(file) for key, file in files.items() if file.is_file()}, failed


def measure_trial(planned: StudyPlan, key: str, manager: Manager, say: Say) -> Path:
    """Measure one trained trial as its study asks, and keep what was found."""
    quiet_libraries()
    trial = next(trial for trial in planned.trials if trial.key == key)
    run = Run(planned.places.trial(key))
    recipe = run.recipe(manager)
    text_model = load_run(run.folder, manager)
    prepared = prepare_data(build_corpus(recipe, manager), text_model.tokenizer, default_cache())
    text_model.model.to(make_trainer(recipe).strategy.root_device)
    found: dict[str, Any] = {}
    if planned.study.sampling is not None:
        found["sampling"] = _samplers(planned.study, recipe, text_model, prepared, manager, say)
    if planned.study.blocks is not None:
        lengths = planned.study.blocks.tokens
        found["blocks"] = [_block(recipe, text_model, prepared, tokens) for tokens in lengths]
    file = _file(planned, trial)
    write_json(file, found)
    return file


def _samplers(
    study: Study, recipe: Recipe, text_model: TextModel, prepared: PreparedData, manager: Manager, say: Say
) -> dict[str, Any]:
    """Accuracy against collision, BrierLM and cost under every sampler that the head can serve."""
    assert study.sampling is not None
    rows: list[Row] = []
    left_out: list[dict[str, str]] = []
    model = text_model.model
    data = datamodule(recipe, prepared, model.chunk_size, 1, recipe.evaluation.max_rows)
    for spec in study.sampling.samplers:
        say(f"sampler {spec.label}")
        sampler: Sampler = manager.build("samplers", spec.part.name, spec.part.options)
        why = honoured(sampler, model.head.info.options)
        try:
            if not why:
                units = study.sampling.units
                scores = measure_sampling(
                    model, sampler, data.val_dataloader(), max_units=units, seed=recipe.seed
                )
                rows.append(sampler_row(spec, scores))
        except Exception as error:  # a guest's sampler may raise anything; the other numbers stay
            told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            why = told.split("\n", 1)[0]
        if why:
            left_out.append({"sampler": spec.label, "why": why})
    return {"rows": rows, "left_out": left_out}


def _block(recipe: Recipe, text_model: TextModel, prepared: PreparedData, tokens: int) -> dict[str, Any]:
    """BrierLM on rows of so many tokens, over as much text as the recipe's evaluation reads."""
    rows = max(1, recipe.evaluation.max_rows * recipe.data.sequence_length // tokens)
    shaped = replace(recipe, data=replace(recipe.data, sequence_length=tokens))
    data = datamodule(shaped, prepared, text_model.model.chunk_size, 1, rows)
    measured = measure(shaped, text_model.model, data, "block")
    documents = [] if measured.per_document is None else measured.per_document.tolist()
    return {name: measured.scores[name] for name in BLOCK_SCORES} | {DOCUMENTS: documents}


def _job(planned: StudyPlan, trial: Trial) -> Job:
    folder = str(planned.places.study)
    command = (sys.executable, "-m", "calmkit.cli.main", "study", "measure", folder, trial.key)
    log = work_folder(planned.places.trial(trial.key)) / MEASURE_LOG
    return job_of(f"measure {trial.label}", command, log, trial.recipe)


def _wishes(study: Study) -> dict[str, Any]:
    wishes: dict[str, Any] = {}
    if study.sampling is not None:
        parts: Sequence[Any] = [[s.label, s.part.name, s.part.options] for s in study.sampling.samplers]
        wishes["samplers"] = [study.sampling.units, parts]
    if study.blocks is not None:
        wishes["blocks"] = study.blocks.tokens
    return wishes


def _file(planned: StudyPlan, trial: Trial) -> Path:
    wish = digest(json.dumps(_wishes(planned.study), sort_keys=True, default=str))[:12]
    return work_folder(planned.places.trial(trial.key)) / f"asked-{wish}.json"
