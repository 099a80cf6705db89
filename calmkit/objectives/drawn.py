"""drawn: what another model draws at the units of a batch, as values of the model that is trained."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from calmkit.decoding import past_of
from calmkit.head_calls import head_draws
from calmkit.interfaces import Batch, Posterior, SampleOptions
from calmkit.model import CalmModel


@torch.no_grad()
def draws_of(
    other: CalmModel, batch: Batch, keep: Bool[Tensor, "B L"], num: int, options: SampleOptions | None
) -> Shaped[Tensor, "num N *event"]:
    """`num` draws of another model at the units that count, each given the true units before it.

    Its weights are moved to where the batch is, once; they are kept out of whatever moves the model that is
    trained. At least one unit must count.
    """
    here = next(other.parameters()).device
    if here != batch.valid.device:
        other.to(batch.valid.device)
    context = other.context(batch.data, batch.valid, condition=batch.condition)
    if other.head.info.needs_memory:
        return head_draws(other.head, context, num, options)[:, keep]
    return head_draws(other.head, context[keep], num, options)


@torch.no_grad()
def in_values_of(
    model: CalmModel,
    other: CalmModel,
    batch: Batch,
    keep: Bool[Tensor, "B L"],
    drawn: Shaped[Tensor, "num N *theirs"],
) -> Shaped[Tensor, "num N *event"]:
    """The draws of a model as values of another one: the same where both rest on one autoencoder; else what
    the second's autoencoder makes of their data, a draw of the posterior each.
    """
    if same_values(model, other):
        return drawn
    return model.encode(as_data(other, batch, keep, drawn)).sample(1)[0]


def as_data(
    model: CalmModel, batch: Batch, keep: Bool[Tensor, "B L"], drawn: Shaped[Tensor, "num N *event"]
) -> Tensor:
    """Values drawn at the units of a batch that are kept, as data: behind the true past, where it is read."""
    past = past_of(model.autoencoder, batch.data, model.by_unit(batch.valid))
    return model.to_data(drawn, None if past is None else past[:, :-1][keep])


def same_values(model: CalmModel, other: CalmModel) -> bool:
    """Whether two models speak of the same values: autoencoders and transforms are equal, bit for bit."""
    if model.event != other.event:
        return False
    return all(_equal(getattr(model, part), getattr(other, part)) for part in ("autoencoder", "transform"))


def _equal(mine: torch.nn.Module | None, theirs: torch.nn.Module | None) -> bool:
    if mine is None or theirs is None:
        return mine is theirs
    ours, others = mine.state_dict(), theirs.state_dict()
    return (
        type(mine) is type(theirs)
        and ours.keys() == others.keys()
        and all(torch.equal(value.cpu(), others[name].cpu()) for name, value in ours.items())
    )


def placed(
    values: Shaped[Tensor, "num N *event"],
    keep: Bool[Tensor, "B L"],
    weights: Float[Tensor, "num N"] | None = None,
) -> Posterior:
    """Values of the units that count as targets of whole rows; of the other units nothing is said."""
    rows = values.new_zeros(len(values), *keep.shape, *values.shape[2:])
    rows[:, keep] = values
    if weights is None:
        return Posterior.among(rows)
    shares = weights.new_full((len(weights), *keep.shape), 1 / len(weights))
    shares[:, keep] = weights
    return Posterior.among(rows, shares)
