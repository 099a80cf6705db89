"""LatentWorld: conditional distributions of latents that are known exactly, for a head to learn.

A few contexts, each with a Gaussian mixture of its own. Density, moments and the energy distance of any draws
to the truth have closed forms, so what a head has learned is measured against the truth itself:

    world = LatentWorld(seed=0)
    head = MyHead(world.hidden_dim, world.event)
    for step, distance in learn(head, world, steps=400):
        print(step, distance)

The modes of a context lie on a ring, and its mean where draws hardly ever do: a head that averages is seen.

Source: Szekely and Rizzo, Energy statistics: A class of statistics based on distances, 2013, section 2
(the distance). https://doi.org/10.1016/j.jspi.2013.03.018
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from calmkit.head_calls import head_draws, head_loss
from calmkit.interfaces import Context, EventSpec, GenerativeHead, Posterior
from calmkit.testing.mean_norm import mean_norm

RADIUS = 2.0
"""Of the ring of modes, in latent units."""

STDS = (0.15, 0.4)
"""Least and largest standard deviation of a mode, in latent units."""


class Learned(NamedTuple):
    """How far a head's draws are from the truth after some steps of training."""

    step: int
    distance: float


@final
class LatentWorld:
    """Targets from a known mixture given a known context.

    Weights lie between 1 and 2 before they are normalised, standard deviations, one per mode and dimension,
    within `STDS`. The modes of a context lie evenly on a ring of `RADIUS` around a standard normal centre, in
    a plane that all contexts share. All is on the CPU, in torch's default dtype at construction.

    Args:
        seed: The world depends on it alone.
        num_contexts: C.
        num_modes: M, per context.
        latent_dim: D, at least 2.
        hidden_dim: H, of the random vectors that tell the contexts apart.
        posterior_std: Standard deviation of each target's posterior, from 0, which makes targets points, to
            the least of `STDS`. It leaves the truth as it is: a posterior's mean has what its noise leaves of
            the spread of a mode.

    Attributes:
        event: A latent vector.
        context: All contexts, `h` is `[C, H]`.
        truth: The mixtures, a batch of C: `log_prob`, `sample` and `mean` as torch has them.

    Raises:
        ValueError: For a size below its least, or a posterior wider than a mode may be.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        num_contexts: int = 3,
        num_modes: int = 4,
        latent_dim: int = 2,
        hidden_dim: int = 16,
        posterior_std: float = 0.1,
    ) -> None:
        _refuse(posterior_std, num_contexts, num_modes, latent_dim, hidden_dim)
        generator, dtype = torch.Generator().manual_seed(seed), torch.get_default_dtype()

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, dtype=torch.float64)  # so the dtype changes nothing

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.event, self.hidden_dim, self.posterior_std = EventSpec((latent_dim,)), hidden_dim, posterior_std
        self.context = Context(normal(num_contexts, hidden_dim).to(dtype))
        plane = torch.linalg.qr(normal(latent_dim, 2)).Q  # [D, 2]
        turn = torch.arange(num_modes, dtype=torch.float64) / num_modes + uniform(num_contexts, 1)
        ring = torch.stack([(2 * math.pi * turn).cos(), (2 * math.pi * turn).sin()], -1)  # [C, M, 2]
        mean = normal(num_contexts, 1, latent_dim) + RADIUS * ring @ plane.T
        low, high = STDS
        std = low + (high - low) * uniform(num_contexts, num_modes, latent_dim)
        self.truth = MixtureSameFamily(
            Categorical((1 + uniform(num_contexts, num_modes)).to(dtype)),
            Independent(Normal(mean.to(dtype), std.to(dtype)), 1),
        )

    def batch(self, num: int) -> tuple[Context, Posterior]:
        """Units with a random context each, and the posterior of each unit's latent.

        Randomness is torch's default generator. A latent drawn from the posterior follows the truth exactly.
        """
        which = torch.randint(len(self.context.h), (num,))
        modes = self.truth.mixture_distribution.probs[which]  # [num, M]
        mode = torch.multinomial(modes, 1)[:, 0]
        loc, std = self.means[which, mode], self.stds[which, mode]
        spread = (std.square() - self.posterior_std**2).clamp(min=0).sqrt()
        mean = loc + spread * torch.randn_like(loc)
        if self.posterior_std == 0:
            return self.context[which], Posterior(mean)
        return self.context[which], Posterior(mean, torch.full_like(mean, math.log(self.posterior_std)))

    def draws(self, num: int) -> Float[Tensor, "num C D"]:
        """From the truth, for every context."""
        return self.truth.sample((num,))

    @property
    def weights(self) -> Float[Tensor, "C M"]:
        """Probability of each mode."""
        return self.truth.mixture_distribution.probs

    @property
    def means(self) -> Float[Tensor, "C M D"]:
        """Of each mode."""
        return self.truth.component_distribution.mean

    @property
    def stds(self) -> Float[Tensor, "C M D"]:
        """Of each mode, per dimension."""
        return self.truth.component_distribution.stddev

    def covariance(self) -> Float[Tensor, "C D D"]:
        """Exact: the mean of the modes' covariances, and the covariance of their means."""
        offset = self.means - self.truth.mean.unsqueeze(1)
        between = torch.einsum("cm,cmd,cme->cde", self.weights, offset, offset)
        return between + torch.diag_embed(torch.einsum("cm,cmd->cd", self.weights, self.stds.square()))

    def energy_distance(self, draws: Float[Tensor, "S C D"]) -> Float[Tensor, " C"]:
        """Energy distance of draws X to the truth Y: 2 E|X - Y| - E|X - X'| - E|Y - Y'|, per context.

        Unbiased: exact over the truth, over pairs of distinct draws. 0 on average where the draws follow the
        truth, below 0 now and then, off by the order of E|Y - Y'| / S.

        Returns:
            Float64, in latent units.

        Raises:
            ValueError: For fewer than 2 draws, or draws that are not of every context.
        """
        if len(draws) < 2 or draws.shape[1:] != self.truth.mean.shape:
            wanted = f"[S, {', '.join(map(str, self.truth.mean.shape))}] with S at least 2"
            raise ValueError(f"energy_distance: got draws {list(draws.shape)}; {wanted} would do.")
        draws = draws.detach().cpu().double()
        among = torch.stack([torch.pdist(of_context).mean() for of_context in draws.unbind(1)])
        return 2 * self._to_truth(draws).mean(0) - among - self.self_distance()

    def averaging_distance(self) -> Float[Tensor, " C"]:
        """Energy distance to the truth of a head whose every draw is the exact mean: what averaging costs."""
        return 2 * self._to_truth(self.truth.mean.double()) - self.self_distance()

    def self_distance(self) -> Float[Tensor, " C"]:
        """E|Y - Y'| of two draws from the truth."""
        weights, means, stds = self.weights.double(), self.means.double(), self.stds.double()
        offset = means.unsqueeze(1) - means.unsqueeze(2)  # [C, M, M, D]
        std = (stds.unsqueeze(1).square() + stds.unsqueeze(2).square()).sqrt()
        return torch.einsum("cm,cn,cmn->c", weights, weights, mean_norm(offset, std))

    def _to_truth(self, draws: Float[Tensor, "*num C D"]) -> Float[Tensor, "*num C"]:
        offset = draws.unsqueeze(-2) - self.means.double()  # [*num, C, M, D]
        return (self.weights.double() * mean_norm(offset, self.stds.double().expand_as(offset))).sum(-1)


def learn(
    head: GenerativeHead,
    world: LatentWorld,
    steps: int,
    *,
    evaluations: int = 4,
    batch_size: int = 256,
    lr: float = 2e-3,
    num_draws: int = 1024,
) -> list[Learned]:
    """Train a head on a world; the energy distance of its draws, mean over contexts, as training goes on.

    Adam, its learning rate falling to 0 by half a cosine. The head's device and dtype are kept; it is left in
    eval mode. Measuring leaves torch's CPU generator as it was.

    Args:
        head: Built with `world.hidden_dim` and `world.event`.
        world: The truth.
        steps: Of the optimiser.
        evaluations: Evenly spaced, the last after the last step; one more before the first step.
        batch_size: Units per step.
        lr: At the first step.
        num_draws: Per context and evaluation.

    Raises:
        ValueError: For a head that reads a memory, which this world has not.
    """
    if head.info.needs_memory:
        raise ValueError(f"learn: {type(head).__name__} reads a memory; a LatentWorld has contexts only.")
    like = next(head.parameters())
    optimizer = torch.optim.Adam(head.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    due = {steps * i // evaluations for i in range(evaluations + 1)}
    seen = []
    for step in range(steps + 1):
        if step in due:
            draws = _draws(head.eval(), world, num_draws, like)
            seen.append(Learned(step, float(world.energy_distance(draws).mean())))
        if step < steps:
            context, target = world.batch(batch_size)
            log_std = None if target.log_std is None else target.log_std.to(like)
            optimizer.zero_grad(set_to_none=True)
            posterior = Posterior(target.mean.to(like), log_std)
            head_loss(head.train(), Context(context.h.to(like)), posterior).mean().backward()
            optimizer.step()
            schedule.step()
    return seen


@torch.no_grad()
def _draws(head: GenerativeHead, world: LatentWorld, num: int, like: Tensor) -> Float[Tensor, "num C D"]:
    with torch.random.fork_rng(devices=[]):
        return head_draws(head, Context(world.context.h.to(like)), num)


def _refuse(posterior_std: float, *sizes: int) -> None:
    names = ("num_contexts", "num_modes", "latent_dim", "hidden_dim")
    for name, size, least in zip(names, sizes, (1, 1, 2, 1), strict=True):
        if size < least:
            raise ValueError(
                f"LatentWorld: {name} must be at least {least}, got {size}; the default would do."
            )
    if not 0 <= posterior_std <= STDS[0]:
        raise ValueError(
            f"LatentWorld: posterior_std must lie in [0, {STDS[0]}], got {posterior_std}; 0.1 would do."
        )
