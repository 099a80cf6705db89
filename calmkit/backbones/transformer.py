"""Transformer: a causal Llama over units, with a state that is a value and branches that share their prefix.

Column j of the layers' output, normalised, is the condition of the unit after j; that of the first unit is a
learned vector. Invalid units are passed over wherever they stand: their keys are not read, their positions
not counted, and the condition behind them is that of the last valid unit.

Sources: Touvron et al., LLaMA, 2023, section 2.2. https://arxiv.org/abs/2302.13971 Shao et al., Continuous
Autoregressive Language Models, 2025, section 7.1 (sizes). https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Backbone, Context, StatesStepFlops
from calmkit.nn.attention import TransformerLayer, attention, ffn_width, initialise, rotation, visible_units
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.past import KeyValues, SharedPrefix, slots
from calmkit.nn.settings import require_at_least
from calmkit.nn.swiglu import NORM_EPS

BRANCH_ROOM = 4  # units; a BrierLM roll-out of all positions needs at most 4


@dataclass(frozen=True)
class TransformerState:
    """What has been read.

    Attributes:
        h: Condition of the next unit.
        position: Valid units read, which is the next one's rotary position.
        valid: Which units of the line are real.
        all_valid: True where it is known that all of `valid` is.
        line: Keys and values; the state reads as many units as `valid` has columns.
        prefix: Units before the line, shared by branches.
    """

    h: Float[Tensor, "R H"]
    position: Int[Tensor, " R"]
    valid: Bool[Tensor, "R P"]
    all_valid: bool
    line: KeyValues
    prefix: SharedPrefix | None = None


@final
class TransformerBackbone(Backbone, StatesStepFlops):
    """Llama over units: RMSNorm before each half layer, rotary positions, grouped queries, SwiGLU.

    Args:
        hidden_dim: H, a multiple of 2 * heads.
        depth: Layers.
        heads: Query heads.
        kv_heads: Key and value heads, a divisor of `heads`; None: as many as `heads`.
        ffn_dim: Width inside SwiGLU; None: 8/3 of H, rounded up to a multiple of 32.
        rope_theta: Base of the rotary wavelengths.
    """

    def __init__(
        self,
        *,
        hidden_dim: int = 512,
        depth: int = 8,
        heads: int = 8,
        kv_heads: int | None = None,  # CALM has no grouped queries
        ffn_dim: int | None = None,  # 8/3 H: LLaMA, section 2.2
        rope_theta: float = 10000.0,  # RoFormer, section 3.2.2; CALM
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        ffn_dim = ffn_width(hidden_dim) if ffn_dim is None else ffn_dim
        _refuse(
            rope_theta, hidden_dim=hidden_dim, depth=depth, heads=heads, kv_heads=kv_heads, ffn_dim=ffn_dim
        )
        self.hidden_dim, self.head_dim, self.rope_theta = hidden_dim, hidden_dim // heads, rope_theta
        self.kv_heads, self.ffn_dim = kv_heads, ffn_dim
        self.layers = nn.ModuleList(
            TransformerLayer(hidden_dim, heads, kv_heads, ffn_dim) for _ in range(depth)
        )
        self.norm = nn.RMSNorm(hidden_dim, eps=NORM_EPS)
        self.first = nn.Parameter(torch.randn(hidden_dim))  # about as long as what the norm gives
        initialise(self)

    def forward(self, x: Float[Tensor, "B L H"], valid: Bool[Tensor, "B L"]) -> Context:
        """Conditions of all units at once; the last unit is not read, since it conditions none of them."""
        return Context(self._conditions_of_all(x, valid))

    def start(self, batch: int, max_units: int) -> tuple[Context, TransformerState]:
        """The learned first condition, and an empty state that grows where `max_units` was too few."""
        h = self.first.expand(batch, -1)
        position = torch.zeros(batch, dtype=torch.long, device=h.device)
        valid = torch.zeros(batch, 0, dtype=torch.bool, device=h.device)
        line = KeyValues(len(self.layers), max_units)
        return Context(h.unsqueeze(1)), TransformerState(h, position, valid, True, line)

    def step(
        self, x: Float[Tensor, "B n H"], valid: Bool[Tensor, "B n"], state: TransformerState
    ) -> tuple[Context, TransformerState]:
        """Read n more units; see `Backbone.step`.

        Raises:
            ValueError: Where the state holds another number of rows.
        """
        if len(x) != len(state.h):
            raise ValueError(
                f"transformer: step got {len(x)} rows for a state of {len(state.h)}; select the rows first."
            )
        length, n = state.valid.shape[1], x.shape[1]
        seen = torch.cat([state.valid, valid], 1)
        all_valid = state.all_valid and bool(valid.all())
        visible = None if all_valid else visible_units(seen, n)
        line = state.line.claim(length, n)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            k, v = line.append(layer, length, k, v)
            if state.prefix is None:
                return attention(q, k, v, visible)
            return state.prefix.attention(layer, q, k, v, visible)

        out = self._read(x, state.position.unsqueeze(1) + _positions(valid), attend)
        h = _conditions(state.h, out, valid, all_valid)
        position = state.position + valid.sum(1)
        return Context(h[:, 1:]), TransformerState(h[:, -1], position, seen, all_valid, line, state.prefix)

    def select(self, state: TransformerState, rows: Int[Tensor, " R"]) -> TransformerState:
        """Copies the line of each row; a shared prefix stays shared."""
        line = state.line.select(rows, state.valid.shape[1])
        prefix = None if state.prefix is None else state.prefix.select(rows)
        h, position, valid = state.h[rows], state.position[rows], state.valid[rows]
        return TransformerState(h, position, valid, state.all_valid, line, prefix)

    def states(self, x: Float[Tensor, "B L H"], valid: Bool[Tensor, "B L"]) -> TransformerState:
        """One branch per (row, unit) from a single pass; keys and values are kept once per row."""
        batch, units = valid.shape
        kept: list[tuple[Tensor, Tensor]] = []
        h = self._conditions_of_all(x, valid, kept)
        valid = valid[:, :-1]
        index = torch.arange(units, device=x.device)
        owner = torch.arange(batch, device=x.device).repeat_interleave(units)
        prefix = SharedPrefix(tuple(kept), valid, owner, index.repeat(batch), *slots(owner, batch))
        position = torch.cat([valid.new_zeros(batch, 1), valid], 1).cumsum(1).flatten()
        line, none_yet = KeyValues(len(self.layers), BRANCH_ROOM), valid.new_zeros(batch * units, 0)
        return TransformerState(h.flatten(0, 1), position, none_yet, True, line, prefix)

    def forward_flops(self, units: int) -> int:
        """Projections, SwiGLU, scores and mixtures of all pairs of units: the causal half is not taken off.

        The last of the units is not read, so one less than `units` attend to one less than `units`.
        """
        return (units - 1) * self.step_flops(units - 2)

    def step_flops(self, past: int) -> int:
        """Projections and SwiGLU; scores and mixture over `past` units and the unit itself."""
        pairs = 2 * 2 * (past + 1) * self.hidden_dim
        return linear_flops(self) + len(self.layers) * pairs

    def _conditions_of_all(
        self,
        x: Float[Tensor, "B L H"],
        valid: Bool[Tensor, "B L"],
        kept: list[tuple[Tensor, Tensor]] | None = None,
    ) -> Float[Tensor, "B L H"]:
        """Conditions of L units from the first L - 1; each layer's keys and values go into `kept`."""
        x, valid = x[:, :-1], valid[:, :-1]
        all_valid = bool(valid.all())
        visible = None if all_valid else visible_units(valid, valid.shape[1])

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            del layer
            if kept is not None:
                kept.append((k, v))
            return attention(q, k, v, visible)

        out = self._read(x, _positions(valid), attend)
        return _conditions(self.first.expand(len(x), -1), out, valid, all_valid)

    def _read(
        self,
        x: Float[Tensor, "R n H"],
        positions: Int[Tensor, "#R n"],
        attend: Callable[[int, Tensor, Tensor, Tensor], Tensor],
    ) -> Float[Tensor, "R n H"]:
        x = x.to(self.first.dtype)  # under autocast the residual stream keeps the parameters' precision
        by = rotation(positions, self.head_dim, self.rope_theta, x.dtype)
        for index, layer in enumerate(self.layers):
            x = layer(x, by, partial(attend, index))
        return self.norm(x)


def _refuse(rope_theta: float, **sizes: int) -> None:
    require_at_least("transformer", 1, **sizes)
    hidden_dim, heads, kv_heads = sizes["hidden_dim"], sizes["heads"], sizes["kv_heads"]
    if hidden_dim % (2 * heads):
        raise ValueError(
            f"transformer: hidden_dim must be a multiple of 2 * heads (rotary positions turn pairs), got "
            f"{hidden_dim} with {heads} heads; {-(-hidden_dim // (2 * heads)) * 2 * heads} would do."
        )
    if heads % kv_heads:
        raise ValueError(
            f"transformer: kv_heads must divide heads, got {kv_heads} of {heads}; {heads} would do."
        )
    if rope_theta <= 0:
        raise ValueError(f"transformer: rope_theta must be above 0, got {rope_theta}; 10000 would do.")


def _positions(valid: Bool[Tensor, "R n"]) -> Int[Tensor, "R n"]:
    """Valid units before each unit; an invalid one has no position, and shares the next one's."""
    return valid.cumsum(1) - valid.long()


def _conditions(
    before: Float[Tensor, "R H"], out: Float[Tensor, "R n H"], valid: Bool[Tensor, "R n"], all_valid: bool
) -> Float[Tensor, "R after H"]:
    """The condition before the first of n units and behind each of them: the last valid one's output."""
    every = torch.cat([before.unsqueeze(1), out], 1)
    if all_valid:
        return every
    column = torch.arange(1, valid.shape[1] + 1, device=valid.device)
    last = torch.where(valid, column, 0).cummax(1).values
    last = torch.cat([last.new_zeros(len(last), 1), last], 1)
    return every.gather(1, last.unsqueeze(-1).expand_as(every))


@hookimpl
def calmkit_backbones() -> dict[str, type[Backbone]]:
    """The parts of this module."""
    return {"transformer": TransformerBackbone}
