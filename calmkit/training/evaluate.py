"""evaluate: the numbers of a trained model on held-out data, and what its kind of data puts beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from calmkit.interfaces import Autoencoder, DataKind, Prepared
from calmkit.model import CalmModel
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, make_manager
from calmkit.training.callbacks import RowsProgress
from calmkit.training.checkpoints import write_json
from calmkit.training.environment import check_devices
from calmkit.training.groups import write_groups
from calmkit.training.kept import kept_numbers
from calmkit.training.measures import asked_measures
from calmkit.training.objectives import measuring_objective
from calmkit.training.progress import Progress, Say, quiet_libraries, said_once
from calmkit.training.protocol import KEY, evaluation_file, own_protocol, protocol_of, written
from calmkit.training.run import NO_METRICS, Run, is_rank_zero, load_run, read_json, wait_for_all
from calmkit.training.stages import AutoencoderModule, ModelModule
from calmkit.training.trainer import interrupts, make_trainer


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
            `evaluation.draws=8` or `data=NAME`, `data.train=FILE`.
        manager: Parts; default all that are installed.
        note: Takes warnings about the data, a line for each metric that is left out or not measured anew, and
            the line that names the file and the protocol.
        progress: Told how far it is; None: nobody looks.

    Returns:
        Name -> number: see `measure`; and `protocol`, by which they were measured.

    Raises:
        RecipeError: An override is wrong, or this machine lacks the devices of the section `trainer`.
        DataError: The data can't be read, or not by this run.
        RunFailed: The folder holds no trained model, or the numbers can't be written.
    """
    quiet_libraries()
    progress = progress or Progress.silent()
    run, manager = Run(Path(folder)), manager or make_manager()
    recipe, trained = run.recipe(manager, overrides), run.recipe(manager, [NO_METRICS])
    check_devices(recipe)
    front = load_run(run.folder, manager, overrides, device="cpu")  # the trainer moves it
    kind = kind_of(recipe, manager)
    prepared = kind.prepare(recipe, manager, progress, kept=front)
    max_rows = recipe.evaluation.max_rows
    data = prepared.rows(recipe, front.model.autoencoder, batch_size=1, max_rows=max_rows)
    leaks = kind.leaks(prepared, run, manager, said_once(note))
    device = make_trainer(recipe).strategy.root_device
    protocol = protocol_of(recipe, prepared.fingerprint, device.type, kind.words)
    own = own_protocol(run, trained, recipe, kind.words)
    path = run.folder / evaluation_file(protocol, own)
    measured = measure(recipe, kind, manager, prepared, front.model, data, "eval", progress=progress)
    asked = asked_measures(recipe, manager, front.model, data, progress)
    scores: dict[str, Any] = measured.scores
    facts = run.facts if protocol.agrees(own) else {}
    known = reconstruction(recipe, kind, facts, front.model, data, progress)
    if not is_rank_zero():
        wait_for_all()
        return read_json(path)
    if protocol.agrees(own):  # else they were measured in another way
        scores |= untrained_scores(run)
    front.model.to(device)
    scores |= kind.beside(recipe, manager, prepared, data, front, progress)
    scores = asked.beside(scores | known | leaks)
    taken = [spec.name for spec in recipe.evaluation.metrics]
    kept = kept_numbers(path, protocol, taken, manager, kind.words.group)
    earlier = {name: value for numbers in kept.values() for name, value in numbers.items()}
    scores |= {name: value for name, value in earlier.items() if name not in scores}
    scores[KEY] = protocol.as_dict()
    kept_lines = [f"metric '{name}' is not measured anew: its earlier numbers stay" for name in kept]
    for line in asked.notes + kept_lines:
        note(line)
    write_json(path, scores)
    write_groups(path, kind.words.group, measured.table)
    asked.write_groups(path, kind.words.group, keep=kept)
    if protocol.agrees(own):
        write_latents(run.folder, kind, front.model.autoencoder, data, prepared, recipe.seed)
    note(written(path, protocol, own))
    wait_for_all()
    return scores


def reconstruction(
    recipe: Recipe,
    kind: DataKind,
    facts: Mapping[str, Any],
    model: CalmModel,
    data: pl.LightningDataModule,
    progress: Progress,
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
    scores = kind.coding_scores(model.autoencoder)
    module = AutoencoderModule(model.autoencoder, scores, stage.optimizer, stage.max_steps, recipe.seed)
    trainer = make_trainer(recipe, callbacks=[RowsProgress(progress, "reconstruction")])
    with torch.random.fork_rng(devices=[]), interrupts():
        trainer.validate(module, dataloaders=None, datamodule=data, verbose=False)
    found = {n: float(v) for n, v in trainer.callback_metrics.items()}
    return {n.replace("autoencoder/val/", "reconstruction_"): v for n, v in found.items()}


@dataclass(frozen=True)
class Measured:
    """What an evaluation found.

    Attributes:
        scores: Held-out `loss` and the scores of the kind of data, reduced over the trainer's processes, and
            what it tells of the rows.
        table: See `Scores.table`.
    """

    scores: dict[str, float]
    table: tuple[Sequence[str], torch.Tensor] | None


def measure(
    recipe: Recipe,
    kind: DataKind,
    manager: Manager,
    prepared: Prepared,
    model: CalmModel,
    data: pl.LightningDataModule,
    prefix: str,
    trainer: pl.Trainer | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Score a model on the held-out rows of `data`, and tell `progress`, if any, how far that is.

    torch's CPU generator is left as it was, so measuring changes nothing that comes after it.
    """
    stage = recipe.stages.lm
    assert stage is not None
    gathered = kind.scores(model, recipe, manager, prepared, final=prefix != "untrained")
    module = ModelModule(
        model, gathered, stage.optimizer, stage.max_steps, seed=recipe.seed, prefix=prefix,
        objective=measuring_objective(recipe, kind, manager, prepared),
    )  # fmt: skip
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
    return Measured(scores | kind.about_rows(recipe, model, data), gathered.table())


def write_latents(
    folder: Path,
    kind: DataKind,
    autoencoder: Autoencoder,
    data: pl.LightningDataModule,
    prepared: Prepared,
    seed: int,
) -> None:
    """Write `latents.json` into a run folder; nothing where there is nothing to say."""
    found = kind.latents(autoencoder, data, prepared, seed)
    if found:
        write_json(folder / "latents.json", found)


def untrained_scores(run: Run) -> dict[str, float]:
    """What the run measured before its first step, if it did."""
    before = run.evaluation if (run.folder / "evaluation.json").exists() else {}
    return {name: value for name, value in before.items() if name.startswith("untrained_")}
