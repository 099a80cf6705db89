"""How likely a text is behind another: log likelihoods of strings, in nats, as a model of text writes them.

A chunk holds K tokens, and a prompt fills its chunks up on its left, so what follows it begins a chunk: the
law is that of `generate`. What does not fill its last chunk counts there as the beginning it is, whatever
follows. Behind an empty prompt, which is one chunk of end-of-text, a document begins, and with it 0 to K - 1
tokens of fill: these are K ways to write the same text, whose probabilities are summed.

Source: what is asked for, loglikelihood and loglikelihood_rolling of lm-eval,
https://github.com/EleutherAI/lm-evaluation-harness/blob/main/docs/model_guide.md
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from calmkit.generation import SeededRandomness
from calmkit.interfaces import DensityHead, PlacewiseHead
from calmkit.model import CalmModel
from calmkit.text import chunk_likelihood
from calmkit.text.generation import TextModel
from calmkit.text.metrics.likelihood import likelihood_kind
from calmkit.text.units import chunk_size_of
from calmkit.text.windows import Layout, Piece, layouts, pieces

Told = Literal["exact", "bound"]
"""What the number is: the log likelihood, or an estimate that is below it on average."""


@final
class NoLikelihood(Exception):
    """A model does not know how likely a text is; the message says which part and why."""


@dataclass(frozen=True)
class Scored:
    """One text behind another.

    Attributes:
        nats: Log likelihood, or a lower bound on it.
        greedy: Whether every token is the likeliest; None where only a bound is known.
    """

    nats: float
    greedy: bool | None


def why_no_likelihood(model: CalmModel) -> str | None:
    """Why a model does not know how likely a text is, naming the part; None where it does."""
    head, name = model.head, type(model.head).__name__
    if not isinstance(head, DensityHead):
        return (
            f"{name} is known by its draws alone: it has no density (no DensityHead), so no text has a "
            "likelihood. Tasks of generate_until do; those of loglikelihood and multiple_choice need a head "
            "such as mixture or local_ar"
        )
    kind = likelihood_kind(model)
    if kind == "latent":
        return (
            f"{name} has a density over latents, and {type(model.autoencoder).__name__} maps a chunk to a "
            "point among them, so no bound on the likelihood of a text follows; an autoencoder with a "
            "spread, such as vae, has one"
        )
    if kind == "exact" and not isinstance(head, PlacewiseHead):
        return (
            f"{name} knows the density of whole chunks only (no PlacewiseHead), and a text may end inside of "
            "one; a head such as local_ar knows that of each token"
        )
    return None


@final
class TextLikelihood:
    """Log likelihoods of texts under a model.

    Args:
        writer: The model and its tokenizer.
        max_tokens: Of a row of training; of a longer text the end is read, in windows where need be.
        batch_size: Windows scored at once.
        seed: Of the draws of a bound. The same texts in the same order have the same numbers.

    Raises:
        NoLikelihood: The model has none, naming the part and the reason.
    """

    def __init__(self, writer: TextModel, max_tokens: int, *, batch_size: int = 8, seed: int = 0) -> None:
        reason = why_no_likelihood(writer.model)
        if reason is not None:
            raise NoLikelihood(reason)
        self.model, self.tokenizer = writer.model, writer.tokenizer
        self.kind: Told = "exact" if likelihood_kind(writer.model) == "exact" else "bound"
        self.chunk_size = chunk_size_of(writer.model)
        self.longest = max_tokens // self.chunk_size
        self.batch_size = batch_size
        self.randomness = SeededRandomness(seed, next(writer.model.parameters()).device)

    def behind(self, pairs: Sequence[tuple[str, str]]) -> list[Scored]:
        """Each second text as it follows the first; an empty first one begins a document.

        Spaces at the end of the first belong to the second, as lm-eval has it: tokens begin with them.
        """
        return self.of_ids([self._encode(before, after) for before, after in pairs])

    def of_ids(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Scored]:
        """The same, of ids; nothing behind anything is certain."""
        made: list[Layout] = []
        ways: list[range] = []  # of each pair, among what is made
        for before, after in pairs:
            found = layouts(before, after, self.chunk_size, self.tokenizer.eos_id) if after else []
            ways.append(range(len(made), len(made) + len(found)))
            made += found
        cut = [piece for number, layout in enumerate(made) for piece in self._pieces(number, layout)]
        nats, greedy = [0.0] * len(made), [True] * len(made)
        for piece, (score, likeliest) in zip(cut, self._score(cut), strict=True):
            nats[piece.layout] += score
            greedy[piece.layout] &= likeliest
        exact = self.kind == "exact"
        return [
            Scored(_sum_of([nats[w] for w in of]), any(greedy[w] for w in of) or not of if exact else None)
            for of in ways
        ]

    def _pieces(self, number: int, layout: Layout) -> Iterable[Piece]:
        return pieces(number, layout, self.chunk_size, self.tokenizer.eos_id, self.longest)

    def _encode(self, before: str, after: str) -> tuple[list[int], list[int]]:
        kept = before.rstrip()
        after = before[len(kept) :] + after
        if not kept:
            (ids,) = self.tokenizer.encode([after])
            return [], ids
        front, whole = self.tokenizer.encode([kept, kept + after])
        return front, whole[len(front) :]

    def _score(self, cut: Sequence[Piece]) -> list[tuple[float, bool]]:
        """Nats of each window and whether all of it is the likeliest; long ones first, so that they share."""
        found: list[tuple[float, bool]] = [(math.nan, False)] * len(cut)
        order = sorted(range(len(cut)), key=lambda i: len(cut[i].ids), reverse=True)
        for batch in _batched(order, self.batch_size):
            with self.randomness.borrowed():
                for i, score in zip(batch, self._score_batch([cut[i] for i in batch]), strict=True):
                    found[i] = score
        return found

    @torch.no_grad()
    def _score_batch(self, batch: Sequence[Piece]) -> list[tuple[float, bool]]:
        chunks, valid, places = self._padded(batch)
        context = self.model.context(chunks, valid)
        scored = places > 0
        rows = scored.nonzero()[:, 0]
        asked = (self.model, context[scored], chunks[scored], places[scored])
        if self.kind == "exact":
            nats, likeliest = chunk_likelihood.exact(*asked)
        else:
            nats = chunk_likelihood.bound(*asked)
            likeliest = torch.zeros_like(nats, dtype=torch.bool)
        sums = torch.zeros(len(batch), dtype=torch.float64).index_add_(0, rows.cpu(), nats.cpu().double())
        missed = torch.zeros(len(batch), dtype=torch.long).index_add_(
            0, rows.cpu(), (~likeliest).long().cpu()
        )
        return [(float(total), not int(miss)) for total, miss in zip(sums, missed, strict=True)]

    def _padded(self, batch: Sequence[Piece]) -> tuple[Tensor, Tensor, Tensor]:
        """Chunks `[B, L, K]`, which are real `[B, L]`, and how many places of each are scored `[B, L]`."""
        size, device = self.chunk_size, next(self.model.parameters()).device
        units = [len(piece.ids) // size for piece in batch]
        chunks = torch.full((len(batch), max(units), size), self.tokenizer.eos_id)
        places = torch.zeros(len(batch), max(units), dtype=torch.long)
        for row, (piece, length) in enumerate(zip(batch, units, strict=True)):
            chunks[row, :length] = torch.tensor(piece.ids).view(length, size)
            places[row, piece.first : length] = size
            places[row, length - 1] = piece.last_places
        valid = torch.arange(max(units)) < torch.tensor(units).unsqueeze(1)
        return chunks.to(device), valid.to(device), places.to(device)


def _sum_of(ways: Sequence[float]) -> float:
    """Log of the sum of the probabilities of all the ways; no token at all is certain."""
    return float(torch.tensor(ways, dtype=torch.float64).logsumexp(0)) if ways else 0.0


def _batched(order: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    return (order[start : start + size] for start in range(0, len(order), size))
