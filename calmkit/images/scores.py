"""What models of images are judged by while they are trained and when they are evaluated.

Sources: those of `calmkit.images.measures`; nats per dimension: Theis et al., A Note on the Evaluation of
Generative Models, 2016, section 3.1. https://arxiv.org/abs/1511.01844
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
import torchmetrics
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from calmkit.images.described import NATS
from calmkit.images.measures.scores import ImageScores
from calmkit.images.reconstruction import ImageReconstruction
from calmkit.interfaces import Autoencoder, Backbone, Batch, DensityHead, RowSampler, Scores
from calmkit.metrics.blocks import ratio_standard_error, resampled_means
from calmkit.model import CalmModel
from calmkit.rows import draw_rows

SEEDS_APART = 1_000_003
"""Between the seed of a run and those of the images that it is judged by."""


@final
class Reconstruction(Scores):
    """How near images come back."""

    def __init__(self) -> None:
        super().__init__()
        self.error = ImageReconstruction()

    def update(self, measured: Autoencoder, batch: Batch) -> None:
        """Add the real images of a batch."""
        with torch.no_grad():
            posterior = measured.encode(batch.data)
            drawn, from_mean = measured.to_data(posterior.sample(1)[0]), measured.to_data(posterior.mean)
        self.error.update(batch.data, drawn, from_mean, batch.valid)

    def compute(self) -> Mapping[str, Tensor]:
        """See `ImageReconstruction`; an image that comes back exactly has an infinite PSNR, which is left out."""
        return {name: value for name, value in self.error.compute().items() if bool(torch.isfinite(value))}

    def reset(self) -> None:
        """Forget all."""
        self.error.reset()


@final
class LatentNats(torchmetrics.Metric):
    """Minus the log density of an image's latents per dimension, of a causal model whose head knows it.

    Attributes:
        table: Set by `compute`: `[images, 3]`, an image's number, its nats and its dimensions.
    """

    full_state_update = False
    higher_is_better = False
    is_differentiable = False
    lines: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("lines", default=[], dist_reduce_fx="cat")  # flat: a process may have seen nothing
        self.table: Tensor | None = None

    @torch.no_grad()
    def update(self, model: CalmModel, batch: Batch) -> None:
        """Add the real images of a batch, each by one draw of its latents."""
        z = model.encode(batch.data).sample(1)[0]
        context = model.context(batch.data, batch.valid, z, condition=batch.condition)
        nats = -model.log_prob(context, z).double().sum(1)
        dims = torch.full_like(nats, float(z[0].numel()))
        group = torch.arange(len(nats)) if batch.group is None else batch.group[:, 0]
        real = batch.valid.all(1)
        self.lines.append(torch.stack([group.to(nats), nats, dims], 1)[real].flatten())

    def compute(self) -> dict[str, Tensor]:
        """`nats_per_dim` with its standard error and its 95 % interval over images."""
        table = dim_zero_cat(self.lines).cpu().double().view(-1, 3)
        self.table = table
        mean = table[:, 1].sum() / table[:, 2].sum()
        error = ratio_standard_error(table[:, 1], table[:, 2])
        found = {"nats_per_dim": mean, "nats_per_dim_se": error}
        if len(table) > 1:
            low, high = resampled_means(table[:, 1:2], table[:, 2])[:, 0].quantile(
                mean.new_tensor([0.025, 0.975])
            )
            found |= {"nats_per_dim_low": low, "nats_per_dim_high": high}
        return found


@final
class DrawnScores(Scores):
    """Scores of as many drawn images as held-out ones are seen, asked for the same labels.

    Args:
        model: That will be measured; only what it is made of matters here.
        sampler: Draws.
        images: Scores them.
        seed: Of the draws.
    """

    def __init__(self, model: CalmModel, sampler: RowSampler, images: ImageScores, seed: int) -> None:
        super().__init__()
        self.sampler, self.seed, self.seen = sampler, seed, 0
        self.images = images
        dense = isinstance(model.head, DensityHead) and isinstance(model.backbone, Backbone)
        self.nats = LatentNats() if dense else None

    def update(self, measured: CalmModel, batch: Batch) -> None:
        """Draw as many images as the batch has real ones."""
        real = batch.valid.all(1)
        if not bool(real.any()):
            return
        labels = batch.condition["label"][real] if measured.conditioner is not None else None
        asked = None if labels is None else {"label": labels}
        seed = SEEDS_APART * (self.seed + 1) + self.seen
        drawn = draw_rows(measured, self.sampler, int(real.sum()), condition=asked, seed=seed)
        self.images.update(drawn.data, labels)
        self.seen += 1
        if self.nats is not None:
            self.nats.update(measured, batch)

    def compute(self) -> Mapping[str, Tensor]:
        """What `ImageScores.compute` gives, and nats per dimension where they are known."""
        found = {} if self.nats is None else self.nats.compute()
        return {**self.images.compute(), **found}

    def reset(self) -> None:
        """Forget all."""
        self.images.reset()
        self.seen = 0
        if self.nats is not None:
            self.nats.reset()

    def table(self) -> tuple[Sequence[str], Tensor] | None:
        """Nats by image."""
        if self.nats is None or self.nats.table is None:
            return None
        return NATS, self.nats.table
