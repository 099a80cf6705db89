"""The end of a text: end-of-text among the tokens of a chunk."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from calmkit.interfaces import Ending


def fill_after_end(
    ids: Int[Tensor, "*rows K"], eos_id: int, at_document_start: Bool[Tensor, "*rows"] | None = None
) -> Int[Tensor, "*rows K"]:
    """Replace everything after an end-of-text inside a chunk by end-of-text.

    Where a chunk opens a document, the end-of-text tokens at its left are the fill that packing puts there (a
    document's length is made a multiple of K on its left), so only one that follows another token ends the
    text.
    """
    is_end = ids == eos_id
    if at_document_start is not None:
        is_fill = is_end.long().cumprod(-1).bool() & at_document_start.unsqueeze(-1)
        is_end = is_end & ~is_fill
    after = is_end.long().cumsum(-1) - is_end.long() > 0
    return torch.where(after, torch.full_like(ids, eos_id), ids)


def has_ended(
    ids: Int[Tensor, "*rows K"], eos_id: int, at_document_start: Bool[Tensor, "*rows"]
) -> Bool[Tensor, "*rows"]:
    """True where a chunk that `fill_after_end` returned ends its text."""
    last_is_end = ids[..., -1] == eos_id
    any_end = (ids == eos_id).any(-1)
    return torch.where(at_document_start, last_is_end, any_end)


@final
class EndOfText(Ending):
    """A text ends at its first end-of-text; where a chunk opens a document, those at its left are fill.

    Args:
        eos_id: The id of end-of-text.
    """

    def __init__(self, eos_id: int) -> None:
        self.fill = eos_id

    def opens(self, last: Int[Tensor, "B K"]) -> Bool[Tensor, " B"]:
        """Behind an end-of-text a document begins."""
        return last[:, -1] == self.fill

    def tidy(self, data: Int[Tensor, "num R K"], opens: Bool[Tensor, "num R"]) -> Int[Tensor, "num R K"]:
        """See `fill_after_end`."""
        return fill_after_end(data, int(self.fill), opens)

    def ended(self, data: Int[Tensor, "B K"], opens: Bool[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """See `has_ended`."""
        return has_ended(data, int(self.fill), opens)
