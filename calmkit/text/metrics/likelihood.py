"""Likelihood: nats per token of a model whose head knows its density, exact over ids, a bound over latents.

    ids        -log p(chunk | past), exact
    latents    -log p(chunk | past) <= E_q[-log p(chunk | z) - log p(z | past) + log q(z | chunk)]

The bound is the sum of what the autoencoder's decoder pays for the tokens and what the head pays for the
latent beyond what q leaves open. It is tight where q is the model's own posterior, and it is of the model
that draws tokens from its decoder's probabilities; calmkit's draws take the likeliest. It holds for every q.
The autoencoder's posterior is far narrower than the region that decodes to the chunk, so it is also taken
`WIDTHS` times as wide, and the lowest of these bounds is reported. Several draws of z are averaged inside the
logarithm, which tightens it further.

Source: exact, Bengio et al., A Neural Probabilistic Language Model, 2003, section 2; bound, Kingma and
Welling, Auto-Encoding Variational Bayes, 2013, Eq. 2, https://arxiv.org/abs/1312.6114, with the head's
density in place of the prior, as in GIVT, https://arxiv.org/abs/2312.02116; several draws, Burda et al.,
Importance Weighted Autoencoders, 2015, Eq. 8, https://arxiv.org/abs/1509.00519
"""

from __future__ import annotations

import math
from typing import Literal, final

import torch
import torchmetrics
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from calmkit.decoding import behind
from calmkit.interfaces import Context, DensityHead, Past, Posterior
from calmkit.metrics.blocks import ratio_standard_error
from calmkit.model import CalmModel
from calmkit.nn.chunk_mlp import chunk_cross_entropy
from calmkit.text.units import chunk_size_of

Kind = Literal["exact", "bound", "latent"]
"""What is known: the tokens' likelihood; an upper bound on it; the density of latents alone."""

WIDTHS = (1.0, 2.0, 3.0, 4.0)
"""Factors on the posterior's standard deviations; each gives a bound of its own."""

DRAWS = 2  # of z per unit and width
UNITS_PER_BLOCK = 2**12  # units whose logits are held at once


def likelihood_kind(model: CalmModel) -> Kind | None:
    """What can be said of a model's likelihood; None for a head without a density.

    An autoencoder without parameters leaves ids as they are, so their density is that of the tokens. A point
    posterior over latents has an infinite density: there is no bound.
    """
    if not isinstance(model.head, DensityHead):
        return None
    tokens = model.autoencoder.event.kind == "tokens"
    if tokens and not any(True for _ in model.autoencoder.parameters()):
        return "exact"
    one = torch.zeros(1, chunk_size_of(model), dtype=torch.long, device=_device(model))
    return "bound" if tokens or model.encode(one).log_std is not None else "latent"


def posterior_log_prob(
    z: Shaped[Tensor, "*units_and_event"], posterior: Posterior, event_dims: int = 1
) -> Float[Tensor, "*units"]:
    """Log density of values under their diagonal Gaussian, nats per unit; 0 for a point over ids."""
    axes = tuple(range(-event_dims, 0))
    if posterior.log_std is None:
        return torch.zeros(z.shape[:-event_dims], dtype=torch.get_default_dtype(), device=z.device)
    standard = (z - posterior.mean) * (-posterior.log_std).exp()
    return (-0.5 * standard.square() - posterior.log_std - 0.5 * math.log(2 * math.pi)).sum(axes)


def token_bound(
    reconstruction: Float[Tensor, "*units"],
    latent_log_prob: Float[Tensor, "*units"],
    posterior_log_prob: Float[Tensor, "*units"],
) -> Float[Tensor, "*units"]:
    """One draw's estimate of the upper bound on -log p(chunk | past), nats per unit.

    Args:
        reconstruction: -log p(chunk | z), from the decoder.
        latent_log_prob: log p(z | past), from the head.
        posterior_log_prob: log q(z | chunk) of the same z; sampled rather than integrated, because its noise
            cancels that of the head's density the better the two agree.
    """
    return reconstruction - latent_log_prob + posterior_log_prob


def average_inside(bounds: Float[Tensor, "S *units"]) -> Float[Tensor, "*units"]:
    """-log mean exp(-bound) over draws: a tighter bound than their mean, by Jensen's inequality.

    Source:
        Burda et al., 2015, Eq. 8 and Theorem 1.
    """
    return math.log(len(bounds)) - (-bounds).logsumexp(0)


@torch.no_grad()
def unit_nats(
    model: CalmModel,
    chunks: Int[Tensor, "B L K"],
    valid: Bool[Tensor, "B L"],
    kind: Kind,
    num_draws: int = DRAWS,
) -> tuple[Float[Tensor, "N columns"], Int[Tensor, " N"]]:
    """Nats of every unit that is predicted, for `Likelihood.update`.

    The past is read as `brier_draws` reads it, with the mean of each posterior. Fill and end-of-text are
    tokens like all others, as in the loss.

    Args:
        model: In eval mode.
        chunks: Evaluation rows.
        valid: True where a unit is real.
        kind: From `likelihood_kind`.
        num_draws: Draws of z per unit and width. Without effect where `exact`.

    Returns:
        Columns `[N, C]`: `exact`, -log p(tokens); `latent`, -log p(z) of posterior draws; `bound`, the same,
        then the bound of each of `WIDTHS`. And the row of each unit.
    """
    keep = model.predict(valid)
    rows = keep.nonzero()[:, 0]
    target = model.encode(chunks)
    context = model.backbone(model.embedder(chunks, target.mean), valid)
    context = behind(model.autoencoder, context, chunks, valid)
    if kind == "exact":
        return -_log_prob(model, context, chunks, keep).unsqueeze(1), rows
    columns: list[Tensor] = []
    for width in WIDTHS if kind == "bound" else WIDTHS[:1]:
        spread = widened(target, width)
        draws = spread.sample(num_draws)
        latent = torch.stack([_log_prob(model, context, z, keep) for z in draws])
        columns += [-latent.mean(0)] if not columns else []
        if kind == "bound":
            dims = len(model.autoencoder.event.shape)
            known = torch.stack([posterior_log_prob(z[keep], spread[keep], dims) for z in draws])
            read = torch.stack([_reconstruction(model, z, chunks, keep, context.past) for z in draws])
            columns.append(average_inside(token_bound(read, latent, known.to(latent.dtype))))
    return torch.stack(columns, 1), rows


def widened(posterior: Posterior, width: float) -> Posterior:
    """The posterior with its standard deviations times `width`; a point stays one."""
    if posterior.log_std is None:
        return posterior
    return Posterior(posterior.mean, posterior.log_std + math.log(width))


def _log_prob(
    model: CalmModel, context: Context, z: Shaped[Tensor, "B L *event"], keep: Bool[Tensor, "B L"]
) -> Float[Tensor, " N"]:
    """The head's log density of the units that count, in blocks (a head with a memory takes all at once)."""
    if model.head.info.needs_memory:
        return model.log_prob(context, z)[keep].to(torch.get_default_dtype())
    chosen, values = context[keep], z[keep]
    blocks = [
        model.log_prob(chosen[i : i + UNITS_PER_BLOCK], values[i : i + UNITS_PER_BLOCK])
        for i in range(0, max(1, len(values)), UNITS_PER_BLOCK)  # none are one block of no unit
    ]
    return torch.cat(blocks).to(torch.get_default_dtype())


def _reconstruction(
    model: CalmModel,
    z: Shaped[Tensor, "B L *event"],
    chunks: Int[Tensor, "B L K"],
    keep: Bool[Tensor, "B L"],
    past: Past | None = None,
) -> Float[Tensor, " N"]:
    """-log p(chunk | z), behind its past where the decoder reads it, in blocks; like `CalmModel.encode`
    outside autocast.
    """
    values, truth = z[keep], chunks[keep]
    past = None if past is None else past[keep]
    blocks = []
    for start in range(0, len(values), UNITS_PER_BLOCK):
        part = slice(start, start + UNITS_PER_BLOCK)
        with torch.autocast(chunks.device.type, enabled=False):
            logits = model.decode(values[part], None if past is None else past[part])
            blocks.append(chunk_cross_entropy(logits, truth[part]))
    nothing = torch.zeros(0, device=chunks.device)  # an autoencoder is never asked for no unit
    return torch.cat(blocks or [nothing]).to(torch.get_default_dtype())


def _device(model: CalmModel) -> torch.device:
    return next(model.parameters()).device


@final
class Likelihood(torchmetrics.Metric):
    """Nats per token, or its bound, over any number of updates and processes.

    Keeps one sum per evaluation row, as `BrierLM` does: standard errors treat rows, not units, as
    independent.

    Args:
        kind: From `likelihood_kind`.
        chunk_size: K, tokens per unit.
    """

    full_state_update = False
    higher_is_better = False
    is_differentiable = False
    row_sums: list[Tensor]

    def __init__(self, kind: Kind, chunk_size: int) -> None:
        super().__init__()
        self.kind, self.chunk_size = kind, chunk_size
        # Flat, because torchmetrics joins a process that saw nothing as an empty vector.
        self.add_state("row_sums", default=[], dist_reduce_fx="cat")

    def update(self, nats: Float[Tensor, "N columns"], rows: Int[Tensor, " N"]) -> None:
        """Add units; both come from `unit_nats`. Rows of two updates are different rows."""
        ids, row = rows.unique(return_inverse=True)
        columns = torch.cat([nats, nats.new_ones(len(rows), 1)], 1).to(self.dtype)  # [N, C + 1]
        sums = columns.new_zeros(len(ids), columns.shape[1]).index_add_(0, row, columns)
        self.row_sums.append(sums.flatten())

    def compute(self) -> dict[str, Tensor]:
        """Scalars in double precision.

        Returns:
            `exact`: `nll_per_token` (nats per token), `nll_per_token_se`, `bits_per_token`. `bound`:
            `nll_bound_per_token`, an upper bound in nats per token, the lowest of those of `WIDTHS`, which
            is `nll_bound_width`, `nll_bound_per_token_se`, and `latent_nll` (nats per unit, of the latent's
            density, so it may be negative). `latent`: `latent_nll` alone. Standard errors are NaN with a
            single row. That the width is chosen by the same text may make the bound too low, by about one
            standard error at worst: it is one number, chosen among four.

        Raises:
            ValueError: Before any unit came in.
        """
        flat = dim_zero_cat(self.row_sums) if len(self.row_sums) else torch.zeros(0)
        if len(flat) == 0:
            raise ValueError("Likelihood saw no unit: the evaluation data has none that is predicted.")
        width = 2 + (len(WIDTHS) if self.kind == "bound" else 0)
        table = flat.cpu().double().view(-1, width)
        units = table[:, -1]
        means = table[:, :-1].sum(0) / units.sum()
        if self.kind == "latent":
            return {"latent_nll": means[0]}
        if self.kind == "exact":
            per_token = means[0] / self.chunk_size
            error = ratio_standard_error(table[:, 0] / self.chunk_size, units)
            bits = per_token / math.log(2)
            return {"nll_per_token": per_token, "nll_per_token_se": error, "bits_per_token": bits}
        best = 1 + int(means[1:].argmin())
        return {
            "nll_bound_per_token": means[best] / self.chunk_size,
            "nll_bound_per_token_se": ratio_standard_error(table[:, best] / self.chunk_size, units),
            "nll_bound_width": means.new_tensor(WIDTHS[best - 1]),
            "latent_nll": means[0],
        }
