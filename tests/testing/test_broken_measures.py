"""The conformance kit sees what is wrong with a measure, and names the law."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor

from calmkit.interfaces import (
    DensityHead,
    HeldOut,
    HeldOutMeasure,
    IterativeHead,
    Measure,
    MeasureInfo,
    Number,
)
from calmkit.metrics.unit_means import UnitMeans
from calmkit.testing import check_measure
from calmkit.testing.held_out_world import HeldOutWorld
from calmkit.testing.laws import LawBroken

NLL = Number("nats", better="lower", meaning="Minus the log density.", proper=True)


class Good(HeldOutMeasure):
    """Minus the log density of the posterior's mean, nats per unit."""

    info = MeasureInfo(NLL, needs=(DensityHead, IterativeHead))

    def metric(self) -> torchmetrics.Metric:
        return UnitMeans()

    def update(self, metric: torchmetrics.Metric, held: HeldOut) -> None:
        metric.update(held, self.values(held))

    def values(self, held: HeldOut) -> Tensor:
        return -held.log_prob(held.target.mean)


class Noisy(Good):
    """The same of a posterior draw: its own randomness is no fault."""

    def values(self, held: HeldOut) -> Tensor:
        return -held.log_prob(held.target.sample(1)[0])


class WrongWay(Good):
    """Says that more is better."""

    info = MeasureInfo(Number("nats", better="higher", meaning="Minus the log density.", proper=True))


class Blind(Good):
    """Prefers a head that is too sure: the squared distance of a draw."""

    info = MeasureInfo(Number("distance", better="lower", meaning="Of draws.", proper=True))

    def values(self, held: HeldOut) -> Tensor:
        return (held.draws().double() - held.target.mean).square().flatten(2).sum(-1).mean(0)


class MeanOfMeans(Good):
    """Averages batches, whatever their size."""

    def metric(self) -> torchmetrics.Metric:
        return torchmetrics.MeanMetric()

    def update(self, metric: torchmetrics.Metric, held: HeldOut) -> None:
        metric.update(self.values(held).mean())


class Sum(torchmetrics.Metric):
    """Forgets to add its states over processes."""

    full_state_update = False

    def __init__(self, remembers: str | None = "sum") -> None:
        super().__init__()
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx=remembers)
        self.add_state("count", default=torch.tensor(0.0), dist_reduce_fx=remembers)

    def update(self, values: Tensor) -> None:
        self.total = self.total + values.sum()
        self.count = self.count + len(values)

    def compute(self) -> Tensor:
        return (self.total / self.count).mean()


class EachForItself(MeanOfMeans):
    """A mean of the processes' means."""

    def metric(self) -> torchmetrics.Metric:
        return Sum(None)

    def update(self, metric: torchmetrics.Metric, held: HeldOut) -> None:
        metric.update(self.values(held))


class Summed(EachForItself):
    """A metric of one's own, as it should be."""

    def metric(self) -> torchmetrics.Metric:
        return Sum()


class OneForAll(Good):
    """Hands out the same metric."""

    def __init__(self) -> None:
        self.kept = UnitMeans()

    def metric(self) -> torchmetrics.Metric:
        return self.kept


class Remembers(Good):
    """Scales by the first batch it ever saw."""

    def __init__(self) -> None:
        self.scale: Tensor | None = None

    def values(self, held: HeldOut) -> Tensor:
        found = super().values(held)
        self.scale = found.mean() if self.scale is None else 0.5 * self.scale
        return found / self.scale


class NotFinite(Good):
    """Its log is of a negative number."""

    def values(self, held: HeldOut) -> Tensor:
        return (-1 - super().values(held).square()).log()


class Missing(Good):
    """Says two numbers and computes one."""

    info = MeasureInfo({"": NLL, "spread": NLL})


class NoMetric(Good):
    """Returns a list."""

    def metric(self) -> Any:
        return []


class Seeds(Good):
    """Seeds torch."""

    def values(self, held: HeldOut) -> Tensor:
        torch.manual_seed(3)
        return super().values(held)


class Writes(Good):
    """Changes the draws that the next measure sees."""

    def values(self, held: HeldOut) -> Tensor:
        held.draws().mul_(2)
        return super().values(held)


class OwnSource(Good):
    """Takes its randomness from elsewhere."""

    generator = torch.Generator().manual_seed(0)

    def values(self, held: HeldOut) -> Tensor:
        return super().values(held) * torch.rand(1, generator=self.generator)


class NoDocumentsNoNumber(Good):
    """Can't do without documents."""

    def values(self, held: HeldOut) -> Tensor:
        return super().values(held) * (1.0 if held.groups is not None else float("nan"))


class Raises(Good):
    """Breaks on ids."""

    def values(self, held: HeldOut) -> Tensor:
        if not held.target.mean.is_floating_point():
            raise RuntimeError("no ids here.\nMore lines.")
        return super().values(held)


class Unspoken(Measure):
    """Has no info."""


BROKEN = {
    WrongWay: "a proper number prefers the truth",
    Blind: "a proper number prefers the truth",
    MeanOfMeans: "batches add up",
    EachForItself: "processes add up",
    OneForAll: "metric() is fresh, and the measure remembers nothing",
    Remembers: "metric() is fresh, and the measure remembers nothing",
    NotFinite: "every number of info is computed, and finite",
    NoDocumentsNoNumber: "every number of info is computed, and finite",
    Missing: "every number of info is computed, and finite",
    NoMetric: "metric() is a torchmetrics.Metric",
    Seeds: "torch is not seeded",
    Writes: "what other measures see stays as it is",
    OwnSource: "metric() is fresh, and the measure remembers nothing",
    Raises: "every number of info is computed, and finite",
    Unspoken: "its words and its numbers come through the door",
}


@pytest.mark.parametrize("cls", [Good, Noisy, Summed])
def test_a_good_measure_passes(cls: type[Measure]) -> None:
    before = torch.get_rng_state()
    check_measure(cls)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_measure_is_seen(cls: type[Measure]) -> None:
    with pytest.raises(AssertionError) as caught:
        check_measure(cls)
    assert str(caught.value).startswith(f"metrics: '{cls.__name__}' breaks the law '{BROKEN[cls]}': ")


def test_what_a_measure_raises_is_told_with_the_law_and_the_kind_of_event() -> None:
    call = r"of tokens events, update\(metric=UnitMeans, held=HeldOut\(.*\)\) \(.*, line \d+\)"
    with pytest.raises(AssertionError, match=rf"{call} raised RuntimeError: no ids here\.$"):
        check_measure(Raises)


class NotBuilt(Good):
    """Looks for a key that is not there."""

    def __init__(self) -> None:
        raise KeyError("abacus")


class Asserts(Good):
    """Says what it needs by an assertion, as its own authors would."""

    def values(self, held: HeldOut) -> Tensor:
        assert held.data.sum() < 0, "none below zero"
        return super().values(held)


class Says(Good):
    """Asserts, without a word, in the metric's own maker."""

    def metric(self) -> torchmetrics.Metric:
        assert not self.info.needs
        return super().metric()


@pytest.mark.parametrize(
    ("cls", "law", "seen"),
    [
        (
            NotBuilt,
            "it is built from its sizes and its settings",
            r"__init__\(\) \(.*\) raised KeyError: 'abacus'",
        ),
        (Asserts, BROKEN[Raises], r"of \w+ events, update\(.*\) raised AssertionError: none below zero"),
        (Says, BROKEN[Raises], r"of \w+ events, metric\(\) \(.*\) raised AssertionError"),
    ],
)
def test_what_goes_wrong_inside_is_told_as_law_and_call(cls: type[Measure], law: str, seen: str) -> None:
    with pytest.raises(LawBroken, match=f"^metrics: '{cls.__name__}' breaks the law '{law}': {seen}"):
        check_measure(cls)


def test_a_capability_that_only_a_guest_has_is_no_fault() -> None:
    class Own(Good):
        """Needs what the kit has not."""

        info = MeasureInfo(NLL, needs=(UnitMeans,))

        def __init__(self) -> None:
            pass

    check_measure(Own)


def test_rows_of_the_world_keep_their_units_whichever_are_asked_for() -> None:
    world = HeldOutWorld("continuous")
    whole, one = world.held(), world.held([3])
    mine = whole.rows == 3
    assert torch.equal(whole.data[mine], one.data)
    assert torch.equal(whole.draws()[:, mine], one.draws())
    assert torch.equal(whole.target.mean[mine], one.target.mean)
