"""Reconstruction accuracy: the ceiling that the autoencoder sets for whatever is trained on it.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 2.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from typing import final

import torch
import torchmetrics
from jaxtyping import Bool, Int
from torch import Tensor

from calmkit.decoding import data_of, past_of
from calmkit.interfaces import Autoencoder


@torch.no_grad()
def reconstruct(
    autoencoder: Autoencoder, chunks: Int[Tensor, "B L K"], valid: Bool[Tensor, "B L"] | None = None
) -> tuple[Int[Tensor, "B L K"], Int[Tensor, "B L K"]]:
    """What comes back from one posterior draw, and what from the posterior's mean; behind the true chunks
    before, where the decoder reads them. `valid` None: all are real.
    """
    if valid is None:
        valid = torch.ones(chunks.shape[:2], dtype=torch.bool, device=chunks.device)
    posterior, past = autoencoder.encode(chunks), past_of(autoencoder, chunks, valid)
    past = None if past is None else past[:, :-1]
    return data_of(autoencoder, posterior.sample(1)[0], past), data_of(autoencoder, posterior.mean, past)


@final
class ReconstructionAccuracy(torchmetrics.Metric):
    """Share of tokens, and of whole chunks, that come back.

    `token_accuracy` and `chunk_accuracy` are measured through a posterior draw, what a head is trained on,
    `token_accuracy_mean` through the posterior's mean. Invalid units don't count.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    tokens_right: Tensor
    tokens_right_mean: Tensor
    chunks_right: Tensor
    tokens: Tensor
    chunks: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("tokens_right", "tokens_right_mean", "chunks_right", "tokens", "chunks"):
            self.add_state(name, default=torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        chunks: Int[Tensor, "B L K"],
        drawn: Int[Tensor, "B L K"],
        from_mean: Int[Tensor, "B L K"],
        valid: Bool[Tensor, "B L"],
    ) -> None:
        """Add units; `drawn` and `from_mean` come from `reconstruct`."""
        right = (drawn == chunks)[valid]  # [N, K]
        self.tokens_right += right.sum()
        self.tokens_right_mean += (from_mean == chunks)[valid].sum()
        self.chunks_right += right.all(-1).sum()
        self.tokens += right.numel()
        self.chunks += len(right)

    def compute(self) -> dict[str, Tensor]:
        """`token_accuracy`, `chunk_accuracy`, `token_accuracy_mean`, in [0, 1]; NaN before any unit."""
        return {
            "token_accuracy": self.tokens_right / self.tokens,
            "chunk_accuracy": self.chunks_right / self.chunks,
            "token_accuracy_mean": self.tokens_right_mean / self.tokens,
        }
