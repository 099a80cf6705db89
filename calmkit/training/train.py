"""train: from a recipe to a run folder with a trained, measured model in it.

recipe -> validated whole -> data -> stage 1 (or init_from) -> gate -> stage 2 -> evaluation -> samples
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from calmkit.data.prepare import default_cache, prepare_data
from calmkit.interfaces import Autoencoder, DataError, NotTrainable
from calmkit.metrics.flops import autoencoder_train_flops, count_flops
from calmkit.model import CalmModel
from calmkit.recipe.assemble import assemble, validate
from calmkit.recipe.load import to_yaml
from calmkit.recipe.parts import build_corpus, build_tokenizer
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, make_manager
from calmkit.training.checkpoints import (
    load_weights,
)
from calmkit.training.environment import check_environment
from calmkit.training.errors import RunFailed
from calmkit.training.evaluate import datamodule, measure
from calmkit.training.final import evaluate_at_end
from calmkit.training.fit import Session, fit_stage
from calmkit.training.latents import write_latents
from calmkit.training.lineage import check_gate, check_lineage, load_autoencoder
from calmkit.training.lock import write_lock
from calmkit.training.loggers import make_loggers
from calmkit.training.preparing import preparing
from calmkit.training.progress import Progress, Say, quiet_libraries, said_once
from calmkit.training.run import (
    Run,
    is_rank_zero,
    new_run,
    refuse_used,
    run_folder,
    wait_for_all,
)
from calmkit.training.run_folder import held
from calmkit.training.stages import AutoencoderModule, LanguageModule
from calmkit.training.standing import StandingFile
from calmkit.training.trainer import interrupts, make_trainer


def train(
    recipe: Recipe,
    *,
    out: Path | None = None,
    say: Say = print,
    manager: Manager | None = None,
    standing: StandingFile | None = None,
) -> Run:
    """Train all stages of a recipe.

    Args:
        recipe: From `load_recipe`.
        out: The run folder; default `runs/<name>/<stamp>/` under the current folder.
        say: Takes each line of what happens.
        manager: Parts; default all that are installed.
        standing: Takes where it stands, for programs that watch; None: nobody does.

    Returns:
        The run, evaluated.

    Raises:
        RecipeError: Before anything is read or written.
        DataError: Before a weight is trained.
        RunFailed: With what was trained so far kept in the run folder.
    """
    quiet_libraries()
    manager = manager or make_manager()
    model = validate(recipe, manager)
    check_environment(recipe, manager, model)
    try:
        with ExitStack() as until_the_end:
            say = said_once(say)
            progress = Progress(say, standing)
            session = _begin(recipe, manager, model.autoencoder, out, say, progress, until_the_end)
            facts, autoencoder = _first_stage(session)
            if recipe.stages.lm is not None:
                _second_stage(session, facts, autoencoder)
            for logger in session.loggers:
                logger.finalize("success")
            wait_for_all()
    except (RunFailed, DataError, KeyboardInterrupt):
        if is_rank_zero() or not torch.distributed.is_initialized():
            raise
        raise SystemExit(0) from None  # rank 0 says it, and must not be killed over it while it saves
    session.say(f"done: {session.run.folder}")
    return session.run


def _begin(
    recipe: Recipe,
    manager: Manager,
    autoencoder: Autoencoder,
    out: Path | None,
    say: Say,
    progress: Progress,
    until_the_end: ExitStack,
) -> Session:
    """Data, loggers, folder; all that can be refused before the first step is refused here."""
    if out is not None:
        refuse_used(out)
    make_trainer(recipe)
    chunk_size = autoencoder.chunk_size
    units = recipe.data.sequence_length // chunk_size
    if recipe.stages.lm is not None and units < 2:
        raise RunFailed(
            f"A row of {recipe.data.sequence_length} tokens is {units} unit of {chunk_size}, with nothing to "
            "predict it from; raise data.sequence_length."
        )
    corpus = build_corpus(recipe, manager)
    tokenizer = build_tokenizer(recipe, manager)
    with preparing(progress) as reading:
        prepared = prepare_data(corpus, tokenizer, default_cache(), reading)
    for stage in (recipe.stages.autoencoder, recipe.stages.lm):
        if stage is not None:
            datamodule(recipe, prepared, chunk_size, stage.batch_size, recipe.evaluation.max_rows)
            if stage.init_from:
                check_lineage(Path(stage.init_from), autoencoder, prepared.tokenizer)
    folder = run_folder(recipe, out)
    if is_rank_zero():
        until_the_end.enter_context(held(folder))
    loggers = make_loggers(recipe.loggers, folder)
    run = new_run(recipe, recipe.source.text or to_yaml(recipe), to_yaml(recipe), folder)
    if is_rank_zero():
        write_lock(run, recipe, prepared.fingerprint, prepared.notes)
    say(f"run: {run.folder}")
    for note in prepared.notes:
        say(f"warning: {note}")
    sizes = f"{len(prepared.train.tokens):,} training and {len(prepared.valid.tokens):,} held-out tokens"
    say(f"data: {sizes} of {prepared.tokenizer.vocab_size} kinds")
    return Session(recipe, manager, run, prepared, loggers, say, progress)


def _first_stage(session: Session) -> tuple[dict[str, Any], Autoencoder]:
    """Train the autoencoder, or load it, and keep it. Returns the facts known by now, and the autoencoder."""
    recipe, stage, prepared = session.recipe, session.recipe.stages.autoencoder, session.prepared
    pl.seed_everything(recipe.seed, verbose=False)
    spec = recipe.autoencoder
    autoencoder: Autoencoder = session.manager.build(
        "autoencoders", spec.name, spec.options, vocab_size=prepared.tokenizer.vocab_size
    )
    facts: dict[str, Any] = {
        "calmkit": 1,
        "vocab_size": prepared.tokenizer.vocab_size,
        "eos_id": prepared.tokenizer.eos_id,
        "tokenizer": prepared.tokenizer.fingerprint(),
        "chunk_size": autoencoder.chunk_size,
        "event": list(autoencoder.event.shape),
    }
    if stage is None or not any(p.requires_grad for p in autoencoder.parameters()):
        return facts, autoencoder
    if stage.init_from:
        other = load_autoencoder(Path(stage.init_from), autoencoder, prepared.tokenizer, stage.gate)
        facts |= {"reconstruction": other["reconstruction"], "autoencoder_from": stage.init_from}
        facts["autoencoder_train_flops"] = other.get("autoencoder_train_flops", 0)
        facts["autoencoder_seconds"] = other.get("autoencoder_seconds", 0.0)
        session.say(f"stage 1 skipped: autoencoder of {stage.init_from}")
    else:
        facts |= _train_autoencoder(session, autoencoder)
    if is_rank_zero():
        if not stage.init_from:
            rows = recipe.evaluation.max_rows
            data = datamodule(recipe, prepared, autoencoder.chunk_size, stage.batch_size, rows)
            autoencoder.to(make_trainer(recipe).strategy.root_device)  # Lightning took it to the CPU
            write_latents(session.run.folder, autoencoder, data, prepared.tokenizer, recipe.seed)
        session.run.save_model(autoencoder, prepared.tokenizer, facts, prefix="autoencoder")  # the last: done
    longer = f"Train it longer (stages.autoencoder.max_steps, now {stage.max_steps})"
    check_gate(stage.gate, facts["reconstruction"], "Stage 1", longer, session.run.folder)
    return facts, autoencoder


def _train_autoencoder(session: Session, autoencoder: Autoencoder) -> dict[str, Any]:
    recipe, stage = session.recipe, session.recipe.stages.autoencoder
    assert stage is not None
    try:
        units = recipe.data.sequence_length // autoencoder.chunk_size
        flops = autoencoder_train_flops(autoencoder, units, session.prepared.tokenizer.vocab_size)
    except NotTrainable as error:
        raise RunFailed(
            f"The autoencoder '{recipe.autoencoder.name}' has parameters but no loss: {error}"
        ) from error
    data = datamodule(
        recipe, session.prepared, autoencoder.chunk_size, stage.batch_size, recipe.evaluation.max_rows
    )
    module = AutoencoderModule(autoencoder, stage.optimizer, stage.max_steps, recipe.seed)
    trainer, seconds = fit_stage(session, module, data, "autoencoder", stage.eval_every)
    if stage.max_steps % stage.eval_every and stage.max_steps > stage.eval_every:  # weights moved on since
        with interrupts():
            trainer.validate(module, datamodule=data, verbose=False)
    scores = {
        name.removeprefix("autoencoder/val/"): float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith("autoencoder/val/")
    }
    rows = stage.max_steps * stage.batch_size * trainer.world_size * recipe.trainer.accumulate
    return {"reconstruction": scores, "autoencoder_seconds": seconds, "autoencoder_train_flops": flops * rows}


def _second_stage(session: Session, facts: dict[str, Any], autoencoder: Autoencoder) -> None:
    recipe, stage, prepared = session.recipe, session.recipe.stages.lm, session.prepared
    assert stage is not None
    pl.seed_everything(recipe.seed + 1, verbose=False)
    model: CalmModel = assemble(
        recipe, session.manager, prepared.tokenizer.vocab_size, prepared.tokenizer.eos_id
    )
    model.autoencoder.load_state_dict(autoencoder.state_dict())
    if stage.init_from:
        _continue_from(Path(stage.init_from), model, session)
    units = recipe.data.sequence_length // model.chunk_size
    cost = count_flops(model, units)
    all_rows = recipe.evaluation.max_rows
    data = datamodule(recipe, prepared, model.chunk_size, stage.batch_size, stage.eval_rows, all_rows)
    final = datamodule(recipe, prepared, model.chunk_size, stage.batch_size, all_rows)
    untrained = (
        measure(recipe, model, final, "untrained", progress=session.progress).scores
        if recipe.evaluation.untrained
        else {}
    )
    module = LanguageModule(
        model, stage.optimizer, stage.max_steps, draws=recipe.evaluation.draws, seed=recipe.seed
    )
    trainer, seconds = fit_stage(session, module, data, "lm", stage.eval_every)
    rows = stage.max_steps * stage.batch_size * trainer.world_size * recipe.trainer.accumulate
    facts |= {
        "parameters": {
            name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
        },
        "lm_steps": stage.max_steps,
        "lm_seconds": seconds,
        "lm_train_flops": cost.total * rows,
        "lm_train_tokens": rows * recipe.data.sequence_length,
        "train_flops_by_part": {part: flops * rows for part, flops in cost.training.items()},
        "inference_flops_per_token": cost.inference_per_token,
    }
    if is_rank_zero():
        session.run.save_model(model, prepared.tokenizer, facts)
    evaluate_at_end(session, model, final, facts, untrained)


def _continue_from(source: Path, model: CalmModel, session: Session) -> None:
    """Load the weights of another run, which must rest on the same autoencoder."""
    check_lineage(source, model.autoencoder, session.prepared.tokenizer)
    own = {name: value.clone() for name, value in model.autoencoder.state_dict().items()}
    load_weights(Run(source).weights, model)
    theirs = model.autoencoder.state_dict()
    if not all(torch.equal(value, theirs[name]) for name, value in own.items()):
        raise RunFailed(
            f"The weights of {source} rest on another autoencoder than this run's; take it from there too: "
            f"stages.autoencoder.init_from={source}",
            session.run.folder,
        )
    session.say(f"stage 2 continues the weights of {source}")
