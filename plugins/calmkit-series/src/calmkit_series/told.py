"""What `calmkit generate` prints of series: numbers as they come, a CSV file, or an object a row."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from calmkit.interfaces import Front, GenerationAsked
from calmkit.training.checkpoints import write_text
from calmkit_series.front import BATCH, SeriesModel
from calmkit_series.numbers import SHOWN, as_csv, read_prompt

LENGTH = 64  # values that are made where nobody says how many


def as_people_read(front: Front, asked: GenerationAsked, note: Callable[[str], object]) -> Iterator[str]:
    """One row as it comes, several a line each, or a file and where it is."""
    assert isinstance(front, SeriesModel)
    prompt, num = _prompt(front, asked, note), asked.num or 1
    if asked.out is None and num == 1:
        before = ""
        for unit in front.stream(prompt, length=asked.length or LENGTH, seed=asked.seed):
            yield before + ",".join(format(value, SHOWN) for value in unit[0].tolist())
            before = ","
        return
    rows = _rows(front, prompt, asked)
    if asked.out is None:
        yield "\n".join(",".join(format(value, SHOWN) for value in row) for row in rows.tolist())
        return
    write_text(asked.out, as_csv(rows))
    yield f"{num} rows of {rows.shape[1]} values: {asked.out}"


def as_records(
    front: Front, asked: GenerationAsked, note: Callable[[str], object]
) -> Iterator[dict[str, Any]]:
    """Each row as plain values; `seconds` are those of all rows."""
    assert isinstance(front, SeriesModel)
    prompt, began = _prompt(front, asked, note), time.perf_counter()
    rows = _rows(front, prompt, asked)
    seconds = round(time.perf_counter() - began, 6)
    if asked.out is not None:
        write_text(asked.out, as_csv(rows))
    for index, row in enumerate(rows.tolist()):
        yield {
            "prompt": prompt,
            "values": [value if math.isfinite(value) else None for value in row],
            "index": index,
            "seed": asked.seed + index,
            "units": -(-len(row) // front.width),
            "seconds": seconds,
            "files": [] if asked.out is None else [str(asked.out)],
            "settings": {"length": len(row), "batch_size": asked.batch_size or BATCH},
        }


def _rows(front: SeriesModel, prompt: list[float], asked: GenerationAsked) -> Any:
    return front.generate(
        prompt,
        length=asked.length or LENGTH,
        num=asked.num or 1,
        seed=asked.seed,
        batch_size=asked.batch_size or BATCH,
    )


def _prompt(front: SeriesModel, asked: GenerationAsked, note: Callable[[str], object]) -> list[float]:
    prompt = read_prompt(asked.prompt or "")
    if len(prompt) % front.width and len(prompt) >= front.width:
        note(f"the first {len(prompt) % front.width} values of the prompt fill no unit and are not read")
    return prompt
