"""ImageScores: every number about a set of drawn images, with intervals, the floor and the bars beside them.

Sources: those of the single numbers, `distances`, `manifold`, `class_accuracy`, `nearest` and `bars`; a floor
from real images, Binkowski et al., 2018, section 5. https://arxiv.org/abs/1801.01401
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
import torchmetrics
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from calmkit.images.measures.bars import GaussianPerClass, TrainingCopies
from calmkit.images.measures.class_accuracy import class_accuracy
from calmkit.images.measures.distances import frechet_distance, kernel_distance
from calmkit.images.measures.features import Features
from calmkit.images.measures.intervals import RESAMPLES, resampled
from calmkit.images.measures.manifold import NEIGHBOURS, precision_and_recall
from calmkit.images.measures.nearest import NearestTraining, nearest_ratio
from calmkit.images.measures.pixels import labels_of, pixels

FLOORS = 10  # samples of training images whose distances make the floor
NOT_ASKED = -1


@final
@dataclass(frozen=True)
class Split:
    """Real images of one split.

    Attributes:
        images: uint8, or floats in [-1, 1].
        labels: From 0 on; None: there are none.
    """

    images: Shaped[Tensor, "N C H W"]
    labels: Int[Tensor, " M"] | None = None


@final
class ImageScores(torchmetrics.Metric):
    """Scores of drawn images, over any number of updates and processes.

    Args:
        features: Of the data set.
        real: The held-out split, what draws are compared with.
        training: The training split: bars, floor, and nearest images.
        resamples: For the intervals; 0: none of distances and ratios.
        neighbours: Of precision and recall.
        bars: False: only the model's own numbers and the floor.
        seed: Of resamples, bars and floor: the same seed and images give the same numbers.

    Raises:
        ValueError: For images or labels that can't be measured.
    """

    full_state_update = False
    is_differentiable = False
    drawn: list[Tensor]
    asked: list[Tensor]

    def __init__(
        self,
        features: Features,
        real: Split,
        training: Split,
        *,
        resamples: int = RESAMPLES,
        neighbours: int = NEIGHBOURS,
        bars: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        held, seen = pixels(real.images, "held-out"), pixels(training.images, "training")
        if held.shape[1:] != seen.shape[1:]:
            raise ValueError(
                f"held-out images are {list(held.shape[1:])}, those for training {list(seen.shape[1:])}; "
                "they are compared at one shape."
            )
        labels = labels_of(training.labels, seen, "training")
        self.source, self.shape = features, held.shape[1:]
        self.labels = torch.zeros(len(seen), dtype=torch.long) if labels is None else labels
        self.resamples, self.neighbours, self.bars, self.seed = resamples, neighbours, bars, seed
        self.real, self.nearest = features.of(held), NearestTraining(seen)
        self.real_distances = self.nearest.find(held)[0]
        classes = labels_of(real.labels, held, "held-out")
        self.real_resamples = resampled(len(held), resamples, 2 * seed, classes)
        self.gaussian, self.copies = GaussianPerClass(seen, labels), TrainingCopies(seen, labels)
        self.known: tuple[list[int], dict[str, float]] | None = None
        # Flat, because torchmetrics joins a process that saw nothing as an empty vector.
        self.add_state("drawn", default=[], dist_reduce_fx="cat")
        self.add_state("asked", default=[], dist_reduce_fx="cat")

    def update(self, images: Shaped[Tensor, "N C H W"], asked: Int[Tensor, " M"] | None = None) -> None:
        """Add drawn images, and the labels they were asked for; None: they were asked for nothing.

        Raises:
            ValueError: For images of another shape, values that are no numbers, or labels that fit no image.
        """
        if images.shape[1:] != self.shape:
            raise ValueError(
                f"drawn images are {list(images.shape[1:])}, the held-out ones {list(self.shape)}; "
                "they are compared at one shape."
            )
        values, labels = pixels(images, "drawn", clip=True), labels_of(asked, images, "drawn")
        self.drawn.append(values.flatten())
        self.asked.append(torch.full((len(values),), NOT_ASKED) if labels is None else labels)

    def compute(self) -> dict[str, Tensor]:
        """All numbers, scalars in double precision.

        Returns:
            Under the names of `words.WORDS`, some with `_low`, `_high` and `_se`: `fd`, `kd`, `precision`,
            `recall`, `nearest_ratio`; `class_accuracy` where labels were asked for and the network knows
            classes; `network_accuracy` where it does; `fd_floor`; and with `bar_gaussian_` and `bar_copy_`
            before them the numbers of as many images of the bars, asked for the same labels.

        Raises:
            ValueError: For fewer drawn images than precision and recall need, or where labels were asked
                for only some of them.
        """
        if len(self.drawn) == 0:
            raise ValueError("there are no drawn images to be scored.")
        drawn = dim_zero_cat(self.drawn).view(-1, *self.shape)
        asked = dim_zero_cat(self.asked)
        free = asked == NOT_ASKED
        if free.any() and not free.all():
            raise ValueError(f"of {len(asked)} drawn images {int(free.sum())} were asked for no label.")
        conditional = not bool(free.any())
        found = self._scored(drawn, asked if conditional else None)
        if self.source.accuracy is not None:
            found["network_accuracy"] = self.source.accuracy
        found |= self._beside(asked if conditional else self._any_labels(len(drawn)), conditional)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}

    def _scored(self, images: Float[Tensor, "N C H W"], asked: Tensor | None) -> dict[str, float]:
        features = self.source.of(images)
        mine = resampled(len(images), self.resamples, 2 * self.seed + 1, asked)
        both = (self.real_resamples, mine) if self.resamples else None
        precision, recall = precision_and_recall(self.real, features, self.neighbours)
        distances = self.nearest.find(images)[0]
        found = frechet_distance(self.real, features, both).named("fd")
        found |= kernel_distance(self.real, features, both).named("kd")
        found |= precision.named("precision") | recall.named("recall")
        found |= nearest_ratio(self.real_distances, distances, both).named("nearest_ratio")
        if asked is not None and self.source.accuracy is not None:
            found |= class_accuracy(self.source, images, asked).named("class_accuracy")
        return found

    def _beside(self, labels: Int[Tensor, " N"], conditional: bool) -> dict[str, float]:
        """Floor and bars, which depend on the model by number and labels alone: made once for these."""
        if self.known is None or self.known[0] != [int(conditional), *labels.tolist()]:
            samples = [self.copies.draw(labels, self.seed + 1 + number) for number in range(FLOORS)]
            floors = [frechet_distance(self.real, self.source.of(one)).value for one in samples]
            found = {"fd_floor": sum(floors) / FLOORS}
            asked = labels if conditional else None
            for name, bar in (("gaussian", self.gaussian), ("copy", self.copies)) if self.bars else ():
                scores = self._scored(bar.draw(labels, self.seed), asked)
                found |= {f"bar_{name}_{key}": value for key, value in scores.items()}
            self.known = [int(conditional), *labels.tolist()], found
        return self.known[1]

    def _any_labels(self, num: int) -> Int[Tensor, " num"]:
        """Labels as the training images have them, for bars beside a model that is asked for none."""
        drawn = torch.Generator().manual_seed(self.seed)
        return self.labels[torch.randint(len(self.labels), (num,), generator=drawn)]
