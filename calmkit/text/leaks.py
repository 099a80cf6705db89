"""Held-out documents that a model was trained on: said, and kept beside the scores that they flatter."""

from __future__ import annotations

from typing import Any

from calmkit.data.cache import default_cache
from calmkit.data.digest import digest
from calmkit.interfaces import DataError
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.parts import build_corpus
from calmkit.registry import Manager
from calmkit.text.notes import leak_note
from calmkit.text.overlap import overlap
from calmkit.text.prepare import PreparedData
from calmkit.text.token_file import TokenFile
from calmkit.training.progress import Say
from calmkit.training.run import NO_METRICS, Run


def leaks_of_run(prepared: PreparedData, run: Run, manager: Manager, say: Say) -> dict[str, float]:
    """The same on any data: of the text that the run learnt from, or where that is not known, of the training
    text beside what is evaluated on; says what is to be warned of.

    Args:
        prepared: What is evaluated on.
        run: Whose model is evaluated.
        manager: Parts.
        say: Takes each warning.
    """
    learnt = _learnt_text(prepared, run, manager)
    if learnt is None or learnt.header.checksum == prepared.train.header.checksum:
        for note in prepared.notes:
            say(f"warning: {note}")
        return prepared.scores()
    for note in prepared.skipped_notes:
        say(f"warning: {note}")
    own = overlap(learnt, prepared.valid, default_cache())
    if own.shared:
        say(f"warning: {leak_note(own, 'the text that the run was trained on')}")
    return {"leaked_documents": own.share}


def _learnt_text(prepared: PreparedData, run: Run, manager: Manager) -> TokenFile | None:
    """The training text of a run; None where it is no longer known, or was never seen here."""
    try:
        corpus: Any = build_corpus(run.recipe(manager, [NO_METRICS]), manager)
        if digest(corpus.identity(), prepared.tokenizer.fingerprint()) != run.lock.get("data"):
            return None
        path = TokenFile.place(corpus, "train", prepared.tokenizer, default_cache())
        return TokenFile.open(path) if path.exists() else None
    except (DataError, RecipeError):  # its files have gone, or are damaged
        return None
