from __future__ import annotations

import math

import torch
from torch import Tensor

from calmkit.interfaces import EventSpec, LossOutput, NotTrainable, Posterior, TokenAutoencoder
from calmkit.text.metrics.reconstruction import ReconstructionAccuracy, reconstruct


class Rounding(TokenAutoencoder):
    """The mean is the ids; noise of a standard deviation far above 1 breaks them."""

    chunk_size = 2
    event = EventSpec((2,))

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def encode(self, data: Tensor) -> Posterior:
        mean = data.to(torch.get_default_dtype())
        return Posterior(mean, torch.full_like(mean, math.log(self.std)))

    def decode(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def to_data(self, z: Tensor) -> Tensor:
        return z.round().long()

    def loss(self, data: Tensor) -> LossOutput:
        raise NotTrainable


def test_accuracies_by_hand() -> None:
    chunks = torch.tensor([[[1, 2], [3, 4], [5, 6]]])
    drawn = torch.tensor([[[1, 2], [3, 0], [5, 6]]])
    from_mean = torch.tensor([[[1, 2], [3, 4], [0, 6]]])
    metric = ReconstructionAccuracy()
    metric.update(chunks, drawn, from_mean, torch.tensor([[True, True, False]]))
    # of 4 valid tokens 3 come back, of 2 chunks 1; through the mean all 4
    result = {name: value.item() for name, value in metric.compute().items()}
    assert result == {"token_accuracy": 0.75, "chunk_accuracy": 0.5, "token_accuracy_mean": 1.0}
    metric.update(chunks, drawn, from_mean, torch.tensor([[False, False, True]]))
    result = {name: value.item() for name, value in metric.compute().items()}
    assert result == {"token_accuracy": 5 / 6, "chunk_accuracy": 2 / 3, "token_accuracy_mean": 5 / 6}


def test_draws_carry_the_posterior_s_noise_and_the_mean_does_not() -> None:
    chunks = torch.randint(9, (2, 3, 2))
    drawn, from_mean = reconstruct(Rounding(std=1e-4), chunks)
    assert torch.equal(drawn, chunks)
    drawn, from_mean = reconstruct(Rounding(std=1e3), chunks)
    # |noise| below .5 has a chance of .0004 per token; all 12 of them: 1e-41
    assert not torch.equal(drawn, chunks)
    assert torch.equal(from_mean, chunks)
