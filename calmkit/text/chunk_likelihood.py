"""How likely chunks and beginnings of chunks are, given those before: exact over ids, a bound over latents.

    ids        log p(x_1..x_m | past), the places of a `PlacewiseHead`
    latents    log p(x_1..x_m | past) >= log mean_i p(x_1..x_m | z_i) p(z_i | past) / q(z_i),  z_i ~ q

q is an equal mixture of the head's own law and the autoencoder's posterior of the chunk, `WIDTHS` times as
wide. Where only the first m tokens are given, it holds the posteriors of `FILLS` chunks, whose other tokens
are drawn from the model. The mean is an unbiased estimate of the probability whatever q is, so its logarithm
is below the true one on average, and the less so the more draws there are: a lower bound, of the model that
draws tokens from its decoder's probabilities. (calmkit's own draws take the likeliest.) The head's law among
the proposals bounds every weight.

Source: Burda et al., Importance Weighted Autoencoders, 2015, Theorem 1, https://arxiv.org/abs/1509.00519,
with the head's density in place of the prior; one weight over a mixture of proposals, each drawn from
equally often: Veach and Guibas, Optimally Combining Sampling Techniques for Monte Carlo Rendering, SIGGRAPH
1995 (the balance heuristic); the law itself among them: Hesterberg, Weighted Average Importance Sampling and
Defensive Mixture Distributions, Technometrics 37, 1995, pages 185 to 194.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from calmkit.head_calls import head_place_log_probs
from calmkit.interfaces import Context, PlacewiseHead
from calmkit.model import CalmModel
from calmkit.text.metrics.likelihood import WIDTHS, posterior_log_prob, widened

DRAWS = 4  # of z from each part of the mixture
FILLS = 4  # guesses at the rest of a chunk
UNITS_PER_BLOCK = 2**9  # whose log probabilities are held at once: 1 GiB at K = 4 and 128 thousand tokens


@torch.no_grad()
def exact(
    model: CalmModel, context: Context, chunks: Int[Tensor, "N K"], places: Int[Tensor, " N"]
) -> tuple[Float[Tensor, " N"], Bool[Tensor, " N"]]:
    """Log probability of the first `places` ids of each chunk, nats, and whether each is the likeliest.

    Args:
        model: Whose head is a `PlacewiseHead` and whose autoencoder leaves ids as they are.
        context: Of the chunks, `[N]`.
        chunks: Their ids; those behind `places` are not looked at.
        places: How many of each chunk, from 1 to K.
    """
    head = model.head
    assert isinstance(head, PlacewiseHead)
    nats, greedy = [], []
    for start in range(0, len(chunks), UNITS_PER_BLOCK):
        block = slice(start, start + UNITS_PER_BLOCK)
        ids, asked = chunks[block], _asked(chunks[block], places[block])
        every = head_place_log_probs(head, context[block], ids)  # [n, K, V]
        own = every.gather(-1, ids.unsqueeze(-1)).squeeze(-1).to(torch.get_default_dtype())
        nats.append((own * asked).sum(-1))
        greedy.append(((every.argmax(-1) == ids) | ~asked).all(-1))
    return torch.cat(nats), torch.cat(greedy)


@torch.no_grad()
def bound(
    model: CalmModel, context: Context, chunks: Int[Tensor, "N K"], places: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """A lower bound on the log probability of the first `places` ids of each chunk, nats.

    Draws come from torch's default generator.

    Args:
        model: Whose head is a `DensityHead` over latents with a spread.
        context: Of the chunks, `[N]`.
        chunks: Their ids; those behind `places` are not looked at.
        places: How many of each chunk, from 1 to K.
    """
    found = torch.empty(len(chunks), device=chunks.device)
    for whole in (True, False):
        rows = ((places == chunks.shape[1]) == whole).nonzero().squeeze(1)
        if len(rows):
            ids = (
                chunks[rows].unsqueeze(0)
                if whole
                else _filled(model, context[rows], chunks[rows], places[rows])
            )
            found[rows] = _bound(model, context[rows], ids, places[rows]).to(found.dtype)
    return found


def _asked(chunks: Int[Tensor, "N K"], places: Int[Tensor, " N"]) -> Bool[Tensor, "N K"]:
    return torch.arange(chunks.shape[-1], device=chunks.device) < places.unsqueeze(-1)


def _filled(
    model: CalmModel, context: Context, chunks: Int[Tensor, "N K"], places: Int[Tensor, " N"]
) -> Int[Tensor, "F N K"]:
    """Chunks that begin as they are given and end as the model would have it."""
    drawn, _ = model.draw(context, FILLS)
    return torch.where(_asked(chunks, places), chunks, drawn)


def _bound(
    model: CalmModel, context: Context, filled: Int[Tensor, "F N K"], places: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    posterior, dims = model.encode(filled), len(model.autoencoder.event.shape)
    parts = [widened(posterior, width)[fill] for width in WIDTHS for fill in range(len(filled))]
    _, own = model.draw(context, DRAWS)
    z = torch.cat([own, *(part.sample(DRAWS) for part in parts)])  # [S, N, *E]
    read, head = _of_draws(model, context, z, filled[0], places)
    known = torch.stack([head, *(posterior_log_prob(z, part, dims) for part in parts)]).logsumexp(0)
    known = known - math.log(len(parts) + 1)  # log q of each draw, [S, N]
    return (read + head - known).logsumexp(0) - math.log(len(z))


def _of_draws(
    model: CalmModel,
    context: Context,
    z: Shaped[Tensor, "S N *event"],
    chunks: Int[Tensor, "N K"],
    places: Int[Tensor, " N"],
) -> tuple[Float[Tensor, "S N"], Float[Tensor, "S N"]]:
    """log p(x_1..x_m | z) and log p(z | past) of every draw, in blocks.

    The decoder's tokens are independent given z, so those that are not asked for drop out. It is called
    outside autocast, as `CalmModel.encode` is.
    """
    row = torch.arange(z.shape[1], device=z.device).repeat(len(z))
    blocks = zip(z.flatten(0, 1).split(UNITS_PER_BLOCK), row.split(UNITS_PER_BLOCK), strict=True)
    read, head = [], []
    for values, rows in blocks:
        with torch.autocast(z.device.type, enabled=False):
            every = model.decode(values, context[rows].past).log_softmax(-1)  # [n, K, V]
        own = every.gather(-1, chunks[rows].unsqueeze(-1)).squeeze(-1)
        read.append((own * _asked(chunks[rows], places[rows])).sum(-1))
        head.append(model.log_prob(context[rows], values).to(own.dtype))
    return torch.cat(read).view(z.shape[:2]), torch.cat(head).view(z.shape[:2])
