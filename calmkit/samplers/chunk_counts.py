"""Which draws of a row are the same chunk, and how often each came: counting for all rows at once."""

from __future__ import annotations

from functools import reduce

import torch
from jaxtyping import Int
from torch import Tensor

SLOTS_PER_DRAW = 8  # of a row's hash table, at least: about one draw in sixteen shares a slot by chance
MULTIPLIER = -7046029254386353131  # odd, 2^64 over the golden ratio as int64: spreads neighbouring keys


def label_chunks(ids: Int[Tensor, "N R K"]) -> Int[Tensor, "N R"]:
    """Labels in [0, N), equal within a row exactly where chunks are.

    A label is the place of one draw of that chunk. Each row has a hash table: every draw writes its place
    into its slot, one of those that share a slot stays, and draws that find another chunk there than their
    own try again in a table hashed anew. So hashing decides how many turns it takes, never what is equal; and
    as whoever stays finds itself, every turn settles some draws.

    Args:
        ids: Draws; ids are at least 0 and below 2^32.

    Source:
        Knuth, The Art of Computer Programming, volume 3, section 6.4 (multiplicative hashing).
    """
    num, rows, _ = ids.shape
    own = words = _words(ids)
    key = words[0]
    for word in words[1:]:
        key = key * MULTIPLIER + word
    bits = (SLOTS_PER_DRAW * num - 1).bit_length()
    table = torch.empty(rows << bits, dtype=torch.long, device=ids.device)  # read where written only
    row = torch.arange(rows, device=ids.device)
    middle = (row << bits) + (1 << (bits - 1))  # of a row's slots
    base, pending = middle.repeat_interleave(num), torch.arange(rows * num, device=ids.device)
    labels: Tensor | None = None
    while labels is None or len(pending):
        key = key * MULTIPLIER
        slot = (key >> (64 - bits)).add_(base)  # the leading bits have a sign
        found = table.scatter_(0, slot, pending).gather(0, slot)
        labels = found if labels is None else labels.scatter_(0, pending, found)
        other = [word.gather(0, found) != mine for word, mine in zip(words, own, strict=True)]
        wrong = reduce(torch.bitwise_or, other).nonzero().view(-1)
        key, base, pending, *own = (each.gather(0, wrong) for each in (key, base, pending, *own))
    return labels.view(rows, num).sub_((row * num).unsqueeze(1)).T


def _words(ids: Int[Tensor, "N R K"]) -> list[Int[Tensor, " RN"]]:
    """The tokens of each chunk, rows first, as they lie in as few 64-bit words as hold them."""
    small = ids.numel() == 0 or int(ids.max()) < 2**16
    tokens = ids.to(torch.int16 if small else torch.int32)  # wraps around above the sign, one to one
    missing = -ids.shape[-1] % (4 if small else 2)
    if missing:
        tokens = torch.nn.functional.pad(tokens, (0, missing))
    words = tokens.contiguous().view(torch.int64)  # [N, R, W]
    return [word.T.flatten() for word in words.unbind(-1)]


def count_labels(labels: Int[Tensor, "N R"]) -> Int[Tensor, "N R"]:
    """How often the label of each draw came in its row."""
    rows = labels.T
    return torch.zeros_like(rows).scatter_add_(1, rows, torch.ones_like(rows)).gather(1, rows).T
