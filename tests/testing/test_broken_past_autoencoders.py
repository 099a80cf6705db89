"""Autoencoders that read the past of their units and break one law each, and one that keeps them all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from calmkit.interfaces import EventSpec, LossOutput, Past, PastReadingAutoencoder, Posterior
from calmkit.testing import check_autoencoder


class Linear(PastReadingAutoencoder):
    """A linear map of three numbers, and of those of two units before; each subclass breaks one law."""

    sizes = ("row",)

    def __init__(self, row: int) -> None:
        super().__init__()
        self.event, self.unit_shape, self.past = EventSpec((2,)), (3,), 2
        self.to_latent, self.back = nn.Linear(3, 4), nn.Linear(2, 3)
        self.behind = nn.Linear(6, 3)

    def encode(self, data: Tensor) -> Posterior:
        mean, log_std = self.to_latent(data).chunk(2, -1)
        return Posterior(mean, log_std)

    def decode(self, z: Tensor, past: Past | None = None) -> Tensor:
        if past is None:
            return self.back(z) + self.behind(z.new_zeros(6))
        return self.back(z) + self.behind((past.data * past.known.unsqueeze(-1)).flatten(-2))

    def to_data(self, z: Tensor, past: Past | None = None) -> Tensor:
        return self.decode(z, past)

    def loss(self, data: Tensor) -> LossOutput:
        posterior = self.encode(data)
        valid = torch.ones(data.shape[:2], dtype=torch.bool)
        back = self.decode(posterior.sample(1)[0], self.pasts(data, valid))
        return LossOutput((back - data).square().sum(-1) + posterior.kl().sum(-1))

    def pasts(self, data: Tensor, valid: Tensor) -> Past:
        return Past.of_rows(data, valid, 2)[:, :-1]


class Timeless(Linear):
    """Says that it reads no unit before."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.past = 0


class Credulous(Linear):
    """Reads what stands where nothing is known."""

    def decode(self, z: Tensor, past: Past | None = None) -> Tensor:
        return super().decode(z, None if past is None else Past(past.data, torch.ones_like(past.known)))


class Deaf(Linear):
    """Reads what it reads of the past as 0."""

    def decode(self, z: Tensor, past: Past | None = None) -> Tensor:
        return super().decode(z, None if past is None else Past(0 * past.data, past.known))

    def loss(self, data: Tensor) -> LossOutput:
        wanted = self.behind.weight.sum().square()  # so that its gradient is no witness
        return LossOutput(super().loss(data).per_unit + wanted)


class Greedy(Linear):
    """Gives the past to the first draw alone."""

    def decode(self, z: Tensor, past: Past | None = None) -> Tensor:
        found = super().decode(z, past)
        if past is None or z.ndim == past.known.ndim:
            return found
        return torch.cat([found[:1], super().decode(z[1:])])


class Prophet(Linear):
    """Reads its own unit and the one before as the past of its loss."""

    def pasts(self, data: Tensor, valid: Tensor) -> Past:
        return Past.of_rows(data.roll(-1, 1), valid, 2)[:, 1:]


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (Timeless, "must set past to a count of units"),
        (Credulous, "what stands where nothing is known is not read"),
        (Deaf, "the decoder reads the past"),
        (Greedy, "draws share the past of their unit"),
        (Prophet, "the loss of a unit reads no unit behind it"),
    ],
)
def test_one_that_breaks_a_law_of_the_past_is_seen(cls: type[Linear], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_autoencoder(cls)


def test_one_that_reads_the_past_of_numbers_keeps_every_law() -> None:
    check_autoencoder(Linear)
