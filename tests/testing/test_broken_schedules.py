"""The conformance kit sees heads whose schedule is none: each keeps every law but one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions, ScheduledHead
from calmkit.testing import check_head


class Scheduled(ScheduledHead):
    """A small head with a bonus for small scales that fades: each subclass breaks one law."""

    info = replace(RegressionHead.info)

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__()
        self.inner = RegressionHead(hidden_dim, event, depth=1)
        self.scale = nn.Parameter(torch.ones(1))
        self.fraction = 1.0

    def at_progress(self, fraction: float) -> None:
        self.fraction = fraction

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return self.inner.loss(context, target) + (1 - self.fraction) * self.scale.square().sum()

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return self.inner.sample(context, num, options)


class Counts(Scheduled):
    """Goes by how often it was told, as a head that counts its steps would."""

    def at_progress(self, fraction: float) -> None:
        self.fraction = self.fraction * 0.5 if fraction < 1 else 1.0


class OnlyForward(Scheduled):
    """Never goes back."""

    def at_progress(self, fraction: float) -> None:
        self.fraction = max(fraction, 0.0 if self.fraction == 1 else self.fraction)


class CountsLosses(Scheduled):
    """Goes by the losses that were asked of it since it was told."""

    def at_progress(self, fraction: float) -> None:
        self.fraction, self.asked = fraction, 0

    def loss(self, context: Context, target: Posterior) -> Tensor:
        loss = super().loss(context, target)
        self.fraction = min(1.0, self.fraction + 0.1)
        return loss


class StartsAtTheBeginning(Scheduled):
    """Is built at 0, so what is loaded for a measurement has the loss of a first step."""

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__(hidden_dim, event)
        self.fraction = 0.0


class Saves(Scheduled):
    """Keeps the fraction in a buffer."""

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__(hidden_dim, event)
        self.register_buffer("kept", torch.ones(()))

    def at_progress(self, fraction: float) -> None:
        self.fraction = fraction
        self.kept = torch.full_like(self.kept, fraction)


class Drops(Scheduled):
    """Lets a parameter go where its weight is 0."""

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return super().loss(context, target) if self.fraction < 1 else self.inner.loss(context, target)


class Dead(Scheduled):
    """Has a parameter that matters at no fraction."""

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return self.inner.loss(context, target) + 0.0 * self.scale.sum()


BY_FRACTION = "the loss at a fraction of the training depends on that fraction alone"
BROKEN = [
    (Counts, BY_FRACTION),
    (OnlyForward, BY_FRACTION),
    (CountsLosses, BY_FRACTION),
    (StartsAtTheBeginning, "a head is built at the end of its training"),
    (Saves, r"stays out of the state_dict': \['kept'\] changed"),
    (Drops, r"every parameter has a gradient at every fraction': none for \['scale'\] at 1"),
    (Dead, r"all zero for \['scale'\]"),
]


@pytest.mark.parametrize(("cls", "law"), BROKEN)
def test_a_broken_schedule_is_seen(cls: type[ScheduledHead], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_head(cls)


def test_the_scheduled_head_itself_keeps_every_law() -> None:
    check_head(Scheduled)
