"""final: the numbers of a run at its end, a sample of its text, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calmkit.data.datamodule import TextDataModule
from calmkit.generation import TextModel
from calmkit.model import CalmModel
from calmkit.recipe.assemble import build_sampler
from calmkit.training.checkpoints import write_json, write_text
from calmkit.training.documents import write_documents
from calmkit.training.evaluate import beside_a_model, measure, reconstruction
from calmkit.training.fit import Session
from calmkit.training.leaks import leak_scores
from calmkit.training.measures import asked_measures
from calmkit.training.progress import Say
from calmkit.training.protocol import EVALUATION, KEY, protocol_of
from calmkit.training.run import is_rank_zero
from calmkit.training.trainer import make_trainer

UNTRAINED = ("brier_lm", "nll_")
"""How the names begin of what is kept of the model before its first step."""


def evaluate_at_end(
    session: Session,
    model: CalmModel,
    data: TextDataModule,
    facts: Mapping[str, Any],
    untrained: Mapping[str, float],
) -> None:
    """Measure a trained model by its recipe, write `evaluation.json` and `samples.txt`, and say the scores.

    Every process must call it; the first one writes.

    Args:
        session: Of the run.
        model: Trained.
        data: Of the rows that the evaluation reads.
        facts: Of the run, as far as they are known; see `reconstruction`.
        untrained: What the model measured before its first step.
    """
    recipe, prepared, progress = session.recipe, session.prepared, session.progress
    measured = measure(recipe, model, data, "final", progress=progress)
    asked = asked_measures(recipe, session.manager, model, data, progress)
    known = reconstruction(recipe, facts, model, data, progress)
    if not is_rank_zero():
        return
    device = make_trainer(recipe).strategy.root_device
    sampler = build_sampler(recipe, session.manager)
    scores: dict[str, Any] = dict(measured.scores)
    scores |= {f"untrained_{name}": value for name, value in untrained.items() if name.startswith(UNTRAINED)}
    scores |= beside_a_model(recipe, session.manager, prepared, data, model.to(device), sampler, progress)
    scores = asked.beside(scores | known | leak_scores(prepared))
    for line in asked.notes:
        session.say(line)
    scores[KEY] = protocol_of(recipe, prepared.fingerprint, device.type).as_dict()
    path = session.run.folder / EVALUATION
    write_json(path, scores)
    write_documents(path, measured.per_document)
    asked.write_documents(path)
    text = TextModel(model.eval(), prepared.tokenizer, sampler)
    prompt, length = recipe.evaluation.sample_prompt, recipe.evaluation.sample_tokens
    with progress.phase("writing a sample"):
        sample = text.generate(prompt, max_tokens=length, seed=recipe.seed)
    write_text(session.run.folder / "samples.txt", prompt + sample + "\n")
    tell(scores, session.say)


def tell(scores: Mapping[str, Any], say: Say) -> None:
    """Say what a person looks for first among the numbers of an evaluation."""
    counted = ", ".join(
        f"{name.removesuffix('_brier_lm')} {value:.3f}"
        for name, value in scores.items()
        if name.endswith("gram_brier_lm")
    )
    interval = f"95 % {scores['brier_lm_low']:.3f} to {scores['brier_lm_high']:.3f}"
    say(f"BrierLM {scores['brier_lm']:.3f} ({interval}) on {scores['units']:.0f} units of held-out text")
    say(f"BrierLM of models that only count: {counted}")
    if "nll_per_token" in scores:
        say(f"{scores['nll_per_token']:.4f} nats per token")
    if "nll_bound_per_token" in scores:
        say(f"at most {scores['nll_bound_per_token']:.4f} nats per token (an upper bound)")
    if "ceiling_brier_lm" in scores:
        say(f"BrierLM of the true source, the ceiling: {scores['ceiling_brier_lm']:.3f}")
