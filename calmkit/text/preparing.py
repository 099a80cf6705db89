"""preparing: the reading of text, told as phases: what the tokenizer learns from, and what is tokenised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from calmkit.text.prepare import Reading
from calmkit.training.progress import Phase, Progress

PHASES = {
    "tokenizer": "reading text for the tokenizer",
    "learning": "the tokenizer learns from it",
    "train": "tokenising the training text",
    "valid": "tokenising the held-out text",
}
MEGABYTE = 1_000_000


@contextmanager
def preparing(progress: Progress) -> Iterator[Reading]:
    """What `prepare_data` takes as its progress: a phase for each reading, none where all is in the cache."""
    phases: dict[str, Phase] = {}

    def told(what: str, documents: int, size: int, expected: int | None) -> None:
        if what not in phases:
            end()
            name = PHASES.get(what, what)
            phases[what] = progress.begin(name, unit="byte", total=expected, announce=True)
        of = "" if expected is None else f" of about {expected / MEGABYTE:.1f}"
        phases[what].at(size, words=f"{documents:,} documents, {size / MEGABYTE:.1f}{of} MB")

    def end() -> None:
        for phase in phases.values():
            phase.end()

    try:
        yield told
    finally:
        end()
