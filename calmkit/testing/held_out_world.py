"""HeldOutWorld: held-out units whose law is known, and heads that draw from it or from a wrong one.

A latent follows N(h, 1) per dimension given its condition h, with a posterior of standard deviation `STD`
around a mean that leaves just that open; a chunk of ids follows a softmax of h. A wrong head is shifted, or
surer than the truth allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.interfaces import (
    Autoencoder,
    Context,
    DensityHead,
    EventSpec,
    HeadInfo,
    HeldOut,
    IterativeHead,
    LossOutput,
    Posterior,
    SampleOptions,
    TokenAutoencoder,
)
from calmkit.testing.laws import CHUNK_SIZE, VOCAB_SIZE

ROWS, UNITS, LATENT_DIM, STD = 8, 25, 4, 0.5
SHARE_KEPT = 0.9
Flaw = Literal["none", "shifted", "narrow"]


@final
class KnownHead(DensityHead, IterativeHead):
    """p(z | h) in closed form: Gaussian latents, or ids by a softmax; with all capabilities there are."""

    info = HeadInfo(sampling="iterative", events=frozenset({"continuous", "tokens"}))

    def __init__(self, event: EventSpec, flaw: Flaw = "none") -> None:
        super().__init__()
        self.event, self.flaw = event, flaw

    def law(self, context: Context) -> Normal | Categorical:
        """Of every dimension of a latent, or every id of a chunk, by itself."""
        h = context.h
        if self.event.vocab_size is None:
            return Normal(h + 2.0 * (self.flaw == "shifted"), 0.25 if self.flaw == "narrow" else 1.0)
        logits = h.unflatten(-1, (*self.event.shape, self.event.vocab_size))
        logits = logits.roll(1, -1) if self.flaw == "shifted" else logits
        return Categorical(logits=4.0 * logits if self.flaw == "narrow" else logits)

    def loss(self, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
        """Minus the log density of the posterior's mean."""
        return -self.log_prob(context, target.mean)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        """Draws `[num, *, *E]`."""
        self.info.accept(options)
        return self.law(context).sample((num,))

    def log_prob(self, context: Context, z: Shaped[Tensor, "*units_and_event"]) -> Float[Tensor, "*units"]:
        """Exact, nats per unit."""
        return self.law(context).log_prob(z).sum(-1)

    def network_calls(self, options: SampleOptions | None = None) -> int:
        """One."""
        self.info.accept(options)
        return 1


@final
class RoundingAutoencoder(TokenAutoencoder):
    """The first K dimensions of a latent, rounded, are the ids; nothing to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.event, self.chunk_size = EventSpec((LATENT_DIM,)), CHUNK_SIZE
        self.levels = nn.Parameter(torch.arange(VOCAB_SIZE, dtype=torch.float32) - VOCAB_SIZE // 2)

    def encode(self, data: Int[Tensor, "*units K"]) -> Posterior:
        """A latent that is given back as these ids."""
        mean = torch.zeros(*data.shape[:-1], LATENT_DIM, device=data.device)
        mean[..., :CHUNK_SIZE] = self.levels[data].detach()
        return Posterior(mean, torch.full_like(mean, math.log(STD)))

    def decode(self, z: Float[Tensor, "*units D"]) -> Float[Tensor, "*units K V"]:
        """Minus the squared distance to each level."""
        return -(z[..., :CHUNK_SIZE].unsqueeze(-1) - self.levels).square()

    def to_data(self, z: Float[Tensor, "*units D"]) -> Int[Tensor, "*units K"]:
        """The nearest levels."""
        return self.decode(z).argmax(-1)

    def loss(self, data: Int[Tensor, "B L K"]) -> LossOutput:
        """None of it is lost."""
        return LossOutput(torch.zeros(data.shape[:2]))


@final
@dataclass(frozen=True)
class HeldOutWorld:
    """Eight rows of 25 units of three groups each, with the draws of a head.

    Attributes:
        kind: `continuous` or `tokens`.
        flaw: Of the head.
        odd_row: True gives the head wrong conditions in the first row, so that rows differ.
        groups: Whether groups are known.
        num_draws: What a measure gets that names no number.
    """

    kind: str
    flaw: Flaw = "none"
    odd_row: bool = False
    groups: bool = True
    num_draws: int = 4

    def held(self, rows: Sequence[int] = range(ROWS), units: int = UNITS) -> HeldOut:
        """Some rows of it; units and draws are the same ones, whichever rows are asked for."""
        generator, chosen = torch.Generator().manual_seed(0), list(rows)
        tokens = self.kind == "tokens"
        width = CHUNK_SIZE * VOCAB_SIZE if tokens else LATENT_DIM
        h = torch.randn(ROWS, UNITS, width, generator=generator)
        keep = torch.rand(ROWS, UNITS, generator=generator) < SHARE_KEPT
        keep[:, 0] = True
        autoencoder = TokenChunks(VOCAB_SIZE, chunk_size=CHUNK_SIZE) if tokens else RoundingAutoencoder()
        target, ids = self._truth(h, generator, autoencoder)
        seen = h.clone()
        if self.odd_row:
            seen[0] = seen[0].roll(1, 0)
        head, context = KnownHead(autoencoder.event, self.flaw), Context(seen)
        made: dict[int, Tensor] = {}
        keep, place = keep[chosen, :units], torch.tensor(chosen)

        def draw(num: int | None) -> tuple[Tensor, Tensor]:
            count = self.num_draws if num is None else num
            if count not in made:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(count)
                    made[count] = head.sample(context, count)[:, place, :units][:, keep]
            return autoencoder.to_data(made[count]), made[count]

        number = torch.arange(ROWS * UNITS).view(ROWS, UNITS) // (UNITS // 3)
        return HeldOut(
            head=head.eval(),
            autoencoder=autoencoder,
            context=context[place][:, :units],
            keep=keep,
            target=target[place][:, :units][keep],
            data=ids[place, :units][keep],
            rows=keep.nonzero()[:, 0],
            groups=number[place, :units][keep] if self.groups else None,
            draw=draw,
            density=head.log_prob,
        )

    def _truth(
        self, h: Tensor, generator: torch.Generator, autoencoder: Autoencoder
    ) -> tuple[Posterior, Tensor]:
        if self.kind == "tokens":
            chances = h.unflatten(-1, (CHUNK_SIZE, VOCAB_SIZE)).softmax(-1)
            ids = torch.multinomial(chances.flatten(0, -2), 1, generator=generator)
            ids = ids.view(ROWS, UNITS, CHUNK_SIZE)
            return autoencoder.encode(ids), ids
        mean = h + math.sqrt(1 - STD**2) * torch.randn(h.shape, generator=generator)
        return Posterior(mean, torch.full_like(mean, math.log(STD))), autoencoder.to_data(mean)
