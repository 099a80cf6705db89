"""The best that any model could score on held-out text whose law is known, at a model's own positions.

Every end-of-text and all fill is taken as known beforehand. That is exact where rows hold whole documents,
whose ends then stand at fixed places; elsewhere no model reaches the ceiling quite, because it must guess
where documents end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from calmkit.interfaces import KnownSource
from calmkit.model import CalmModel
from calmkit.recipe.parts import build_corpus
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.text.datamodule import TextDataModule
from calmkit.text.metrics.brier import NUM_TOKENS, brier_lm
from calmkit.text.metrics.rollout import eligible_units
from calmkit.text.prepare import PreparedData


def ceiling_scores(
    recipe: Recipe, manager: Manager, prepared: PreparedData, data: TextDataModule, model: CalmModel
) -> dict[str, float]:
    """`ceiling_brier_lm`, `ceiling_brier_1` to `_4` and `ceiling_nll_per_token` of a model's evaluation.

    Empty where the corpus is no `KnownSource`, or where the tokenizer joins characters.

    Args:
        recipe: Names the corpus.
        manager: Parts.
        prepared: The text as tokens.
        data: The evaluation's rows.
        model: Only its chunk size and the units it predicts matter.

    Returns:
        Expectations: the score of the true law itself varies around them with the text. Brier-n between 0
        and 1, BrierLM in percent, the cross-entropy in nats per token over all predicted tokens.
    """
    corpus = build_corpus(recipe, manager)
    if not isinstance(corpus, KnownSource) or _joins_characters(prepared):
        return {}
    batches = ((batch.data, model.predict(batch.valid)) for batch in data.all_val_dataloader())
    return ceiling(corpus, batches, prepared.tokenizer.eos_id)


def ceiling(
    source: KnownSource,
    batches: Iterable[tuple[Int[Tensor, "_ _ K"], Bool[Tensor, "_ _"]]],
    eos_id: int,
) -> dict[str, float]:
    """The scores of `ceiling_scores` for rows of chunks and the units of them that a model predicts."""
    brier, positions = torch.zeros(NUM_TOKENS, dtype=torch.float64), 0
    nats, tokens = 0.0, 0
    for chunks, predict in batches:
        chunk_size = chunks.shape[-1]
        letter = (chunks != eos_id).flatten(1)  # [B, T]
        seen = letters_before(letter)
        predicted = predict.repeat_interleave(chunk_size, 1)
        for (before, is_letter), count in counted(torch.stack([seen, letter.long()], -1)[predicted]):
            nats += count * source.entropy(before) if is_letter else 0.0
            tokens += count
        row, unit = eligible_units(predict, chunk_size).nonzero().unbind(1)
        place = (unit * chunk_size).unsqueeze(1) + torch.arange(NUM_TOKENS)  # [P, 4]
        window = letter[row.unsqueeze(1), place].long()
        for (before, *letters), count in counted(torch.cat([seen[row, place[:, 0]].unsqueeze(1), window], 1)):
            brier += count * torch.tensor(best_brier_terms(source, before, letters), dtype=torch.float64)
            positions += count
    brier /= positions
    scores = {"ceiling_brier_lm": float(brier_lm(brier))}
    scores |= {f"ceiling_brier_{n}": float(value) for n, value in enumerate(brier, start=1)}
    return scores | {"ceiling_nll_per_token": nats / tokens}


def best_brier_terms(source: KnownSource, seen: int, letters: list[int]) -> list[float]:
    """Best expected Brier-1, -2, ... of tokens of which `letters` says 1 for a letter, 0 for a known end.

    A document knows nothing of the one before it, so the stretches of letters between ends multiply.
    """
    terms, done, stretch = [], 1.0, 0
    for is_letter in letters:
        if is_letter:
            stretch += 1
        else:
            done, stretch, seen = done * source.best_brier(seen, stretch), 0, 0
        terms.append(done * source.best_brier(seen, stretch))
    return terms


def letters_before(letter: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Letters that stand directly before each token, back to the last end or the beginning of the row."""
    place = torch.arange(letter.shape[1]).expand_as(letter)
    last_end = torch.where(letter, -1, place).cummax(1).values
    return place - 1 - torch.nn.functional.pad(last_end[:, :-1], (1, 0), value=-1)


def counted(rows: Int[Tensor, "N columns"]) -> Iterator[tuple[list[int], int]]:
    """Each distinct row with its number of copies."""
    kinds, counts = rows.unique(dim=0, return_counts=True)
    yield from zip(kinds.tolist(), counts.tolist(), strict=True)


def _joins_characters(prepared: PreparedData) -> bool:
    """Whether some token stands for several characters, or some character takes several tokens."""
    headers = (prepared.train.header, prepared.valid.header)
    return any(header.num_tokens != header.num_characters + header.num_documents for header in headers)
