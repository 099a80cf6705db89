"""From a corpus to two splits of decoded images: what a run does once, before it trains."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from calmkit.data.digest import digest
from calmkit.images.corpus import ImageCorpus, Images
from calmkit.images.datamodule import ImageDataModule
from calmkit.images.image_file import decoded
from calmkit.images.kind import LABELS, sizes_of
from calmkit.images.overlap import Overlap, leak_notes, overlap
from calmkit.interfaces import Autoencoder, Prepared


@final
@dataclass(frozen=True)
class PreparedImages(Prepared):
    """Both splits, decoded.

    Attributes:
        fingerprint: Of the images, their labels and their split.
        leaked: The held-out images that also stand among the training images.
        skipped_notes: What was left out, a line each.
        leak_notes: What leaks, a line, where something does.
        flip: See `ImageCorpus.flip`.
    """

    train: Images
    valid: Images
    image_shape: tuple[int, int, int]
    label_names: tuple[str, ...]
    fingerprint: str
    leaked: Overlap
    skipped_notes: tuple[str, ...]
    leak_notes: tuple[str, ...]
    flip: bool = False

    @property
    def sizes(self) -> dict[str, Any]:  # type: ignore[override]
        """What parts are built with."""
        return sizes_of(self.image_shape, len(self.label_names))

    @property
    def told(self) -> str:  # type: ignore[override]
        """How many images there are."""
        shape = " x ".join(map(str, self.image_shape))
        classes = f" of {len(self.label_names)} classes" if self.label_names else ""
        return f"{len(self.train):,} training and {len(self.valid):,} held-out images, {shape}{classes}"

    def facts(self, autoencoder: Autoencoder) -> dict[str, Any]:
        """Shape, labels and units."""
        return {
            "image_shape": list(self.image_shape),
            "label_names": list(self.label_names),
            "event": list(autoencoder.event.shape),
            "layout": list(autoencoder.layout or ()),
        }

    def save(self, folder: Path) -> None:
        """Shape and names."""
        said = {"image_shape": list(self.image_shape), "label_names": list(self.label_names)}
        (folder / LABELS).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")

    def rows(
        self,
        recipe: Any,
        autoencoder: Autoencoder,
        *,
        batch_size: int,
        max_rows: int,
        among: int | None = None,
    ) -> ImageDataModule:
        """Batches of images."""
        layout = autoencoder.layout
        assert layout is not None
        assert len(layout) == 2
        return ImageDataModule(
            self.train,
            self.valid,
            layout=layout,
            batch_size=batch_size,
            eval_batch_size=recipe.evaluation.batch_size,
            seed=recipe.seed,
            flip=self.flip,
            max_eval_rows=max_rows,
            among=among,
        )

    def scores(self) -> dict[str, Any]:
        """`leaked_images`: share of the held-out images that also stand among the training images."""
        return {"leaked_images": self.leaked.share}

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]
        """All that a person must know of the images."""
        return self.skipped_notes + self.leak_notes


def prepare_images(corpus: ImageCorpus, cache: Path) -> PreparedImages:
    """Decode both splits, or take from the cache what was done before.

    Args:
        corpus: The images.
        cache: See `calmkit.data.cache.default_cache`.

    Raises:
        DataError: A split is empty, or anything `ImageCorpus.images` refuses.
    """
    train, valid = decoded(corpus, "train", cache), decoded(corpus, "valid", cache)
    leaked = overlap(train, valid)
    notes = [*corpus.notes("train", train.skipped), *corpus.notes("valid", valid.skipped)]
    return PreparedImages(
        train,
        valid,
        corpus.image_shape,
        corpus.label_names,
        digest(corpus.identity()),
        leaked,
        tuple(dict.fromkeys(notes)),  # where both sides stand in the same files, once
        tuple(leak_notes(corpus, leaked)),
        corpus.flip,
    )
