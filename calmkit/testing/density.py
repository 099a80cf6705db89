"""The laws of heads that know their density, and the random conditions and targets of all head checks."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from calmkit.interfaces import Context, EventSpec, GenerativeHead, PlacewiseHead, Posterior
from calmkit.testing import laws
from calmkit.testing.laws import HIDDEN_DIM, Subject


def make_context(head: GenerativeHead, units: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Context:
    """Random conditions; a memory of four units where the head needs one."""
    h = torch.randn(*units, HIDDEN_DIM, dtype=dtype)
    if not head.info.needs_memory:
        return Context(h)
    memory = torch.randn(units[0], 4, HIDDEN_DIM, dtype=dtype)
    return Context(h, memory, torch.ones(*units, 4, dtype=torch.bool))


def make_target(event: EventSpec, units: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Posterior:
    """Random targets: ids as a point, latents with a spread of about 1/e."""
    if event.vocab_size is not None:
        return Posterior(torch.randint(event.vocab_size, (*units, *event.shape)))
    mean, log_std = torch.randn(2, *units, *event.shape, dtype=dtype)
    return Posterior(mean, 0.1 * log_std - 1)


@laws.law("a density sums to 1")
def check_density(part: Subject, event: EventSpec) -> None:
    """The density sums to 1 and is that of the draws: exactly over ids, on a grid over a plane of latents."""
    event = event if event.vocab_size is not None else EventSpec((2,))
    head = part.build(HIDDEN_DIM, event)
    _train_a_little(head, event)
    units = (2, 5)
    log_prob = head.log_prob(make_context(head, units), make_target(event, units).mean)
    good = log_prob.shape == units and log_prob.isfinite().all()
    part.require(
        good, "log_prob is one finite number per unit", f"{tuple(log_prob.shape)} {log_prob.tolist()}"
    )
    if isinstance(head, PlacewiseHead):
        _check_places(part, head, event)
    if head.info.needs_memory:
        return  # the grid below would need a memory per point
    context = make_context(head, (1,))
    with torch.no_grad():
        draws = laws.with_seed(0, head.sample, context, 8192)[:, 0]
        points, area = _ids(event) if event.vocab_size is not None else _grid(draws)
        h = context.h.expand(len(points), HIDDEN_DIM)
        mass = head.log_prob(Context(h), points).exp() * area
    total = mass.sum().item()
    # 0.01: what a grid of 300 x 300 over the draws and half their range beyond may miss; ids miss nothing.
    allowed = 1e-6 if event.vocab_size is not None else 1e-2
    part.require(abs(total - 1) < allowed, "a density sums to 1", f"{total:.6f}, allowed 1 +- {allowed}")
    if event.vocab_size is not None:  # one number per value, so that the tokens' dependence counts too
        powers = event.vocab_size ** torch.arange(event.shape[0])
        points, draws = (values * powers for values in (points, draws))
        points, draws = points.sum(-1, keepdim=True), draws.sum(-1, keepdim=True)
    for axis in range(points.shape[-1]):
        gap = _cdf_gap(draws[:, axis].double(), points[:, axis].double(), mass.double())
        # Dvoretzky-Kiefer-Wolfowitz: 8192 draws stray by 0.036 once in 10^9 seeds; this seed is fixed.
        bound = 0.036 + allowed
        part.require(gap <= bound, "draws follow the density", f"distribution functions differ by {gap:.3f}")


def _cdf_gap(draws: Tensor, points: Tensor, mass: Tensor) -> float:
    """Largest difference between the distribution functions of draws and of masses at regular points."""
    places, where = points.unique(return_inverse=True)
    expected = torch.zeros_like(places).index_add(0, where, mass).cumsum(0)
    edges = places + (places[1] - places[0]) / 2
    seen = torch.searchsorted(draws.sort().values, edges) / len(draws)
    return (seen - expected).abs().max().item()


@laws.law("a density place by place is the density")
@torch.no_grad()
def _check_places(part: Subject, head: PlacewiseHead, event: EventSpec) -> None:
    """The places multiply to the density, and each looks at the ids before it only."""
    units, law = (2, 5), "a density place by place is the density"
    context, ids = make_context(head, units), make_target(event, units).mean
    places = head.place_log_probs(context, ids)
    shape = (*ids.shape, event.vocab_size)
    part.require(places.shape == shape, law, f"shape {tuple(places.shape)}, expected {shape}")
    chosen = places.gather(-1, ids.unsqueeze(-1)).squeeze(-1).sum(-1)
    gap = (chosen - head.log_prob(context, ids)).abs().max().item()
    part.require(gap < 1e-4, law, f"its places sum to another log_prob, {gap:.2g} nats away")
    other = ids.clone()
    other[..., -1] = (other[..., -1] + 1) % shape[-1]
    gap = (head.place_log_probs(context, other) - places).abs().max().item()
    part.require(gap < 1e-4, law, f"the last id moves what is said of the ids up to it by {gap:.2g} nats")


def _train_a_little(head: GenerativeHead, event: EventSpec) -> None:
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        head.loss(make_context(head, (2, 5)), make_target(event, (2, 5))).mean().backward()
        optimizer.step()


def _ids(event: EventSpec) -> tuple[Tensor, float]:
    """Every value there is."""
    assert event.vocab_size is not None
    return torch.tensor(list(product(range(event.vocab_size), repeat=event.shape[0]))), 1.0


def _grid(draws: Tensor, size: int = 300) -> tuple[Tensor, float]:
    """Points `[size^2, 2]` over the range of the draws and half of it beyond, and the area of one."""
    low, high = draws.amin(0), draws.amax(0)
    low, high = low - (high - low) / 2, high + (high - low) / 2
    axes = [
        torch.linspace(float(a), float(b), size, dtype=draws.dtype) for a, b in zip(low, high, strict=True)
    ]
    points = torch.cartesian_prod(*axes)
    return points, float(((high - low) / (size - 1)).prod())
