"""What models of images are judged by while they are trained and when they are evaluated.

Sources: those of `calmkit.images.measures`; nats per dimension: Theis et al., A Note on the Evaluation of
Generative Models, 2016, section 3.1. https://arxiv.org/abs/1511.01844
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import final

import torch
import torchmetrics
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from calmkit.data.cache import default_cache
from calmkit.images.corpus import Images
from calmkit.images.described import NATS
from calmkit.images.measures.features import train_features
from calmkit.images.measures.intervals import RESAMPLES
from calmkit.images.measures.scores import ImageScores, Split
from calmkit.images.prepare import PreparedImages
from calmkit.images.reconstruction import ImageReconstruction
from calmkit.interfaces import Autoencoder, Backbone, Batch, DensityHead, Prepared, RowSampler, Scores
from calmkit.metrics.blocks import ratio_standard_error, resampled_means
from calmkit.model import CalmModel
from calmkit.recipe.assemble import build_sampler
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.rows import ROWS_AT_ONCE, draw_rows

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
        """See `ImageReconstruction`; infinite ones, of images that come back exactly, are left out."""
        return {name: value for name, value in self.error.compute().items() if bool(torch.isfinite(value))}

    def reset(self) -> None:
        """Forget all."""
        self.error.reset()


@final
class LatentNats(torchmetrics.Metric):
    """Minus the log density of an image's latents per dimension, of a causal model whose head knows it.

    The latents are the autoencoder's: what a transform stretches is taken off, learned or not, so that models
    of one autoencoder compare whatever stands behind it. Those of two autoencoders do not.

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
        _, z, _ = model.target(batch.data)
        context = model.context(batch.data, batch.valid, z, condition=batch.condition)
        density, log_det = model.log_prob(context, z), _log_det(model, z)
        nats = -(density if log_det is None else density + log_det).double().sum(1)
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


def _log_det(model: CalmModel, z: Tensor) -> Tensor | None:
    """Log volume of a model's transform at its values `[B, L, *E]`, nats per unit, learned or not."""
    if model.transform is None:
        return None
    with torch.autocast(z.device.type, enabled=False):
        return model.transform(model.transform.inverse(z))[1]


@final
class DrawnScores(Scores):
    """Scores of as many drawn images as held-out ones are seen, asked for the same labels.

    They are drawn in float32, as `calmkit generate` does, and as many at once whatever a batch holds:
    which images these are depends on the seed and on the held-out images, and not on how they come.

    Args:
        model: That will be measured; only what it is made of matters here.
        sampler: Draws.
        images: Scores them.
        seed: Of the draws.
    """

    def __init__(self, model: CalmModel, sampler: RowSampler, images: ImageScores, seed: int) -> None:
        super().__init__()
        self.sampler, self.seed = sampler, seed
        self.images = images
        self.labelled = model.conditioner is not None
        self.waiting: list[Tensor] = []  # `[n, 2]`, number and label of images that none was drawn for yet
        dense = isinstance(model.head, DensityHead) and isinstance(model.backbone, Backbone)
        self.nats = LatentNats() if dense else None
        self._draw: Callable[[Tensor], Tensor] | None = None

    def update(self, measured: CalmModel, batch: Batch) -> None:
        """Draw as many images as the batch has real ones, or leave them to the next batch."""
        real = batch.valid.all(1)
        if not bool(real.any()):
            return
        assert batch.group is not None
        number = batch.group[:, 0]
        label = batch.condition["label"] if self.labelled else torch.zeros_like(number)
        self.waiting.append(torch.stack([number, label.to(number)], 1)[real])
        self._draw = partial(self._drawn, measured)
        while sum(map(len, self.waiting)) >= ROWS_AT_ONCE:
            self._draw_some(ROWS_AT_ONCE)
        if self.nats is not None:
            self.nats.update(measured, batch)

    def _draw_some(self, most: int) -> None:
        asked = torch.cat(self.waiting)
        assert self._draw is not None
        self.images.update(self._draw(asked[:most]), asked[:most, 1] if self.labelled else None)
        self.waiting = [asked[most:]] if len(asked) > most else []

    def _drawn(self, measured: CalmModel, asked: Tensor) -> Tensor:
        condition = {"label": asked[:, 1]} if self.labelled else None
        seed = SEEDS_APART * (self.seed + 1) + int(asked[0, 0])  # no two processes have an image in common
        drawn = draw_rows(measured, self.sampler, len(asked), condition=condition, seed=seed, precision="32")
        return drawn.data

    def compute(self) -> Mapping[str, Tensor]:
        """What `ImageScores.compute` gives, and nats per dimension where they are known."""
        if self.waiting:
            self._draw_some(ROWS_AT_ONCE)
        found = {} if self.nats is None else self.nats.compute()
        return {**self.images.compute(), **found}

    def reset(self) -> None:
        """Forget all."""
        self.images.reset()
        self.waiting, self._draw = [], None
        if self.nats is not None:
            self.nats.reset()

    def table(self) -> tuple[Sequence[str], Tensor] | None:
        """Nats by image."""
        if self.nats is None or self.nats.table is None:
            return None
        return NATS, self.nats.table


def drawn_scores(
    model: CalmModel, recipe: Recipe, manager: Manager, prepared: Prepared, *, final: bool
) -> DrawnScores:
    """The scores of a recipe's model; on the way (not `final`) without intervals and bars.

    Raises:
        DataError: The cache of the feature network can't be written.
    """
    assert isinstance(prepared, PreparedImages)
    sampler = build_sampler(recipe, manager)
    assert isinstance(sampler, RowSampler)
    real, seen = _split(prepared.valid), _split(prepared.train)
    features = train_features(
        seen.images, seen.labels, real.images, real.labels, default_cache() / "features", prepared.fingerprint
    )
    resamples = RESAMPLES if final else 0
    images = ImageScores(features, real, seen, resamples=resamples, bars=final, seed=recipe.seed)
    return DrawnScores(model, sampler, images, recipe.seed)


def _split(images: Images) -> Split:
    """As tensors of their own: the arrays may be views of a mapped file."""
    labels = None if images.labels is None else torch.from_numpy(images.labels.copy())
    return Split(torch.from_numpy(images.pixels.copy()), labels)
