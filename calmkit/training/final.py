"""final: the numbers of a run at its end, a sample of what it makes, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl

from calmkit.model import CalmModel
from calmkit.recipe.assemble import build_sampler
from calmkit.recipe.objectives import build_objective
from calmkit.training.checkpoints import write_json
from calmkit.training.evaluate import measure, reconstruction
from calmkit.training.fit import Session
from calmkit.training.groups import write_groups
from calmkit.training.measures import asked_measures
from calmkit.training.protocol import EVALUATION, KEY, protocol_of
from calmkit.training.run import is_rank_zero
from calmkit.training.trainer import make_trainer


def evaluate_at_end(
    session: Session,
    model: CalmModel,
    data: pl.LightningDataModule,
    facts: Mapping[str, Any],
    untrained: Mapping[str, float],
) -> None:
    """Measure a trained model by its recipe, write `evaluation.json` and a sample, and say the scores.

    Every process must call it; the first one writes.

    Args:
        session: Of the run.
        model: Trained.
        data: Of the rows that the evaluation reads.
        facts: Of the run, as far as they are known; see `reconstruction`.
        untrained: What the model measured before its first step.
    """
    recipe, kind, prepared, progress = session.recipe, session.kind, session.prepared, session.progress
    measured = measure(recipe, kind, session.manager, prepared, model, data, "final", progress=progress)
    asked = asked_measures(recipe, session.manager, model, data, progress)
    known = reconstruction(recipe, kind, facts, model, data, progress)
    if not is_rank_zero():
        return
    device = make_trainer(recipe).strategy.root_device
    sampler = build_sampler(recipe, session.manager)
    front = kind.front(model.to(device), prepared, sampler, "auto")
    scores: dict[str, Any] = dict(measured.scores)
    kept = (*kind.words.untrained, *build_objective(recipe, session.manager).numbers)
    scores |= {f"untrained_{name}": value for name, value in untrained.items() if name.startswith(kept)}
    scores |= kind.beside(recipe, session.manager, prepared, data, front, progress)
    scores = asked.beside(scores | known | prepared.scores())
    for line in asked.notes:
        session.say(line)
    scores[KEY] = protocol_of(recipe, prepared.fingerprint, device.type, kind.words).as_dict()
    path = session.run.folder / EVALUATION
    write_json(path, scores)
    write_groups(path, kind.words.group, measured.table)
    asked.write_groups(path, kind.words.group)
    model.eval()
    with progress.phase("writing a sample"):
        kind.sample(front, recipe, session.run.folder)
    for line in kind.tell(scores):
        session.say(line)
