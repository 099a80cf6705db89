"""Brier terms of a model: teacher forcing where a unit holds the four tokens, roll-outs where several do.

    accuracy   P(y_1..y_n) = prod_j P(y_j | y_<j): draws under teacher forcing, for every K
    collision  sum P^2: pairs of draws; for K < 4 the pair is rolled out along its first draw for as long as
               it agrees, since given agreement the prefix is common

All positions are rolled out together, each a branch of one backbone state, and a branch whose pair has parted
is dropped. For a discrete model at K = 1 the density takes the place of counting where that keeps the
expectation.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 4. https://arxiv.org/abs/2510.27688
Official code: `modeling_calm.py` (K >= 4, K < 4) and `train_ar.py` (discrete), one position at a time.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from calmkit.decoding import behind
from calmkit.interfaces import Context, DensityHead, Past, SampleOptions, State
from calmkit.metrics.draws import DRAWS_PER_BLOCK, draw_units
from calmkit.model import CalmModel
from calmkit.text.metrics.brier import NUM_TOKENS, pair_collisions, prefix_hits
from calmkit.text.units import chunk_size_of

BRANCHES_PER_BLOCK = 2**12  # branches of the backbone stepped at once


def units_per_continuation(chunk_size: int) -> int:
    """Successive units that four tokens take: 1 for K >= 4, else ceil(4 / K)."""
    return -(-NUM_TOKENS // chunk_size)


def eligible_units(predict: Bool[Tensor, "B L"], chunk_size: int) -> Bool[Tensor, "B L"]:
    """Units at which four tokens begin that exist and are all predicted: the positions of BrierLM."""
    eligible = predict.clone()
    for ahead in range(1, units_per_continuation(chunk_size)):
        eligible[:, :-ahead] &= predict[:, ahead:]
        eligible[:, -ahead:] = False
    return eligible


@torch.no_grad()
def brier_draws(
    model: CalmModel,
    chunks: Int[Tensor, "B L K"],
    valid: Bool[Tensor, "B L"],
    num_draws: int,
    options: SampleOptions | None = None,
) -> tuple[Float[Tensor, "P 4"], Float[Tensor, "P 4"], Int[Tensor, " P"]]:
    """Unbiased accuracy and collision of every eligible unit of a batch, for `BrierLM.update`.

    The past is read as generation reads a prompt, with the mean of each posterior. Draws are scored as they
    come: nothing is replaced after an end-of-text.

    Args:
        model: In eval mode.
        chunks: Evaluation rows.
        valid: True where a unit is real.
        num_draws: S, at least 2; for K < 4 they make S // 2 pairs.
        options: Of the head; None scores the distribution that it was trained for.

    Returns:
        Accuracy and collision for n = 1..4, and the row b of each position.

    Raises:
        ValueError: With fewer than two draws.
    """
    if num_draws < 2:
        raise ValueError(f"BrierLM compares draws: num_draws must be at least 2, got {num_draws}.")
    predict = model.predict(valid)
    eligible = eligible_units(predict, chunk_size_of(model))
    rows = eligible.nonzero()[:, 0]
    if len(rows) == 0:
        nothing = torch.zeros(0, NUM_TOKENS, dtype=torch.get_default_dtype(), device=chunks.device)
        return nothing, nothing, rows
    x = model.embedder(chunks, model.encode(chunks).mean)
    context = behind(model.autoencoder, model.backbone(x, valid), chunks, valid)
    exact = _is_exact(model, options)
    hits = torch.zeros(chunks.shape, dtype=torch.get_default_dtype(), device=chunks.device)
    drawn = eligible if exact else predict
    ids, z = draw_units(model, context, drawn, num_draws, options)
    hits[predict] = (
        _chances(model, context[predict], chunks[predict]) if exact else prefix_hits(ids, chunks[predict])
    )
    accuracy = chained_accuracy(hits, eligible)
    if units_per_continuation(chunk_size_of(model)) == 1:
        return accuracy, pair_collisions(ids[..., :NUM_TOKENS]), rows
    begins = eligible[drawn]
    chances = _chances(model, context[eligible], ids) if exact else None
    state = model.causal.states(x, valid)
    branches = eligible.flatten().nonzero()[:, 0]
    past = context[eligible].past
    collision = _collision(model, state, branches, past, ids[:, begins], z[:, begins], chances, options)
    return accuracy, collision, rows


def _is_exact(model: CalmModel, options: SampleOptions | None) -> bool:
    """True for a density over single tokens, as long as no option makes the draws differ from it."""
    head = model.head
    discrete = isinstance(head, DensityHead) and model.autoencoder.event.kind == "tokens"
    plain = options is None or not options.set_fields() - {"generator"}
    return discrete and plain and chunk_size_of(model) == 1 and not head.info.needs_memory


def _chances(
    model: CalmModel, context: Context, ids: Int[Tensor, "*draws P one"]
) -> Float[Tensor, "*draws P one"]:
    """p(token | prefix) of a discrete model at K = 1, for each draw, in blocks of positions."""
    size = DRAWS_PER_BLOCK
    flat = ids.reshape(-1, *ids.shape[-2:])  # [draws, P, 1]
    chances = [
        torch.cat(
            [model.log_prob(context[i : i + size], draw[i : i + size]) for i in range(0, len(draw), size)]
        )
        for draw in flat
    ]
    return torch.stack(chances).exp().to(torch.get_default_dtype()).view(ids.shape)


def chained_accuracy(hits: Float[Tensor, "B L K"], eligible: Bool[Tensor, "B L"]) -> Float[Tensor, "P 4"]:
    """P(y_1..y_n), n = 1..4, from the chance of each prefix of each unit.

    Draws of successive units are independent under teacher forcing, so the product of unbiased estimates is
    unbiased.
    """
    row, unit = eligible.nonzero().unbind(1)
    chunk_size = hits.shape[-1]
    before = hits.new_ones(len(row))
    terms: list[Tensor] = []
    for ahead in range(units_per_continuation(chunk_size)):
        here = hits[row, unit + ahead]  # [P, K]
        terms.append(before.unsqueeze(1) * here)
        before = before * here[:, -1]
    return torch.cat(terms, 1)[:, :NUM_TOKENS]


def _agreement(
    pair: Int[Tensor, "2 A K"], chances: Float[Tensor, "2 A 1"] | None
) -> tuple[Float[Tensor, "A K"], Int[Tensor, " survivors"]]:
    """Whether each pair agrees in its first 1..K tokens, and which pairs agree in all.

    Where the density is known the last token is not counted but integrated: E_{x ~ p} p(x) = sum p^2.
    """
    equal = (pair[0] == pair[1]).cumprod(-1)
    terms = equal.to(torch.get_default_dtype()) if chances is None else chances.mean(0)
    return terms, equal[:, -1].nonzero()[:, 0]


def _collision(
    model: CalmModel,
    state: State,
    branches: Int[Tensor, " P"],
    past: Past | None,
    ids: Int[Tensor, "S P K"],
    z: Shaped[Tensor, "S P *event"],
    chances: Float[Tensor, "S P 1"] | None,
    options: SampleOptions | None,
) -> Float[Tensor, "P 4"]:
    """Mean over the pairs of draws of each position, rolled out for as long as they agree."""
    half, positions, chunk_size = len(ids) // 2, ids.shape[1], ids.shape[2]
    pair = ids[: 2 * half].reshape(2, half * positions, chunk_size)
    pair_chances = None if chances is None else chances[: 2 * half].reshape(2, half * positions, 1)
    value = z[:half].flatten(0, 1)
    branches = branches.repeat(half)
    ahead = units_per_continuation(chunk_size) - 1
    first, live = _agreement(pair, pair_chances)
    terms = torch.cat([first, first.new_zeros(len(first), ahead * chunk_size)], 1)
    for start in range(0, len(live), BRANCHES_PER_BLOCK):
        block = live[start : start + BRANCHES_PER_BLOCK]
        branch_state = model.causal.select(state, branches[block])
        here = None if past is None else past[block % positions]
        terms[block, chunk_size:] = _roll_out(
            model, branch_state, here, pair[0, block], value[block], ahead, options, chances is not None
        )
    return terms[:, :NUM_TOKENS].view(half, positions, NUM_TOKENS).mean(0)


def _roll_out(
    model: CalmModel,
    state: State,
    past: Past | None,
    ids: Int[Tensor, "A K"],
    value: Shaped[Tensor, "A *event"],
    ahead: int,
    options: SampleOptions | None,
    exact: bool,
) -> Float[Tensor, "A tokens"]:
    """Go `ahead` units on from the pairs' common unit; the agreement of their further tokens."""
    chunk_size = ids.shape[1]
    terms = torch.zeros(len(ids), ahead * chunk_size, dtype=torch.get_default_dtype(), device=ids.device)
    at = torch.arange(len(ids), device=ids.device)
    for step in range(ahead):
        real = torch.ones(len(ids), 1, dtype=torch.bool, device=ids.device)
        context, state = model.causal.step(model.embedder(ids.unsqueeze(1), value.unsqueeze(1)), real, state)
        past = None if past is None else past.then(ids)
        context = context[:, 0].behind(past)
        pair, z = model.draw(context, 2, options)  # [2, A, K]
        chances = _chances(model, context, pair) if exact else None
        terms[at, step * chunk_size : (step + 1) * chunk_size], alike = _agreement(pair, chances)
        if step == ahead - 1 or len(alike) == 0:
            break
        at, ids, value, state = at[alike], pair[0, alike], z[0, alike], model.causal.select(state, alike)
        past = None if past is None else past[alike]
    return terms
