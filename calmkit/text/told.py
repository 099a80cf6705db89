"""What `calmkit generate` prints of text: for people as it comes, for programs an object each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from calmkit.interfaces import Front, GenerationAsked
from calmkit.metrics.sampler_use import SamplerUse
from calmkit.text.continuations import BATCH, Continuation, continuations
from calmkit.text.generation import TextModel

BORDER = "|"
LENGTH = 256  # tokens, where nobody says how many
SHOWN = 60  # characters of a prompt above its continuation

Note = Callable[[str], object]


def as_people_read(front: Front, asked: GenerationAsked, note: Note) -> Iterator[str]:
    """The continuation; of several each under a line that says whose it is."""
    writer: Any = front
    use, border = SamplerUse(), BORDER if asked.show_units else ""
    num = asked.num or 1
    several = num > 1 or len(asked.prompts) > 1
    if several:
        before = ""
        for one in _continuations(writer, asked, use):
            yield f"{before}{_heading(one, num)}\n{border.join(one.chunks)}"
            before = "\n"
    else:
        pieces = writer.stream(
            asked.prompt or "",
            max_tokens=asked.length or LENGTH,
            seed=asked.seed,
            on_unit=lambda unit: use.add(unit.draws, unit.level),
            border=border,
        )
        yield from pieces if asked.stream else ["".join(pieces)]
    _tell(use, note)


def as_records(front: Front, asked: GenerationAsked, note: Note) -> Iterator[dict[str, Any]]:
    """Each continuation as plain values."""
    writer: Any = front
    use = SamplerUse()
    for one in _continuations(writer, asked, use):
        chunks = {"chunks": list(one.chunks)} if asked.show_units else {}
        yield {
            "prompt": one.prompt,
            "text": one.text,
            "index": one.index,
            "seed": one.seed,
            "tokens": one.tokens,
            "units": len(one.chunks),
            "seconds": round(one.seconds, 6),
            "stopped": one.stopped,
            **chunks,
            "settings": {"length": asked.length or LENGTH, "batch_size": asked.batch_size or BATCH},
        }
    _tell(use, note)


def _continuations(writer: TextModel, asked: GenerationAsked, use: SamplerUse) -> Iterator[Continuation]:
    return continuations(
        writer,
        asked.prompts or ("",),
        num=asked.num or 1,
        max_tokens=asked.length or LENGTH,
        seed=asked.seed,
        batch_size=asked.batch_size or BATCH,
        on_unit=lambda unit: use.add(unit.draws, unit.level),
    )


def _heading(one: Continuation, num: int) -> str:
    prompt = one.prompt if len(one.prompt) <= SHOWN else one.prompt[:SHOWN] + "..."
    which = f" ({one.index + 1} of {num})" if num > 1 else ""
    return f"--- {json.dumps(prompt, ensure_ascii=False)}{which}"


def _tell(use: SamplerUse, note: Note) -> None:
    if use.draws != use.units or use.fallbacks:
        note(f"sampler: {use.sentence()}")
