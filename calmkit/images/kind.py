"""Images as a kind of data: each is a row, whose units lie on a grid.

Sources: Tschannen et al., GIVT, 2023. https://arxiv.org/abs/2312.02116 Li et al., MAR, 2024.
https://arxiv.org/abs/2406.11838
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from calmkit.hookspecs import hookimpl
from calmkit.images.corpus import ImageCorpus
from calmkit.images.words import WORDS
from calmkit.interfaces import (
    Autoencoder,
    DataKind,
    Front,
    GenerationAsked,
    Prepared,
    Scores,
)
from calmkit.model import CalmModel

LABELS = "images.json"
"""What a run keeps of its images: their shape and the names of their labels."""
TIMED = 16  # images
COLUMNS = 8  # of a grid


@dataclass(frozen=True)
class KeptLabels:
    """What a run keeps of its images: their shape and the names of their labels."""

    image_shape: tuple[int, int, int]
    label_names: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, Any]:
        """What parts are built with."""
        return sizes_of(self.image_shape, len(self.label_names))


def sizes_of(image_shape: tuple[int, int, int], num_labels: int) -> dict[str, Any]:
    """What parts are built with: labels only where there are some."""
    labels = {"num_labels": num_labels, "conditions": ("label",)} if num_labels else {}
    return {"image_shape": image_shape, **labels}


@final
class ImagesKind(DataKind):
    """Pictures of one size, with or without labels; judged by the Frechet distance of what is drawn."""

    words = WORDS
    corpus = ImageCorpus
    takes = ("condition", "num", "out", "batch_size", "json")

    def known_sizes(self, recipe: Any, manager: Any) -> dict[str, Any]:
        """`image_shape`, and `num_labels` where there are labels."""
        from calmkit.recipe.parts import build_corpus

        corpus: Any = build_corpus(recipe, manager)
        return sizes_of(corpus.image_shape, corpus.num_labels)

    def num_units(self, recipe: Any, autoencoder: Autoencoder) -> int:
        """The size of the grid."""
        del recipe
        return math.prod(autoencoder.layout or (0,))

    def prepare(self, recipe: Any, manager: Any, progress: Any, kept: Any = None) -> Prepared:
        """Decode both splits, or take them from the cache."""
        del kept
        from calmkit.data.cache import default_cache
        from calmkit.images.prepare import prepare_images
        from calmkit.recipe.parts import build_corpus

        corpus: Any = build_corpus(recipe, manager)
        with progress.phase("reading images"):
            return prepare_images(corpus, default_cache())

    def restore(self, recipe: Any, manager: Any, folder: Path) -> KeptLabels:
        """Shape and names."""
        del recipe, manager
        said = json.loads((folder / LABELS).read_text(encoding="utf-8"))
        return KeptLabels(tuple(said["image_shape"]), tuple(said["label_names"]))

    def front(self, model: CalmModel, kept: Any, sampler: Any, precision: Any) -> Front:
        """Labels in, images out."""
        from calmkit.images.front import ImageModel

        return ImageModel(model, sampler, kept.label_names, precision)

    def coding_scores(self, autoencoder: Autoencoder) -> Scores:
        """How near images come back."""
        del autoencoder
        from calmkit.images.scores import Reconstruction

        return Reconstruction()

    def scores(
        self, model: CalmModel, recipe: Any, manager: Any, prepared: Prepared, *, final: bool = True
    ) -> Scores:
        """Frechet distance and its relatives; on the way without intervals and bars."""
        from calmkit.images.scores import drawn_scores

        return drawn_scores(model, recipe, manager, prepared, final=final)

    def about_rows(self, recipe: Any, model: CalmModel, data: Any) -> dict[str, float]:
        """How many images were drawn: one for each row."""
        del recipe, model
        return {"images": float(sum(int(batch.valid.all(1).sum()) for batch in data.all_val_dataloader()))}

    def beside(
        self, recipe: Any, manager: Any, prepared: Any, data: Any, front: Any, progress: Any
    ) -> dict[str, Any]:
        """Speed; bars and the floor stand among the scores."""
        del recipe, manager, prepared, data
        with progress.phase("timing the sampler"):
            front.generate(2)
            began = time.perf_counter()
            front.generate(TIMED)
            return {"images_per_second": TIMED / (time.perf_counter() - began)}

    def generate(self, front: Front, asked: GenerationAsked, note: Callable[[str], object]) -> Iterator[str]:
        """A grid, written as PNG."""
        del note
        drawn = self._draw(front, asked)
        yield f"{drawn['num']} images: {drawn['files'][0]}"

    def records(
        self, front: Front, asked: GenerationAsked, note: Callable[[str], object]
    ) -> Iterator[Mapping[str, Any]]:
        """One for the grid: the file, and the labels of its images from left to right and top to bottom."""
        del note
        yield self._draw(front, asked)

    def _draw(self, front: Front, asked: GenerationAsked) -> dict[str, Any]:
        held: Any = front
        from calmkit.images.grid import write_grid
        from calmkit.rows import ROWS_AT_ONCE
        from calmkit.training.checkpoints import write_moved

        asked.check(self.takes, self.words.data)
        num, out = asked.num or 16, asked.out or Path("grid.png")
        if out.suffix.lower() != ".png":
            raise ValueError(f"--out is written as PNG, got '{out}'; {out.with_suffix('.png')} would do")
        batch, began = asked.batch_size or ROWS_AT_ONCE, time.perf_counter()
        labels = held.labels(num, asked.condition)
        images = held.generate(num, condition=asked.condition, seed=asked.seed, batch_size=batch)
        write_moved(out, lambda temporary: write_grid(temporary, images, columns=columns_of(num)))
        return {
            "files": [str(out)],
            "num": num,
            "labels": None if labels is None else [held.label_names[label] for label in labels.tolist()],
            "seed": asked.seed,
            "seconds": round(time.perf_counter() - began, 6),
            "settings": {"batch_size": batch},
        }

    def sample(self, front: Front, recipe: Any, folder: Path) -> None:
        """`samples.png`: a column for each label, where there are few."""
        held: Any = front
        from calmkit.images.grid import write_grid
        from calmkit.training.checkpoints import write_moved

        num = recipe.evaluation.sample_rows
        images = held.generate(num, seed=recipe.seed)
        labels = len(held.label_names) if held.model.conditioner is not None else 0
        columns = labels if 1 < labels <= 2 * COLUMNS else columns_of(num)
        write_moved(folder / "samples.png", lambda temporary: write_grid(temporary, images, columns=columns))

    def tell(self, scores: Mapping[str, Any]) -> list[str]:
        """The Frechet distance with its interval, beside its floor and its bars."""
        lines = []
        if "fd" in scores:
            told = f"Frechet distance {scores['fd']:.3f}"
            if "fd_low" in scores:
                told += f" (95 % {scores['fd_low']:.3f} to {scores['fd_high']:.3f})"
            beside = {
                "fd_floor": "real images",
                "bar_gaussian_fd": "a Gaussian per class",
                "bar_copy_fd": "copies",
            }
            rest = ", ".join(f"{word} {scores[name]:.3f}" for name, word in beside.items() if name in scores)
            lines = [told, f"Frechet distance of others: {rest}"] if rest else [told]
        if "class_accuracy" in scores:
            network = 100 * scores.get("network_accuracy", float("nan"))
            lines.append(
                f"{100 * scores['class_accuracy']:.1f} % in the class they were asked for "
                f"(the judging network is right on {network:.1f} % of held-out images)"
            )
        if "nats_per_dim" in scores:
            lines.append(f"{scores['nats_per_dim']:.4f} nats per dimension of the latents")
        return lines


def columns_of(num: int) -> int:
    """Columns of a grid of so many images."""
    return min(num, max(COLUMNS, math.isqrt(num))) if num > 4 else num


@hookimpl
def calmkit_data_kinds() -> dict[str, type[DataKind]]:
    """Images."""
    return {"images": ImagesKind}
