"""Held-out documents that a model was trained on: said, and kept beside the scores that they flatter."""

from __future__ import annotations

from calmkit.data.notes import leak_note
from calmkit.data.overlap import Overlap, overlap
from calmkit.data.prepare import PreparedData, default_cache
from calmkit.data.token_file import TokenFile
from calmkit.interfaces import DataError
from calmkit.recipe.parts import build_corpus
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.training.progress import Say


def leak_scores(prepared: PreparedData) -> dict[str, float]:
    """`leaked_documents`: share of the held-out documents that also stand in the training text."""
    return {"leaked_documents": prepared.leaked.share}


def leaks_of_run(prepared: PreparedData, trained: Recipe, manager: Manager, say: Say) -> dict[str, float]:
    """The same on any data, where the text that the run learnt from counts too; says what is to be warned of.

    Args:
        prepared: What is evaluated on.
        trained: The recipe of the run.
        manager: Parts.
        say: Takes each warning.
    """
    for note in prepared.notes:
        say(f"warning: {note}")
    own = _own_training_text(prepared, trained, manager)
    if own is None or not own.shared:
        return leak_scores(prepared)
    say(f"warning: {leak_note(own, 'the text that the run was trained on')}")
    return {"leaked_documents": max(own.share, prepared.leaked.share)}


def _own_training_text(prepared: PreparedData, trained: Recipe, manager: Manager) -> Overlap | None:
    """Against the training text of the run; None where that is the text at hand, or it is no longer known."""
    try:
        corpus = build_corpus(trained, manager)
        path = TokenFile.place(corpus, "train", prepared.tokenizer, default_cache())
        if path == prepared.train.path or not path.exists():
            return None
        learnt = TokenFile.open(path)
    except DataError:  # its files have gone, and took the answer with them
        return None
    if learnt.header.checksum == prepared.train.header.checksum:
        return None
    return overlap(learnt, prepared.valid, default_cache())
