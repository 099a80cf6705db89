"""What a transformer keeps of the units before: keys and values, in a line of its own or shared by branches.

Source of the softmax in two parts (`merge`): Milakov and Gimelshein, Online normalizer calculation for
softmax, 2018, section 3.1. https://arxiv.org/abs/1805.02867
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calmkit.nn.attention import at_least_float32, visible_units


@final
class KeyValues:
    """Storage for the keys and values of a line of steps, one buffer `[2, R, kv_heads, room, E]` per layer.

    Whoever holds it also holds a length, and reads that many units. A line is written in place; a step from a
    length that was written past already goes to a copy, so an older holder never sees another line's units.

    Args:
        depth: Number of layers.
        room: Units to make room for; twice what is needed where it was too few.
    """

    def __init__(self, depth: int, room: int) -> None:
        self.buffers: list[Tensor | None] = [None] * depth
        self.room = room
        self.written = 0

    def claim(self, length: int, n: int) -> KeyValues:
        """Where the n units behind `length` may be written: here, or in a copy where somebody did before."""
        line = self
        if self.written != length:
            line = KeyValues(len(self.buffers), self.room)
            line.buffers = [
                None if b is None else b[..., :length, :] for b in self.buffers
            ]  # full: append copies
        line.written = length + n
        return line

    def append(
        self, layer: int, length: int, k: Float[Tensor, "R kv_heads n E"], v: Float[Tensor, "R kv_heads n E"]
    ) -> tuple[Float[Tensor, "R kv_heads P E"], Float[Tensor, "R kv_heads P E"]]:
        """Write n units behind `length` of a claimed line; keys and values of all length + n units."""
        end = length + k.shape[2]
        buffer = self.buffers[layer]
        if k.requires_grad:  # what a gradient will need is not written over
            new = torch.stack([k, v])
            buffer = new if buffer is None else torch.cat([buffer[..., :length, :], new], -2)
        else:
            buffer = self._with_room(buffer, length, k, end)
            buffer[0, :, :, length:end] = k
            buffer[1, :, :, length:end] = v
        self.buffers[layer] = buffer
        k_all, v_all = buffer[..., :end, :].to(k.dtype)
        return k_all, v_all

    def _with_room(self, buffer: Tensor | None, length: int, k: Tensor, end: int) -> Tensor:
        if buffer is not None and buffer.shape[-2] >= end:
            return buffer
        if self.room < end:
            self.room = 2 * end
        roomy = k.new_empty(2, *k.shape[:2], self.room, k.shape[-1])
        if buffer is not None:
            roomy[..., :length, :] = buffer[..., :length, :]
        return roomy

    def select(self, rows: Int[Tensor, " R"], length: int) -> KeyValues:
        """The first `length` units of some rows, in storage of their own."""
        line = KeyValues(len(self.buffers), self.room)
        line.buffers = [None if b is None else b[..., :length, :][:, rows] for b in self.buffers]
        line.written = length
        return line


@dataclass(frozen=True)
class SharedPrefix:
    """Past units that many branches read without a copy each.

    Branch r reads the first `seen[r]` units of row `owner[r]`. The queries of one row's branches lie side by
    side in a grid `[B, width]`, at `slot[r]`, so the row's keys are multiplied once and stay where they are.

    Attributes:
        layers: Keys and values of each layer, `[B, kv_heads, P, E]`.
        valid: Which units are real.
        owner: Row of each branch.
        seen: Units of that row before the branch.
        slot: Place of each branch among those of its row.
        width: Largest number of branches of a row.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    valid: Bool[Tensor, "B P"]
    owner: Int[Tensor, " R"]
    seen: Int[Tensor, " R"]
    slot: Int[Tensor, " R"]
    width: int

    def select(self, rows: Int[Tensor, " Q"]) -> SharedPrefix:
        """The same prefix for some of the branches."""
        owner = self.owner[rows]
        slot, width = slots(owner, len(self.valid))
        return replace(self, owner=owner, seen=self.seen[rows], slot=slot, width=width)

    def attention(
        self,
        layer: int,
        q: Float[Tensor, "R heads n E"],
        k: Float[Tensor, "R kv_heads P E"],
        v: Float[Tensor, "R kv_heads P E"],
        visible: Bool[Tensor, "R n P"] | None,
    ) -> Float[Tensor, "R heads n E"]:
        """Attention of each branch to its prefix and its own line; `visible` None: the whole line is real."""
        if visible is None:
            visible = visible_units(torch.ones(*k.shape[::2], dtype=torch.bool, device=k.device), q.shape[2])
        return merge(self._attention_to_prefix(layer, q), attention_and_lse(q, k, v, visible))

    def _attention_to_prefix(
        self, layer: int, q: Float[Tensor, "R heads n E"]
    ) -> tuple[Float[Tensor, "R heads n E"], Float[Tensor, "R heads n"]]:
        at, n = (self.owner, self.slot), q.shape[2]
        shape = (len(self.valid), self.width)
        grid = q.new_zeros(*shape, *q.shape[1:]).index_put(at, q).transpose(1, 2)  # [B, heads, width, n, E]
        seen = self.seen.new_zeros(shape).index_put(at, self.seen)
        units = torch.arange(self.valid.shape[1], device=q.device)
        visible = (units < seen.unsqueeze(-1)) & self.valid.unsqueeze(1)  # [B, width, P]
        mixed, lse = attention_and_lse(
            grid.flatten(2, 3), *self.layers[layer], visible.repeat_interleave(n, dim=1)
        )
        mixed = mixed.unflatten(2, (self.width, n)).transpose(1, 2)[at]
        return mixed, lse.unflatten(2, (self.width, n)).transpose(1, 2)[at]


def slots(owner: Int[Tensor, " R"], rows: int) -> tuple[Int[Tensor, " R"], int]:
    """The place of each branch among those of its owner, and the largest number of branches of one owner."""
    counts = torch.bincount(owner, minlength=rows)
    order = owner.argsort(stable=True)
    first = (counts.cumsum(0) - counts)[owner[order]]
    slot = torch.empty_like(owner)
    slot[order] = torch.arange(len(owner), device=owner.device) - first
    return slot, int(counts.max())


def attention_and_lse(
    q: Float[Tensor, "G heads m E"],
    k: Float[Tensor, "G kv_heads P E"],
    v: Float[Tensor, "G kv_heads P E"],
    visible: Bool[Tensor, "G m P"],
) -> tuple[Float[Tensor, "G heads m E"], Float[Tensor, "G heads m"]]:
    """Attention and the log of its denominator, in nats; the lowest number for a query that sees nothing."""
    kv_heads, (heads, m) = k.shape[1], q.shape[1:3]
    groups = heads // kv_heads
    together = q.unflatten(1, (kv_heads, groups)).flatten(2, 3)  # [G, kv_heads, groups * m, E]
    scores = at_least_float32(together @ k.mT) * q.shape[-1] ** -0.5
    scores = scores.unflatten(2, (groups, m))
    scores = scores.masked_fill(~visible[:, None, None], torch.finfo(scores.dtype).min)
    lse = scores.logsumexp(-1, keepdim=True)
    weights = (scores - lse).exp().to(v.dtype)
    mixed = weights.flatten(2, 3) @ v
    return mixed.unflatten(2, (groups, m)).flatten(1, 2), lse.squeeze(-1).flatten(1, 2)


def merge(
    a: tuple[Float[Tensor, "R heads n E"], Float[Tensor, "R heads n"]],
    b: tuple[Float[Tensor, "R heads n E"], Float[Tensor, "R heads n"]],
) -> Float[Tensor, "R heads n E"]:
    """Attention over the union of two sets of units, from the attention over each and its log-sum-exp."""
    total = torch.logaddexp(a[1], b[1])
    return sum((x * (lse - total).exp().unsqueeze(-1)).to(x.dtype) for x, lse in (a, b))  # type: ignore[return-value]
