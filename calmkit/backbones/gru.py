"""GRU: a recurrent backbone, small and quick on a CPU, for lessons and tests.

Its state is one vector per layer, so it is a value by nature and branches cost a gather. Invalid units are
passed over wherever they stand: valid ones are moved together, read, and their outputs put back.

Source: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, 2014, section 2.3.
https://arxiv.org/abs/1406.1078
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Backbone, Context, StatesStepFlops
from calmkit.nn.settings import require_at_least


@dataclass(frozen=True)
class GRUState:
    """What has been read.

    Attributes:
        h: Condition of the next unit: the top layer's hidden state, or the learned vector before any.
        hidden: Hidden state of each layer.
    """

    h: Float[Tensor, "R H"]
    hidden: Float[Tensor, "depth R H"]


@final
class GRUBackbone(Backbone, StatesStepFlops):
    """Stacked gated recurrent units over units, from a hidden state of 0.

    Args:
        hidden_dim: H.
        depth: Layers.
    """

    def __init__(self, *, hidden_dim: int = 128, depth: int = 1) -> None:
        super().__init__()
        require_at_least("gru", 1, hidden_dim=hidden_dim, depth=depth)
        self.hidden_dim = hidden_dim
        # One module per layer: nn.GRU(num_layers=depth) hides what the lower layers hold at each unit.
        self.layers = nn.ModuleList(nn.GRU(hidden_dim, hidden_dim, batch_first=True) for _ in range(depth))
        self.first = nn.Parameter(torch.empty(hidden_dim).uniform_(-1, 1))  # the range of a GRU's outputs

    def forward(self, x: Float[Tensor, "B L H"], valid: Bool[Tensor, "B L"]) -> Context:
        """Conditions of all units at once; the last unit is not read, since it conditions none of them."""
        _, state = self.start(len(x), x.shape[1])
        return Context(self._read(x[:, :-1], valid[:, :-1], state)[0])

    def start(self, batch: int, max_units: int) -> tuple[Context, GRUState]:
        """The learned first condition, and the hidden state 0."""
        del max_units  # the state does not grow
        h = self.first.expand(batch, -1)
        return Context(h.unsqueeze(1)), GRUState(h, h.new_zeros(len(self.layers), batch, self.hidden_dim))

    def step(
        self, x: Float[Tensor, "B n H"], valid: Bool[Tensor, "B n"], state: GRUState
    ) -> tuple[Context, GRUState]:
        """Read n more units; see `Backbone.step`."""
        h, hidden = self._read(x, valid, state)
        return Context(h[:, 1:]), GRUState(h[:, -1], hidden[:, :, -1])

    def select(self, state: GRUState, rows: Int[Tensor, " R"]) -> GRUState:
        """The hidden states of those rows."""
        return GRUState(state.h[rows], state.hidden[:, rows])

    def states(self, x: Float[Tensor, "B L H"], valid: Bool[Tensor, "B L"]) -> GRUState:
        """The hidden states before every unit, as rows."""
        _, state = self.start(len(x), x.shape[1])
        h, hidden = self._read(x[:, :-1], valid[:, :-1], state)
        return GRUState(h.flatten(0, 1), hidden.flatten(1, 2))

    def forward_flops(self, units: int) -> int:
        """Every unit but the last is read."""
        return (units - 1) * self.step_flops(0)

    def step_flops(self, past: int) -> int:
        """Three gates in each layer, each a product with the input and with the hidden state."""
        del past  # the state is one vector
        return 2 * len(self.layers) * 6 * self.hidden_dim**2

    def _read(
        self, x: Float[Tensor, "B n H"], valid: Bool[Tensor, "B n"], state: GRUState
    ) -> tuple[Float[Tensor, "B after H"], Float[Tensor, "depth B after H"]]:
        """Conditions and hidden states before the first of n units and behind each of them."""
        dtype = self.first.dtype
        valid_first = (~valid).long().argsort(dim=1, stable=True)
        out = _pick(x.to(dtype), valid_first)
        read = torch.cat([valid.new_zeros(len(x), 1), valid], 1).cumsum(1)  # valid units so far
        hidden = []
        for layer, before in zip(self.layers, state.hidden, strict=True):
            if x.shape[1]:  # nn.GRU refuses an empty sequence
                out = layer(out, before.unsqueeze(0))[0].to(dtype)
            hidden.append(_pick(torch.cat([before.unsqueeze(1), out], 1), read))
        h = torch.where((read == 0).unsqueeze(-1), state.h.unsqueeze(1), hidden[-1])
        return h, torch.stack(hidden)


def _pick(x: Float[Tensor, "B n H"], index: Int[Tensor, "B m"]) -> Float[Tensor, "B m H"]:
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


@hookimpl
def calmkit_backbones() -> dict[str, type[Backbone]]:
    """The parts of this module."""
    return {"gru": GRUBackbone}
