"""What a person must know of prepared text, a line each: which records were skipped, what leaks."""

from __future__ import annotations

import functools

from calmkit.data.bad_records import Skipped, percent
from calmkit.interfaces import Split, TextCorpus
from calmkit.text.overlap import Overlap
from calmkit.text.read_corpus import ReadCorpus
from calmkit.text.token_file import TokenFile


def skipped_notes(corpus: TextCorpus, train: TokenFile, valid: TokenFile) -> list[str]:
    """What the readings that made these files left out, now or long ago; one line where both read the same
    records.
    """
    if not isinstance(corpus, ReadCorpus):
        return []
    splits: tuple[tuple[Split, TokenFile], ...] = (("train", train), ("valid", valid))
    notes = [
        skipped.note(corpus.source(split), corpus.unit(split), functools.partial(corpus.place, split))
        for split, file in splits
        if (skipped := Skipped.from_text(file.header.skipped)).bad
    ]
    return list(dict.fromkeys(notes))


def leak_notes(corpus: TextCorpus, leaked: Overlap) -> list[str]:
    """That held-out documents of a corpus also stand in its training text, where some do."""
    if not leaked.shared:
        return []
    if not isinstance(corpus, ReadCorpus):
        return [leak_note(leaked, "the training text")]
    sources = f"the training text ({corpus.source('train')}; held out: {corpus.source('valid')})"
    return [f"{leak_note(leaked, sources)}: {corpus.apart}"]


def leak_note(leaked: Overlap, training_text: str) -> str:
    """The line, without a period: which share, of which text, and what would do."""
    share = f"{percent(leaked.share)} ({leaked.shared} of {leaked.documents})"
    return (
        f"of the held-out documents, {share} also stand in {training_text}, token for token: scores on them "
        "reward learning by heart and flatter the model. Hold out documents that are not trained on"
    )
