"""The kit sees what is wrong with an any-order backbone: each keeps every law but one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from calmkit.backbones.any_order import AnyOrderTransformer
from calmkit.interfaces import AnyOrderBackbone, Context
from calmkit.testing import check_any_order_backbone, check_backbone


class Masked(AnyOrderBackbone):
    """The backbone of the house, wrapped: each subclass breaks one law."""

    def __init__(self, layout: tuple[int, ...]) -> None:
        super().__init__()
        self.hidden_dim = 8
        self.inner = AnyOrderTransformer(layout, hidden_dim=8, depth=1, heads=2, buffer=1)

    def forward(self, x: Tensor, known: Tensor, prefix: Tensor | None = None) -> Context:
        return self.inner(x, known, prefix)


class Peeks(Masked):
    """A hidden unit reads itself."""

    def forward(self, x: Tensor, known: Tensor, prefix: Tensor | None = None) -> Context:
        return Context(super().forward(x, known, prefix).h + 1e-9 * x)


class Multiplies(Masked):
    """Takes hidden units away by a product, which NaN survives."""

    def forward(self, x: Tensor, known: Tensor, prefix: Tensor | None = None) -> Context:
        hidden = (x * known.unsqueeze(-1)).sum(1, keepdim=True)
        return Context(super().forward(x, known, prefix).h + hidden)


class Half(Masked):
    """Never reads the first unit."""

    def forward(self, x: Tensor, known: Tensor, prefix: Tensor | None = None) -> Context:
        known = known.clone()
        known[:, 0] = False
        return super().forward(x, known, prefix)


class Neighbourly(Masked):
    """Leans on the row before."""

    def forward(self, x: Tensor, known: Tensor, prefix: Tensor | None = None) -> Context:
        h = super().forward(x, known, prefix).h
        return Context(h + 0.1 * h.roll(1, 0))


class Unasked(Masked):
    """Reads no prefix."""

    def forward(self, x: Tensor, known: Tensor, prefix: Tensor | None = None) -> Context:
        return super().forward(x, known)


class Lost(AnyOrderBackbone):
    """Does not know where it is: all units get the sum of what is known."""

    def __init__(self, layout: tuple[int, ...]) -> None:
        super().__init__()
        del layout
        self.hidden_dim = 8
        self.own = nn.Linear(8, 8)

    def forward(self, x: Tensor, known: Tensor, prefix: Tensor | None = None) -> Context:
        seen = torch.where(known.unsqueeze(-1), x, 0.0)
        seen = seen if prefix is None else torch.cat([seen, prefix], 1)
        return Context(self.own(seen).sum(1, keepdim=True).expand_as(x))


class Shorter(Masked):
    """Gives no condition of the last unit."""

    def forward(self, x: Tensor, known: Tensor, prefix: Tensor | None = None) -> Context:
        return Context(super().forward(x, known, prefix).h[:, :-1])


class Counts(Masked):
    """Adds up its calls."""

    def forward(self, x: Tensor, known: Tensor, prefix: Tensor | None = None) -> Context:
        self.calls = getattr(self, "calls", 0) + 1
        return Context(super().forward(x, known, prefix).h + self.calls)


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (Peeks, "what is not known is never read"),
        (Multiplies, "what is not known is never read"),
        (Half, "a known unit is read"),
        (Neighbourly, "a row reads itself alone"),
        (Unasked, "the prefix is read"),
        (Lost, "a condition knows its own position"),
        (Shorter, r"h is \[B, L, H\] and finite"),
        (Counts, "forward keeps no state"),
    ],
)
def test_a_broken_any_order_backbone_is_seen(cls: type[AnyOrderBackbone], law: str) -> None:
    with pytest.raises(AssertionError, match=f"backbones: '{cls.__name__}' breaks the law '{law}'"):
        check_any_order_backbone(cls)


def test_the_wrapped_backbone_itself_keeps_every_law() -> None:
    check_any_order_backbone(Masked)
    check_backbone(Masked)


def test_a_backbone_is_held_to_the_contract_of_its_kind() -> None:
    with pytest.raises(AssertionError, match="what is not known is never read"):
        check_backbone(Peeks)
