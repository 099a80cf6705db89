"""train: from a recipe to a run folder with a trained, measured model in it.

recipe -> validated whole -> data -> stage 1 (or init_from) -> gate -> stage 2 -> evaluation -> samples
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from calmkit.interfaces import Autoencoder, NotTrainable
from calmkit.metrics.flops import autoencoder_train_flops, count_flops
from calmkit.model import CalmModel
from calmkit.recipe.assemble import assemble, validate
from calmkit.recipe.parts import build_part
from calmkit.recipe.schema import LmStage, Recipe
from calmkit.registry import Manager, make_manager
from calmkit.sums import complete_sums
from calmkit.training.beginning import Start, begin, lineage_of
from calmkit.training.checkpoints import load_weights, write_json
from calmkit.training.ema import averaged
from calmkit.training.environment import check_environment
from calmkit.training.errors import RunFailed
from calmkit.training.evaluate import measure, write_latents
from calmkit.training.final import evaluate_at_end
from calmkit.training.fit import Session, fit_stage
from calmkit.training.fit_transform import fit_transform
from calmkit.training.going_on import told_that_it_is_done
from calmkit.training.lineage import check_gate, check_lineage, check_trained_anew, load_autoencoder
from calmkit.training.loggers import finish_all
from calmkit.training.measures import measures_on_the_way
from calmkit.training.objectives import objective_cost, ready_objective
from calmkit.training.progress import Progress, Say, quiet_libraries, said_once
from calmkit.training.ranks import told_once
from calmkit.training.resume import Wishes, is_finished
from calmkit.training.run import Run, is_rank_zero, read_json, wait_for_all
from calmkit.training.run_folder import forget_measured
from calmkit.training.some_parts import check_parts, load_parts
from calmkit.training.stages import AutoencoderModule, ModelModule
from calmkit.training.standing import StandingFile
from calmkit.training.start_head import start_head
from calmkit.training.stopping import StopRequest
from calmkit.training.trainer import make_trainer


def train(
    recipe: Recipe,
    *,
    out: Path | None = None,
    say: Say = print,
    manager: Manager | None = None,
    standing: StandingFile | None = None,
    wishes: Wishes | None = None,
    resume: bool = False,
) -> Run:
    """Train all stages of a recipe.

    Args:
        recipe: From `load_recipe`.
        out: The run folder; default `runs/<name>/<stamp>/` under the current folder.
        say: Takes each line of what happens.
        manager: Parts; default all that are installed.
        standing: Takes where it stands, for programs that watch; None: nobody does.
        wishes: Such as to stop behind a step.
        resume: `out` is a run that stopped, and the recipe is its own; see `calmkit.training.going_on`.

    Returns:
        The run, evaluated.

    Raises:
        RecipeError: Before anything is read or written.
        DataError: Before a weight is trained.
        Stopped: A signal asked for it; what was trained is kept.
        RunFailed: With what was trained so far kept in the run folder.
    """
    quiet_libraries()
    manager = manager or make_manager()
    if resume and out is not None and is_finished(Run(out), recipe):
        say(told_that_it_is_done(out, recipe))
        return Run(out)
    model = validate(recipe, manager)
    check_environment(recipe, manager, model)
    if any(True for _ in model.autoencoder.parameters()):
        check_trained_anew(recipe, manager)
    if recipe.stages.lm is not None and recipe.stages.lm.init_from:
        check_parts(Path(recipe.stages.lm.init_from), model, recipe.stages.lm.init_parts)
    with told_once(make_trainer(recipe).world_size), ExitStack() as until_the_end:
        say = said_once(say)
        progress, request = Progress(say, standing), StopRequest()
        until_the_end.enter_context(request.listening())
        start = Start(out, resume, wishes or Wishes(), request)
        session = begin(recipe, manager, model.autoencoder, start, say, progress, until_the_end)
        facts, autoencoder = _first_stage(session)
        if recipe.stages.lm is not None:
            _second_stage(session, facts, autoencoder)
        finish_all(session.loggers, session.run, recipe)
        if is_rank_zero():
            complete_sums(session.run.folder)
        wait_for_all()
    session.say(f"done: {session.run.folder}")
    return session.run


def _first_stage(session: Session) -> tuple[dict[str, Any], Autoencoder]:
    """Train the autoencoder, or load it, and keep it. Returns the facts known by now, and the autoencoder."""
    recipe, stage, prepared = session.recipe, session.recipe.stages.autoencoder, session.prepared
    pl.seed_everything(recipe.seed, verbose=False)
    autoencoder: Autoencoder = build_part(recipe, session.manager, "autoencoder", **prepared.sizes)
    facts: dict[str, Any] = {"calmkit": 1, **prepared.facts(autoencoder)}
    if stage is None or not any(p.requires_grad for p in autoencoder.parameters()):
        return facts, autoencoder
    if session.resumed.encoded:
        load_weights(session.run.weights, autoencoder, "autoencoder")
        session.say("stage autoencoder is done")
        facts = dict(session.resumed.facts)
        _check_gate(session, facts)
        return facts, autoencoder
    if stage.init_from:
        other = load_autoencoder(
            Path(stage.init_from), autoencoder, lineage_of(session.kind, prepared, autoencoder), stage.gate
        )
        facts |= {"reconstruction": other["reconstruction"], "autoencoder_from": stage.init_from}
        facts["autoencoder_train_flops"] = other.get("autoencoder_train_flops", 0)
        facts["autoencoder_seconds"] = other.get("autoencoder_seconds", 0.0)
        session.say(f"stage 1 skipped: autoencoder of {stage.init_from}")
    else:
        trained, autoencoder = _train_autoencoder(session, autoencoder)
        facts |= trained
    if is_rank_zero():
        if not stage.init_from:
            rows = recipe.evaluation.max_rows
            data = prepared.rows(recipe, autoencoder, batch_size=stage.batch_size, max_rows=rows)
            autoencoder.to(make_trainer(recipe).strategy.root_device)  # Lightning took it to the CPU
            write_latents(session.run.folder, session.kind, autoencoder, data, prepared, recipe.seed)
        kept = session.kind.words.kept
        session.run.save_model(autoencoder, prepared, facts, kept=kept, prefix="autoencoder")  # last: done
    _check_gate(session, facts)
    return facts, autoencoder


def _check_gate(session: Session, facts: dict[str, Any]) -> None:
    stage = session.recipe.stages.autoencoder
    assert stage is not None
    longer = f"Train it longer (stages.autoencoder.max_steps, now {stage.max_steps})"
    check_gate(stage.gate, facts["reconstruction"], "Stage 1", longer, session.run.folder)


def _train_autoencoder(session: Session, autoencoder: Autoencoder) -> tuple[dict[str, Any], Autoencoder]:
    """Returns what there is to know of it, and the one that was trained."""
    recipe, stage = session.recipe, session.recipe.stages.autoencoder
    assert stage is not None
    try:
        units = session.kind.num_units(recipe, autoencoder)
        flops = autoencoder_train_flops(autoencoder, units)
    except NotTrainable as error:
        raise RunFailed(
            f"The autoencoder '{recipe.autoencoder.name}' has parameters but no loss: {error}"
        ) from error
    max_rows = recipe.evaluation.max_rows
    data = session.prepared.rows(recipe, autoencoder, batch_size=stage.batch_size, max_rows=max_rows)
    scores = session.kind.coding_scores(autoencoder)
    module = AutoencoderModule(autoencoder, scores, stage.optimizer, stage.max_steps, recipe.seed)
    moved_on = stage.max_steps % stage.eval_every != 0 and stage.max_steps > stage.eval_every
    trainer, seconds = fit_stage(
        session, module, data, "autoencoder", stage.eval_every, validate_last=moved_on
    )
    measured = {
        name.removeprefix("autoencoder/val/"): float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith("autoencoder/val/")
    }
    rows = stage.max_steps * stage.batch_size * trainer.world_size * recipe.trainer.accumulate
    facts = {
        "reconstruction": measured,
        "autoencoder_seconds": seconds,
        "autoencoder_train_flops": flops * rows,
    }
    return facts, module.autoencoder


def _second_stage(session: Session, facts: dict[str, Any], autoencoder: Autoencoder) -> None:
    recipe, stage, prepared = session.recipe, session.recipe.stages.lm, session.prepared
    assert stage is not None
    pl.seed_everything(recipe.seed + 1, verbose=False)
    kind, manager = session.kind, session.manager
    model: CalmModel = assemble(recipe, manager, prepared.sizes)
    model.autoencoder.load_state_dict(autoencoder.state_dict())
    all_rows, batch_size = recipe.evaluation.max_rows, stage.batch_size
    rows_of = partial(prepared.rows, recipe, model.autoencoder, batch_size=batch_size)
    data, final = rows_of(max_rows=stage.eval_rows, among=all_rows), rows_of(max_rows=all_rows)
    if model.transform is not None:
        fit_transform(model, data, recipe.seed)
    if _head_is_fresh(session, stage):
        start_head(model, data, recipe.seed)
    if stage.init_from:
        _continue_from(Path(stage.init_from), model, session, stage.init_parts)
    units = kind.num_units(recipe, model.autoencoder) if model.layout is None else math.prod(model.layout)
    cost, objective = count_flops(model, units), ready_objective(session, model)
    training = {**cost.training, **objective_cost(objective, model, units)}
    untrained = _untrained(session, model, final)
    if session.resumed.trained:
        load_weights(session.run.weights, model)
        session.say("stage lm is done")
        evaluate_at_end(session, model, final, session.resumed.facts, untrained)
        return
    gathered = kind.scores(model, recipe, manager, prepared, final=False)
    beside = measures_on_the_way(recipe, manager, model)
    steps, seed = stage.max_steps, recipe.seed
    module = ModelModule(
        model, gathered, stage.optimizer, steps, seed=seed, beside=beside, objective=objective
    )
    with averaged(recipe.trainer.ema, module) as extra:
        trainer, seconds = fit_stage(session, module, data, "lm", stage.eval_every, extra)
    model = module.model
    rows = stage.max_steps * stage.batch_size * trainer.world_size * recipe.trainer.accumulate
    element, each = kind.words.element, kind.elements_per_row(recipe) / units
    per_unit = cost.inference_per_unit
    facts |= {
        "parameters": {
            name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
        },
        "lm_steps": stage.max_steps,
        "lm_seconds": seconds,
        "lm_train_flops": sum(training.values()) * rows,
        f"lm_train_{element}s": round(rows * units * each),
        "train_flops_by_part": {part: flops * rows for part, flops in training.items()},
        f"inference_flops_per_{element}": None if per_unit is None else per_unit / each,
    }
    if is_rank_zero():
        forget_measured(session.run.folder)
        session.run.save_model(model, prepared, facts, kept=kind.words.kept)
    evaluate_at_end(session, model, final, facts, untrained)


def _head_is_fresh(session: Session, stage: LmStage) -> bool:
    """Whether nothing else gives the head its weights: no checkpoint of this run, and no other run."""
    goes_on = session.resumed.trained or "lm" in session.resumed.snapshots
    taken = stage.init_from and (not stage.init_parts or "head" in stage.init_parts)
    return not goes_on and not taken


def _untrained(session: Session, model: CalmModel, data: Any) -> dict[str, float]:
    """What the model measures before its first step; a run that goes on has it written down."""
    recipe, path = session.recipe, session.run.folder / "checkpoints" / "untrained.json"
    if not recipe.evaluation.untrained:
        return {}
    if path.exists():
        return read_json(path)
    kind, manager, prepared = session.kind, session.manager, session.prepared
    scores = measure(
        recipe, kind, manager, prepared, model, data, "untrained", progress=session.progress
    ).scores
    if is_rank_zero():
        write_json(path, scores)
    return scores


def _continue_from(source: Path, model: CalmModel, session: Session, parts: Sequence[str]) -> None:
    """Load the weights of another run, or of some of its parts; it must rest on the same autoencoder."""
    check_lineage(source, lineage_of(session.kind, session.prepared, model.autoencoder))
    own = {name: value.clone() for name, value in model.autoencoder.state_dict().items()}
    if parts:
        theirs = load_parts(source, model, parts)
    else:
        load_weights(Run(source).weights, model)
        theirs = model.autoencoder.state_dict()
    if not all(name in own and torch.equal(own[name].cpu(), value.cpu()) for name, value in theirs.items()):
        raise RunFailed(
            f"The weights of {source} rest on another autoencoder than this run's; take it from there too: "
            f"stages.autoencoder.init_from={source}",
            session.run.folder,
        )
    told = f"begins with {' and '.join(parts)} of" if parts else "continues the weights of"
    session.say(f"stage 2 {told} {source}")
