"""The kit sees what is wrong with a conditioner: each keeps every law but one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calmkit.conditioners.label import LabelConditioner
from calmkit.interfaces import Conditioner
from calmkit.testing import check_conditioner


class Named(Conditioner):
    """The label, wrapped: each subclass breaks one law."""

    sizes = ("hidden_dim", "num_labels")
    reads: tuple[str, ...] = ("label",)

    def __init__(self, hidden_dim: int, num_labels: int) -> None:
        super().__init__()
        self.inner = LabelConditioner(hidden_dim, num_labels, length=2)
        self.length, self.drop = 2, 0.1

    def forward(self, condition: Mapping[str, Tensor], drop: Tensor) -> Tensor:
        return self.inner(condition, drop)


class Longer(Named):
    """Says one unit and gives two."""

    def __init__(self, hidden_dim: int, num_labels: int) -> None:
        super().__init__(hidden_dim, num_labels)
        self.length = 1


class Always(Named):
    """Drops every row, always."""

    def __init__(self, hidden_dim: int, num_labels: int) -> None:
        super().__init__(hidden_dim, num_labels)
        self.drop = 1.0


class Unsaid(Named):
    """Reads what it does not name."""

    reads = ("prefix",)


class Keeps(Named):
    """Drops nothing."""

    def forward(self, condition: Mapping[str, Tensor], drop: Tensor) -> Tensor:
        return super().forward(condition, torch.zeros_like(drop)) + 0 * self.inner.embedding.weight[-1]


class Shrinks(Named):
    """A dropped row is a smaller one."""

    def forward(self, condition: Mapping[str, Tensor], drop: Tensor) -> Tensor:
        every = super().forward(condition, torch.zeros_like(drop))
        return torch.where(drop[:, None, None], 0.5 * every, every)


class Blind(Named):
    """All rows alike."""

    def forward(self, condition: Mapping[str, Tensor], drop: Tensor) -> Tensor:
        first = torch.zeros_like(condition["label"])
        return super().forward({"label": first}, drop)


class Given(Named):
    """Reads a condition even where there is none to read."""

    def forward(self, condition: Mapping[str, Tensor], drop: Tensor) -> Tensor:
        return super().forward({"label": condition["label"]}, drop)


class Neighbourly(Named):
    """Leans on the mean over rows."""

    def forward(self, condition: Mapping[str, Tensor], drop: Tensor) -> Tensor:
        out = super().forward(condition, drop)
        kept = (~drop).to(out.dtype)[:, None, None]
        return out + kept * (kept * out).mean(0)


class Moody(Named):
    """Drops by itself in training."""

    def __init__(self, hidden_dim: int, num_labels: int) -> None:
        super().__init__(hidden_dim, num_labels)
        self.dropout = nn.Dropout(0.5)

    def forward(self, condition: Mapping[str, Tensor], drop: Tensor) -> Tensor:
        return self.dropout(super().forward(condition, drop))


class Unlearned(Named):
    """Its null condition is a number of nobody's."""

    def forward(self, condition: Mapping[str, Tensor], drop: Tensor) -> Tensor:
        every = super().forward(condition, torch.zeros_like(drop))
        return torch.where(
            drop[:, None, None],
            torch.ones((), dtype=torch.get_default_dtype()),
            every.to(torch.get_default_dtype()),
        )


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (Longer, r"the prefix is \[B, length, H\] and finite"),
        (Always, "drop is a probability"),
        (Unsaid, "a dropped row gets the null condition, whatever its own is"),
        (Keeps, "a dropped row gets the null condition"),
        (Shrinks, "a dropped row gets the null condition"),
        (Blind, "rows differ by their conditions"),
        (Given, "where all rows are dropped the condition may be empty"),
        (Neighbourly, "a row reads itself alone"),
        (Moody, "equal in train and eval mode"),
        (Unlearned, "dtype follows the input"),
    ],
)
def test_a_broken_conditioner_is_seen(cls: type[Conditioner], law: str) -> None:
    with pytest.raises(AssertionError, match=f"conditioners: '{cls.__name__}' breaks the law '{law}"):
        check_conditioner(cls)


def test_the_wrapped_conditioner_itself_keeps_every_law() -> None:
    check_conditioner(Named)


class Speed(Conditioner):
    """A guest with a condition and a size of its own."""

    sizes = ("hidden_dim", "num_speeds")
    reads = ("speed",)

    def __init__(self, hidden_dim: int, num_speeds: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_speeds + 1, hidden_dim)
        self.length, self.drop, self.num_speeds = 1, 0.2, num_speeds

    def forward(self, condition: Mapping[str, Tensor], drop: Tensor) -> Tensor:
        speed = condition.get("speed", torch.zeros_like(drop, dtype=torch.long))
        return self.table(torch.where(drop, self.num_speeds, speed)).unsqueeze(1)


def test_a_guest_says_what_its_conditions_are() -> None:
    def draw(rows: int) -> dict[str, Any]:
        return {"speed": torch.randperm(9)[:rows]}

    check_conditioner(Speed, draw, {"num_speeds": 9})
    with pytest.raises(AssertionError, match=r"nobody says what \['num_speeds'\] are; the argument `sizes`"):
        check_conditioner(Speed, draw)
    with pytest.raises(AssertionError, match=r"nobody says what \['speed'\] are; the argument `draw`"):
        check_conditioner(Speed, None, {"num_speeds": 9})
