"""Local autoregression: a small causal transformer over the K tokens of a chunk, with an exact likelihood.

    p(chunk | h) = prod_j p(token_j | h, tokens before j)

The input at place j is a projection of h made for that place plus the embedding of token j - 1. At K = 1
there is no token before and one projection is left: the softmax of an ordinary language model.

Source: Yu et al., MEGABYTE, 2023, section 2 (local model). https://arxiv.org/abs/2305.07185 The projection
H -> K * W, split by place, which allows any H, is that of https://github.com/lucidrains/MEGABYTE-pytorch.
The paper's learned padding embedding at place 0 is left out: the bias of the projection does the same.
"""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    Context,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    PlacewiseHead,
    Posterior,
    SampleOptions,
    StatesDensityFlops,
    StatesDrawFlops,
)
from calmkit.nn.attention import (
    Rotation,
    TransformerLayer,
    at_least_float32,
    attention,
    ffn_width,
    initialise,
    rotation,
)
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.past import KeyValues
from calmkit.nn.settings import require_at_least
from calmkit.nn.swiglu import NORM_EPS

ROPE_THETA = 10000.0  # of the backbone too
BLOCK = 2**24  # numbers in one block of logits while sampling, 64 MiB in float32


@final
class LocalARHead(PlacewiseHead, StatesDrawFlops, StatesDensityFlops):
    """Token by token inside the chunk: MegaByte's local model; the softmax baseline at one token per chunk.

    The loss is in nats per chunk. At K = 1 `width`, `depth` and `heads` have nothing to act on.

    Args:
        hidden_dim: H.
        event: K token ids.
        width: Of the local transformer, a multiple of 2 * heads; None: half of H, rounded up to one.
        depth: Layers of the local transformer.
        heads: Its attention heads.
    """

    info: ClassVar[HeadInfo] = HeadInfo(
        sampling="autoregressive",
        temperature="logits",
        events=frozenset({"tokens"}),
        options=frozenset({"temperature", "generator"}),
        half_precision=True,
    )

    def __init__(
        self,
        hidden_dim: int,
        event: EventSpec,
        *,
        width: int | None = None,  # half: dim=(512, 256) in the readme of MEGABYTE-pytorch
        depth: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if event.vocab_size is None:
            raise ValueError(
                f"local_ar: the event must be token ids, got {event}; autoencoder token_chunks would do."
            )
        self.chunk_size, self.vocab_size = event.shape[0], event.vocab_size
        self.local: _LocalTransformer | None = None
        if self.chunk_size > 1:
            self.local = _LocalTransformer(hidden_dim, event, width, depth, heads)
            hidden_dim = self.local.width
        self.to_logits = nn.Linear(hidden_dim, self.vocab_size, bias=False)
        initialise(self)

    def logits(self, h: Float[Tensor, "N H"], ids: Int[Tensor, "N K"]) -> Float[Tensor, "N K V"]:
        """Scores of every token, each given h and the true tokens before it."""
        features = h.unsqueeze(1) if self.local is None else self.local(h, ids)
        return self.to_logits(features)

    def loss(self, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
        """-log p(chunk | h), in nats per chunk."""
        return -self.log_prob(context, target.mean)

    def log_prob(self, context: Context, z: Shaped[Tensor, "*units K"]) -> Float[Tensor, "*units"]:
        """Exact log probability of the ids of a chunk, in nats per chunk."""
        logits, ids = self._scored(context, z)
        nats = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none")
        return -nats.view(z.shape).sum(-1)

    def place_log_probs(self, context: Context, z: Shaped[Tensor, "*units K"]) -> Float[Tensor, "*units K V"]:
        """Log probability of every token at every place, given the tokens before it, in nats."""
        logits, _ = self._scored(context, z)
        return logits.log_softmax(-1).view(*z.shape, self.vocab_size)

    def _scored(
        self, context: Context, z: Shaped[Tensor, "*units K"]
    ) -> tuple[Float[Tensor, "N K V"], Int[Tensor, "N K"]]:
        if z.is_floating_point():
            raise ValueError(
                f"local_ar: chunks must be integer ids, got {z.dtype}; autoencoder token_chunks would do."
            )
        ids = z.long().reshape(-1, self.chunk_size)
        return at_least_float32(self.logits(context.h.reshape(-1, context.h.shape[-1]), ids)), ids

    @torch.no_grad()
    def sample(
        self, context: Context, num: int = 1, options: SampleOptions | None = None
    ) -> Int[Tensor, "num *units K"]:
        """Independent draws of chunks; every token's logits are divided by the temperature."""
        options = self.info.accept(options)
        h = context.h.reshape(-1, context.h.shape[-1])
        if self.local is None:
            ids = self._choose(h, num, options).T.unsqueeze(-1)  # [num, N, 1]
        else:
            ids = self._sample_chunks(self.local, h, num, options)
        return ids.reshape(num, *context.h.shape[:-1], self.chunk_size)

    def forward_flops(self, units: int) -> int:
        """All K places at once, each of which attends to all K."""
        k, local = self.chunk_size, self.local
        inside = 0 if local is None else linear_flops(local.from_h) + k * local.place_flops(k)
        return units * (inside + k * linear_flops(self.to_logits))

    def draw_flops(self, num: int = 1, options: SampleOptions | None = None) -> int:
        """h and the first place once, every later place for each draw, attending to those up to itself."""
        del options
        logits = linear_flops(self.to_logits)
        if self.local is None:
            return logits
        first, *later = (logits + self.local.place_flops(seen + 1) for seen in range(self.chunk_size))
        return linear_flops(self.local.from_h) + first + num * sum(later)

    def density_flops(self) -> int:
        """All K places at once, as in training."""
        return self.forward_flops(1)

    def _sample_chunks(
        self, local: _LocalTransformer, h: Float[Tensor, "N H"], num: int, options: SampleOptions
    ) -> Int[Tensor, "draws_and_units K"]:
        """The first tokens share one pass of the network; the rest follow in blocks of draws and units."""
        places = local.places(h)
        line = KeyValues(len(local.layers), self.chunk_size)
        first = self._choose(local.step(places[:, :1], 0, line), num, options).T.reshape(-1)
        unit = torch.arange(len(h), device=h.device).repeat(num)
        rows = max(1, BLOCK // max(self.vocab_size, self.chunk_size * local.width))
        chunks = []
        for ids, of_unit in zip(first.split(rows), unit.split(rows), strict=True):
            past, made = line.select(of_unit, 1), [ids]
            for place in range(1, self.chunk_size):
                x = places[of_unit, place] + local.embed(made[-1])
                features = local.step(x.unsqueeze(1), place, past)
                made.append(self._choose(features, 1, options).squeeze(1))
            chunks.append(torch.stack(made, -1))
        return torch.cat(chunks)

    def _choose(
        self, features: Float[Tensor, "N W"], num: int, options: SampleOptions
    ) -> Int[Tensor, "N num"]:
        """`num` tokens for each row, from its logits computed once, a block of rows at a time."""
        temperature = 1.0 if options.temperature is None else options.temperature
        rows = max(1, BLOCK // max(self.vocab_size, num))
        chosen = []
        for block in features.split(rows):
            p = (at_least_float32(self.to_logits(block)) / temperature).softmax(-1)
            # One draw would make torch draw V exponentials per row: on a CPU 25 times slower than two draws.
            drawn = torch.multinomial(p, max(num, 2), replacement=True, generator=options.generator)
            chosen.append(drawn[:, :num])
        return torch.cat(chosen)


@final
class _LocalTransformer(nn.Module):
    """h and the tokens so far of a chunk -> a feature per token."""

    def __init__(self, hidden_dim: int, event: EventSpec, width: int | None, depth: int, heads: int) -> None:
        super().__init__()
        require_at_least("local_ar", 1, depth=depth, heads=heads)
        wanted = hidden_dim / 2 if width is None else width
        fits = max(1, math.ceil(wanted / (2 * heads))) * 2 * heads
        if width is not None and width != fits:
            raise ValueError(
                f"local_ar: width must be a multiple of 2 * heads, got {width} with {heads} heads; "
                f"{fits} would do."
            )
        self.chunk_size, self.width, self.head_dim = event.shape[0], fits, fits // heads
        self.from_h = nn.Linear(hidden_dim, self.chunk_size * self.width)
        self.embed = nn.Embedding(event.vocab_size or 0, self.width)
        self.layers = nn.ModuleList(
            TransformerLayer(fits, heads, heads, ffn_width(fits)) for _ in range(depth)
        )
        self.norm = nn.RMSNorm(self.width, eps=NORM_EPS)

    def places(self, h: Float[Tensor, "N H"]) -> Float[Tensor, "N K W"]:
        """The share of h in the input of each place; under autocast too as precise as the parameters."""
        return self.from_h(h).unflatten(-1, (self.chunk_size, self.width)).to(self.embed.weight.dtype)

    def forward(self, h: Float[Tensor, "N H"], ids: Int[Tensor, "N K"]) -> Float[Tensor, "N K W"]:
        """All places at once, each given the true tokens before it."""
        before = F.pad(self.embed(ids[:, :-1]), (0, 0, 1, 0))  # nothing stands before place 0
        x = self.places(h) + before
        by = self._rotation(0, self.chunk_size, x)
        for layer in self.layers:
            x = layer(x, by, attention)
        return self.norm(x)

    def step(self, x: Float[Tensor, "N 1 W"], place: int, line: KeyValues) -> Float[Tensor, "N W"]:
        """One place, given its input; keys and values of the places before it are in `line`."""
        by = self._rotation(place, 1, x)
        line = line.claim(place, 1)
        for index, layer in enumerate(self.layers):
            x = layer(x, by, partial(_attend_line, line, index, place))
        return self.norm(x).squeeze(1)

    def place_flops(self, seen: int) -> int:
        """Of one place that attends to `seen` of them."""
        return linear_flops(self.layers) + len(self.layers) * 2 * 2 * seen * self.width

    def _rotation(self, place: int, num: int, x: Tensor) -> Rotation:
        places = torch.arange(place, place + num, device=x.device).unsqueeze(0)
        return rotation(places, self.head_dim, ROPE_THETA, x.dtype)


def _attend_line(line: KeyValues, layer: int, place: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention(q, *line.append(layer, place, k, v))


@hookimpl
def calmkit_heads() -> dict[str, type[GenerativeHead]]:
    """The parts of this module."""
    return {"local_ar": LocalARHead}
