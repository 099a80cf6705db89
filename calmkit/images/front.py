"""A trained model of images as users hold it: labels in, images out.

Source: class-conditional generation: Li et al., MAR, 2024, section 5. https://arxiv.org/abs/2406.11838
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import SupportsIndex, cast, final

import torch
from torch import Tensor

from calmkit.generation import Precision
from calmkit.interfaces import Front, RowSampler
from calmkit.model import CalmModel
from calmkit.rows import draw_rows

Labels = SupportsIndex | str | Sequence[SupportsIndex | str] | Tensor
"""A label by number or by name, the same for all images, or one for each."""


@final
class ImageModel(Front):
    """A model with its sampler and the names of its labels.

    Args:
        model: In eval mode.
        sampler: The one of its recipe.
        label_names: By label; empty where the data have none.
        precision: In which it draws; see `calmkit.generation`.
    """

    def __init__(
        self,
        model: CalmModel,
        sampler: RowSampler,
        label_names: Sequence[str],
        precision: Precision = "auto",
    ) -> None:
        self.model, self.sampler = model, sampler
        self.label_names, self.precision = tuple(label_names), precision

    def generate(
        self,
        num: int = 1,
        *,
        condition: Mapping[str, Labels] | None = None,
        seed: int = 0,
        sampler: RowSampler | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Draw images `[num, C, H, W]`, floats in [-1, 1].

        Args:
            num: How many, one at least.
            condition: `{"label": 3}`, a label by number or by name, the same for all, or one each; None: as
                often as possible each label in turn, for a model that knows any.
            seed: Same seed, same images, of the same number in the same batches.
            sampler: Instead of the recipe's.
            batch_size: Images that are drawn together, which share one stream of random numbers; None: as
                many as `draw_rows` takes.

        Raises:
            ValueError: No image is asked for, a condition that the model does not take, or a label that there
                is not.
        """
        if num < 1:
            raise ValueError(f"at least one image can be asked for, got {num}")
        labels = self.labels(num, condition or {})
        given = None if labels is None else {"label": labels}
        drawn = draw_rows(
            self.model,
            sampler or self.sampler,
            num,
            condition=given,
            seed=seed,
            precision=self.precision,
            rows_at_once=batch_size,
        )
        return drawn.data

    def labels(self, num: int, condition: Mapping[str, object]) -> Tensor | None:
        """The label of each image; None for a model that takes none. Whatever is no `Labels` is refused.

        Raises:
            ValueError: See `generate`.
        """
        unknown = sorted(set(condition) - {"label"})
        if unknown:
            raise ValueError(f"there is no condition '{unknown[0]}'; images have: label")
        if self.model.conditioner is None:
            if condition:
                raise ValueError("this model was trained without labels (its recipe has no conditioner)")
            return None
        asked = condition.get("label")
        if asked is None:
            return torch.arange(num) % len(self.label_names)
        asked = asked.tolist() if isinstance(asked, Tensor) else asked
        if isinstance(asked, str) or not isinstance(asked, Iterable):
            return torch.full((num,), self._number(asked))
        numbers = [self._number(one) for one in asked]
        if len(numbers) != num:
            raise ValueError(f"there are {len(numbers)} labels for {num} images; one each would do")
        return torch.tensor(numbers)

    def _number(self, label: object) -> int:
        """The number of a label by number or by name."""
        if isinstance(label, str) and label in self.label_names:
            return self.label_names.index(label)
        try:
            number = int(label) if isinstance(label, str) else index(cast(SupportsIndex, label))
        except TypeError:
            raise ValueError(f"a label is a name or a whole number, got {label!r}") from None
        except ValueError:
            number = -1
        if not 0 <= number < len(self.label_names):
            shown = ", ".join(self.label_names[:12]) + (", ..." if len(self.label_names) > 12 else "")
            raise ValueError(
                f"there is no label '{label}'; there are 0 to {len(self.label_names) - 1}: {shown}"
            )
        return number
