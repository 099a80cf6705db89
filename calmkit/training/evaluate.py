"""evaluate: the numbers of a trained model on held-out text, beside models that only count.

The loss, BrierLM with its interval, the likelihood of a head that knows it, reconstruction, speed, and
BrierLM of n-gram models counted from the same training text at the same positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from calmkit.data.datamodule import TextDataModule
from calmkit.data.prepare import PreparedData, default_cache, prepare_data
from calmkit.interfaces import Sampler
from calmkit.metrics.rollout import eligible_units
from calmkit.metrics.throughput import measure_throughput
from calmkit.model import CalmModel
from calmkit.recipe.parts import build_corpus
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, make_manager
from calmkit.training.callbacks import RowsProgress
from calmkit.training.ceiling import ceiling_scores
from calmkit.training.checkpoints import write_json
from calmkit.training.documents import write_documents
from calmkit.training.environment import check_devices
from calmkit.training.kept import kept_numbers
from calmkit.training.latents import write_latents
from calmkit.training.leaks import leaks_of_run
from calmkit.training.measures import asked_measures
from calmkit.training.ngrams import ngram_scores
from calmkit.training.preparing import preparing
from calmkit.training.progress import Progress, Say, quiet_libraries, said_once
from calmkit.training.protocol import KEY, evaluation_file, own_protocol, protocol_of, written
from calmkit.training.run import NO_METRICS, Run, is_rank_zero, load_run, read_json, wait_for_all
from calmkit.training.stages import AutoencoderModule, LanguageModule
from calmkit.training.trainer import interrupts, make_trainer

UNITS_TIMED = 64


def _say_nothing(line: str) -> None:
    """For callers who want the numbers only."""


def evaluate(
    folder: Path | str,
    overrides: Sequence[str] = (),
    manager: Manager | None = None,
    note: Say = _say_nothing,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the model of a run folder anew and write `evaluation.json`.

    By another protocol than the run's own, the numbers go to a file of their own,
    `evaluation-<name of the protocol>.json`, and leave those of the run as they are. In the file that is
    written anew, the numbers of metrics that are not asked for this time stay.

    Args:
        folder: A run folder.
        overrides: Of the recipe's `evaluation`, `sampler`, `trainer` and `data` sections, such as
            `evaluation.draws=8` or `data=text`, `data.train=letters.jsonl`.
        manager: Parts; default all that are installed.
        note: Takes warnings about the text, a line for each metric that is left out or not measured anew, and
            the line that names the file and the protocol.
        progress: Told how far it is; None: nobody looks.

    Returns:
        Name -> number: see `measure`; and `protocol`, by which they were measured.

    Raises:
        RecipeError: An override is wrong, or this machine lacks the devices of the section `trainer`.
        DataError: The data can't be read, or the run's tokenizer can't read its text.
        RunFailed: The folder holds no trained model, or the numbers can't be written.
    """
    quiet_libraries()
    progress = progress or Progress.silent()
    run, manager = Run(Path(folder)), manager or make_manager()
    recipe, trained = run.recipe(manager, overrides), run.recipe(manager, [NO_METRICS])
    check_devices(recipe)
    text_model = load_run(run.folder, manager, overrides, device="cpu")  # the trainer moves it
    corpus = build_corpus(recipe, manager)
    with preparing(progress) as reading:
        prepared = prepare_data(corpus, text_model.tokenizer, default_cache(), reading)
    data = datamodule(recipe, prepared, text_model.model.chunk_size, 1, recipe.evaluation.max_rows)
    leaks = leaks_of_run(prepared, run, manager, said_once(note))
    device = make_trainer(recipe).strategy.root_device
    protocol = protocol_of(recipe, prepared.fingerprint, device.type)
    own = own_protocol(run, trained, asked=recipe)
    path = run.folder / evaluation_file(protocol, own)
    measured = measure(recipe, text_model.model, data, "eval", progress=progress)
    asked = asked_measures(recipe, manager, text_model.model, data, progress)
    scores: dict[str, Any] = measured.scores
    facts = run.facts if protocol.agrees(own) else {}
    known = reconstruction(recipe, facts, text_model.model, data, progress)
    if not is_rank_zero():
        wait_for_all()
        return read_json(path)
    if protocol.agrees(own):  # else they were measured in another way
        scores |= untrained_scores(run)
    model = text_model.model.to(device)
    scores |= beside_a_model(recipe, manager, prepared, data, model, text_model.sampler, progress)
    scores = asked.beside(scores | known | leaks)
    kept = kept_numbers(path, protocol, [spec.name for spec in recipe.evaluation.metrics], manager)
    earlier = {name: value for numbers in kept.values() for name, value in numbers.items()}
    scores |= {name: value for name, value in earlier.items() if name not in scores}
    scores[KEY] = protocol.as_dict()
    kept_lines = [f"metric '{name}' is not measured anew: its earlier numbers stay" for name in kept]
    for line in asked.notes + kept_lines:
        note(line)
    write_json(path, scores)
    write_documents(path, measured.per_document)
    asked.write_documents(path, keep=kept)
    if protocol.agrees(own):
        write_latents(run.folder, text_model.model.autoencoder, data, prepared.tokenizer, recipe.seed)
    note(written(path, protocol, own))
    wait_for_all()
    return scores


def beside_a_model(
    recipe: Recipe,
    manager: Manager,
    prepared: PreparedData,
    data: TextDataModule,
    model: CalmModel,
    sampler: Sampler,
    progress: Progress,
) -> dict[str, Any]:
    """What stands beside the scores of a model, found by one process alone: models that only count, the
    ceiling where the source is known, and speed on the device where the model lies.
    """
    with progress.phase("counting n-grams"):
        scores: dict[str, Any] = dict(ngram_scores(prepared, data, model))
    scores |= ceiling_scores(recipe, manager, prepared, data, model)
    with progress.phase("timing the sampler"):
        return scores | speed(model, sampler, manager)


def reconstruction(
    recipe: Recipe, facts: Mapping[str, Any], model: CalmModel, data: TextDataModule, progress: Progress
) -> dict[str, Any]:
    """How well the autoencoder gives back these rows, under names of their own: as its own stage 1 measured
    it, if the facts tell, else measured now. An autoencoder that came from another run was measured there,
    maybe on other rows.
    """
    stage = recipe.stages.autoencoder
    if stage is None:
        return {}
    if facts.get("reconstruction") and "autoencoder_from" not in facts:
        return {f"reconstruction_{name}": value for name, value in facts["reconstruction"].items()}
    module = AutoencoderModule(model.autoencoder, stage.optimizer, stage.max_steps, recipe.seed)
    trainer = make_trainer(recipe, callbacks=[RowsProgress(progress, "reconstruction")])
    with torch.random.fork_rng(devices=[]), interrupts():
        trainer.validate(module, dataloaders=None, datamodule=data, verbose=False)
    found = {n: float(v) for n, v in trainer.callback_metrics.items()}
    return {n.replace("autoencoder/val/", "reconstruction_"): v for n, v in found.items()}


def datamodule(
    recipe: Recipe,
    prepared: PreparedData,
    chunk_size: int,
    batch_size: int,
    max_eval_rows: int,
    among: int | None = None,
) -> TextDataModule:
    """Batches of a recipe's data; see `TextDataModule`."""
    return TextDataModule(
        prepared.train,
        prepared.valid,
        chunk_size=chunk_size,
        sequence_length=recipe.data.sequence_length,
        eos_id=prepared.tokenizer.eos_id,
        batch_size=batch_size,
        eval_batch_size=recipe.evaluation.batch_size,
        seed=recipe.seed,
        max_eval_rows=max_eval_rows,
        among=among,
    )


@dataclass(frozen=True)
class Measured:
    """What an evaluation found.

    Attributes:
        scores: Held-out `loss` and everything that `BrierLM.compute` and, for a head with a density,
            `Likelihood.compute` give, reduced over the trainer's processes; `block_tokens`, the length of a
            row, and `context_tokens`, how many tokens a scored position had before it in its row on average.
        per_document: See `BrierLM`.
    """

    scores: dict[str, float]
    per_document: torch.Tensor | None


def measure(
    recipe: Recipe,
    model: CalmModel,
    data: TextDataModule,
    prefix: str,
    trainer: pl.Trainer | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Score a model on the held-out rows of `data`, and tell `progress`, if any, how far that is.

    torch's CPU generator is left as it was, so measuring changes nothing that comes after it.
    """
    stage = recipe.stages.lm
    assert stage is not None
    module = LanguageModule(
        model,
        stage.optimizer,
        stage.max_steps,
        draws=recipe.evaluation.draws,
        seed=recipe.seed,
        prefix=prefix,
    )
    label = "evaluation" if prefix in ("final", "eval") else f"evaluation, {prefix}"
    told = RowsProgress(progress or Progress.silent(), label)
    trainer = trainer or make_trainer(recipe, callbacks=[told])
    with torch.random.fork_rng(devices=[]), interrupts():
        trainer.validate(module, dataloaders=None, datamodule=data, verbose=False)
    scores = {
        name.removeprefix(f"{prefix}/"): float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith(f"{prefix}/")
    }
    return Measured(scores | _context(recipe, model, data), module.brier.per_document)


def _context(recipe: Recipe, model: CalmModel, data: TextDataModule) -> dict[str, float]:
    """How much text a scored position had before it: BrierLM grows with it, whatever the model."""
    before, positions = 0, 0
    for batch in data.all_val_dataloader():
        unit = eligible_units(model.predict(batch["valid"]), model.chunk_size).nonzero()[:, 1]
        before, positions = before + int(unit.sum()) * model.chunk_size, positions + len(unit)
    return {"block_tokens": float(recipe.data.sequence_length), "context_tokens": before / max(1, positions)}


def speed(model: CalmModel, sampler: Sampler, manager: Manager) -> dict[str, Any]:
    """Tokens per second, draws and network calls per unit: as the recipe samples, and with one plain draw
    per unit. Of the recipe's sampler also the level of agreement it reached and how often it fell back.
    """
    was_training = model.training
    model.eval()
    plain = measure_throughput(model, manager.build("samplers", "direct", {}), units=UNITS_TIMED)
    sampled = measure_throughput(model, sampler, units=UNITS_TIMED)
    model.train(was_training)
    return {
        "tokens_per_second": sampled.tokens_per_second,
        "draws_per_unit": sampled.draws_per_unit,
        "network_calls_per_unit": sampled.network_calls_per_unit,
        "sampler_level": sampled.level,
        "sampler_fallback_share": sampled.fallback_share,
        "plain_tokens_per_second": plain.tokens_per_second,
        "plain_network_calls_per_unit": plain.network_calls_per_unit,
    }


def untrained_scores(run: Run) -> dict[str, float]:
    """What the run measured before its first step, if it did."""
    before = run.evaluation if (run.folder / "evaluation.json").exists() else {}
    return {name: value for name, value in before.items() if name.startswith("untrained_")}
