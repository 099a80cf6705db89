"""Coded units: the chunks that latent diagnostics look at, and what an autoencoder believes of them.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 2. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calmkit.decoding import data_of, past_of
from calmkit.interfaces import Autoencoder, Batch, Past, Posterior

BLOCK = 1024  # units that are encoded at once

Read = Callable[[Tensor], Tensor]
"""Latents `[*, D]` -> ids `[*, K]`: `CodedUnits.read`, or any decoder of a test's own."""


@final
@dataclass(frozen=True)
class CodedUnits:
    """N chunks with their posterior, flat, in double precision and on the CPU whatever the autoencoder is on.

    Attributes:
        autoencoder: In eval mode.
        chunks: On the CPU.
        posterior: Over `[N, D]`; an event of several axes is flattened.
        like: One latent as the autoencoder gives it: of its device, dtype and shape.
        past: What stands before each unit, where the decoder reads it.
    """

    autoencoder: Autoencoder
    chunks: Int[Tensor, "N K"]
    posterior: Posterior
    like: Float[Tensor, "*event"]
    past: Past | None = None

    def read(self, z: Float[Tensor, "*units D"]) -> Int[Tensor, "*units K"]:
        """The most likely ids of latents, on the CPU; of these units' own `[*, N, D]`, where there is a
        past.
        """
        z = z.to(self.like).unflatten(-1, self.like.shape)  # [*units, *event]
        return data_of(self.autoencoder, z, self.past).cpu()

    def at(self, rows: Int[Tensor, " n"]) -> CodedUnits:
        """Some of the units."""
        past = None if self.past is None else self.past[rows.to(self.past.known.device)]
        return CodedUnits(self.autoencoder, self.chunks[rows], self.posterior[rows], self.like, past)


def spread_units(batches: Iterable[Batch], max_units: int) -> Int[Tensor, "N K"]:
    """At most `max_units` of the valid units, in the middles of as many equal stretches of the data.

    Raises:
        ValueError: For a `max_units` below 1, or data without a valid unit.
    """
    if max_units < 1:
        raise ValueError(f"max_units must be at least 1, got {max_units}; 4096 would do.")
    with torch.random.fork_rng(devices=[]):  # a loader draws a seed for its workers, even for none
        found = [batch.data[batch.valid].cpu() for batch in batches]
    chunks = torch.cat(found) if found else torch.zeros(0, 1, dtype=torch.long)
    if len(chunks) == 0:
        raise ValueError("No latents to look at: the data has no valid unit.")
    return chunks[evenly(len(chunks), max_units)]


def spread_past(autoencoder: Autoencoder, batches: Iterable[Batch], max_units: int) -> Past | None:
    """What stands before each of the units that `spread_units` picks; None where the decoder does not read
    it.
    """
    found = []
    for batch in batches:
        past = past_of(autoencoder, batch.data.cpu(), batch.valid.cpu())
        if past is None:
            return None
        found.append(past[:, :-1][batch.valid.cpu()])
    every = Past(torch.cat([one.data for one in found]), torch.cat([one.known for one in found]))
    return every[evenly(len(every.known), max_units)]


def evenly(total: int, count: int) -> Int[Tensor, " n"]:
    """The middles of `count` equal stretches of 0..total - 1; all of them where there are fewer."""
    count = min(count, total)
    return (2 * torch.arange(count) + 1) * total // (2 * count)


def distinct(chunks: Int[Tensor, "N K"]) -> Int[Tensor, " n"]:
    """Where each different chunk stands for the first time, in order."""
    which = chunks.unique(dim=0, return_inverse=True)[1]
    first = torch.full((int(which.max()) + 1,), len(chunks))
    return first.scatter_reduce(0, which, torch.arange(len(chunks)), "amin").sort().values


@torch.no_grad()
def code_units(autoencoder: Autoencoder, chunks: Int[Tensor, "N K"], past: Past | None = None) -> CodedUnits:
    """Encode chunks, in blocks, on the autoencoder's device.

    Args:
        autoencoder: In eval mode.
        chunks: Of ids.
        past: What stands before each, where the decoder reads it.

    Raises:
        ValueError: If a latent is not finite: training has diverged, and no number below would mean anything.
    """
    tensors = [*autoencoder.parameters(), *autoencoder.buffers()]
    device = tensors[0].device if tensors else chunks.device
    parts = [autoencoder.encode(block.to(device)) for block in chunks.split(BLOCK)]
    mean = _flat([part.mean for part in parts])
    log_stds = [part.log_std for part in parts if part.log_std is not None]
    log_std = _flat(log_stds) if log_stds else None
    bad = ~mean.isfinite() if log_std is None else ~(mean.isfinite() & log_std.isfinite())
    if bool(bad.any()):
        raise ValueError(
            f"{type(autoencoder).__name__} gives latents that are not finite, for {int(bad.any(1).sum())} of "
            f"{len(chunks)} chunks; train it anew with a lower learning rate."
        )
    past = None if past is None else Past(past.data.to(device), past.known.to(device))
    return CodedUnits(autoencoder, chunks, Posterior(mean, log_std), parts[0].mean[0], past)


def _flat(blocks: list[Tensor]) -> Float[Tensor, "N D"]:
    return torch.cat([block.detach().cpu().double().flatten(1) for block in blocks])


@contextmanager
def evaluating(autoencoder: Autoencoder) -> Iterator[None]:
    """Eval mode for a while; every module gets back the mode it had."""
    before = [(module, module.training) for module in autoencoder.modules()]
    autoencoder.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
