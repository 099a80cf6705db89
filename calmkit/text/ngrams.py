"""BrierLM of counted n-gram models at a model's own positions, counted once for the same text."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from calmkit.data.atomic_write import replacing
from calmkit.data.cache import default_cache
from calmkit.data.digest import digest
from calmkit.interfaces import DataError
from calmkit.model import CalmModel
from calmkit.text.datamodule import TextDataModule
from calmkit.text.metrics.brier import BrierLM
from calmkit.text.metrics.ngram import NGramModel, NotCounted
from calmkit.text.metrics.rollout import eligible_units
from calmkit.text.prepare import PreparedData
from calmkit.text.units import chunk_size_of

ORDERS = {1: "unigram", 2: "bigram", 3: "trigram"}
FORMULA = "interpolated Witten-Bell, exact Brier terms, 1"
"""What the cached scores were made by; another formula or another way to score gets another number."""

Rows = tuple[Int[Tensor, "B L K"], Bool[Tensor, "B L"], Bool[Tensor, "B L"]]


def ngram_scores(
    prepared: PreparedData, data: TextDataModule, model: CalmModel, cache: Path | None = None
) -> dict[str, float]:
    """`unigram_brier_lm`, `bigram_brier_lm`, `trigram_brier_lm` at this model's positions; too large ones
    are left out.

    The scores stand in `<cache>/ngrams`, under a digest of the counted ids, the scored rows and the
    positions: trials of a study that differ in their heads alone count once.

    Args:
        prepared: Its training split is counted.
        data: All its validation rows are scored.
        model: Says which units it predicts.
        cache: Default `default_cache()`.
    """
    path = (cache or default_cache()) / "ngrams" / f"{_key(prepared, data, model)}.json"
    known = _read(path)
    if known is None:
        known = _score(prepared, data, model)
        with suppress(DataError), replacing(path) as temporary:  # one that can't be written costs time only
            temporary.write_text(json.dumps(known | {"seal": _seal(path, known)}), encoding="utf-8")
    return {name: score for name, score in known.items() if score is not None}


def _score(prepared: PreparedData, data: TextDataModule, model: CalmModel) -> dict[str, float | None]:
    """By name; None for an order that was too large to count, so that a file tells it from one cut short."""
    scores: dict[str, float | None] = {}
    for order, name in ORDERS.items():
        try:
            counted = NGramModel.count(prepared.train.tokens, prepared.tokenizer.vocab_size, order)
        except NotCounted:
            scores[f"{name}_brier_lm"] = None
            continue
        metric = BrierLM()
        metric.distributed_available_fn = lambda: False  # only rank 0 is here, so nobody to wait for
        for rows in _rows(data, model):
            metric.update(*counted.brier_terms(*rows))
        scores[f"{name}_brier_lm"] = float(metric.compute()["brier_lm"])
    return scores


def _rows(data: TextDataModule, model: CalmModel) -> Iterator[Rows]:
    """Chunks, which units are real, and at which a model is scored."""
    for batch in data.all_val_dataloader():
        eligible = eligible_units(model.predict(batch.valid), chunk_size_of(model))
        yield batch.data, batch.valid, eligible


def _key(prepared: PreparedData, data: TextDataModule, model: CalmModel) -> str:
    """Of all that the scores depend on, by content."""
    hasher = hashlib.blake2b(digest_size=16)
    for chunks, valid, eligible in _rows(data, model):
        hasher.update(repr(tuple(chunks.shape)).encode())
        for tensor in (chunks.to(torch.int64), valid, eligible):
            hasher.update(tensor.cpu().numpy().tobytes())
    counted = prepared.train.header
    return digest(
        FORMULA, counted.checksum, str(counted.vocab_size), str(torch.get_default_dtype()), hasher.hexdigest()
    )


def _read(path: Path) -> dict[str, float | None] | None:
    """What an earlier run wrote; None where there is nothing, or nothing that can be read and is whole."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.pop("seal", None) != _seal(path, found):
        return None
    if set(found) != {f"{name}_brier_lm" for name in ORDERS.values()}:
        return None
    if not all(score is None or _is_score(score) for score in found.values()):
        return None
    return found


def _seal(path: Path, known: Mapping[str, object]) -> str:
    return digest(path.stem, json.dumps(known, sort_keys=True))


def _is_score(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)
