"""The laws of measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from calmkit.admission import number_refusal
from calmkit.interfaces import EventSpec, HeldOut, HeldOutMeasure, Measure, Number, Posterior, stored_name
from calmkit.testing import laws
from calmkit.testing.held_out_world import ROWS, Flaw, HeldOutWorld, KnownHead, RoundingAutoencoder
from calmkit.testing.laws import Subject

SEEDS = 8  # of a measure's own randomness; what they spread by is no fault
SPREADS = 8.0
ROUNDING = 1e-4
FRESH = "metric() is fresh, and the measure remembers nothing"
COMPUTED = "every number of info is computed, and finite"
UNTOUCHED = "what other measures see stays as it is"
TRUTH = "a proper number prefers the truth"
FLAWS: tuple[Flaw, ...] = ("none", "shifted", "narrow")
Numbers = dict[str, float]


def check_measure(part: str | type[Measure], **settings: Any) -> None:
    """Hold a measure to its contract, for every kind of event that its `info` names.

    Laws: constructor; its words and the names of its numbers; every number of `info` is computed, and finite;
    `metric` is fresh each time, and the measure itself remembers nothing; batches and processes add up; one
    unit alone and unknown groups are taken; the same seed gives the same numbers, and torch is not seeded;
    nothing that other measures see is changed; a number that is `proper` prefers the truth to a head that is
    shifted and to one that is too sure.

    An exception in the measure is told as the law that was being checked and the call that it came through.
    A measure that needs a capability of a guest's own is held to the first two alone: no head here has it.

    Args:
        part: Name in the registry, or a class.
        settings: Keyword settings of the measure.

    Raises:
        AssertionError: Naming measure, law and what was seen.
    """
    with laws.undisturbed(), laws.default_dtype(torch.float32):
        subject = laws.subject("metrics", part, settings)
        reason = number_refusal(subject.name, subject.cls, {})
        subject.require(reason is None, "its words and its numbers come through the door", str(reason))
        measure = subject.build()
        if not isinstance(measure, HeldOutMeasure) or not all(
            issubclass(KnownHead, need) for need in measure.info.needs
        ):
            return
        for kind in sorted(measure.info.events):
            _check_kind(subject, measure, kind)


def units_by_hand(draws: Tensor, target: Tensor, groups: Tensor | None = None) -> HeldOut:
    """Held-out units whose draws and targets are given, for numbers that a reader can redo.

    Args:
        draws: `[S, N, D]`, latents; whoever asks for draws gets these, however many it asks for.
        target: `[N, D]`, points.
        groups: `[N]`; None: unknown.
    """
    head, autoencoder = KnownHead(EventSpec((target.shape[-1],))), RoundingAutoencoder()
    whole = HeldOutWorld("continuous").held()
    keep = torch.ones(1, len(target), dtype=torch.bool)
    rows = torch.zeros(len(target), dtype=torch.long)
    ids = torch.zeros(len(target), autoencoder.chunk_size, dtype=torch.long)
    drawn = torch.zeros(*draws.shape[:2], autoencoder.chunk_size, dtype=torch.long)
    return replace(
        whole, head=head, context=whole.context[:1, :1], keep=keep, target=Posterior(target), data=ids,
        rows=rows, groups=groups, draw=lambda num: (drawn, draws),
    )  # fmt: skip


def _check_kind(part: Subject, measure: HeldOutMeasure, kind: str) -> None:
    world = HeldOutWorld(kind)
    checks: dict[str, Callable[[], None]] = {
        COMPUTED: lambda: _check_numbers(part, measure, world),
        FRESH: lambda: _check_state(part, measure, world),
        "batches and processes add up": lambda: _check_sums(part, measure, HeldOutWorld(kind, odd_row=True)),
        "same seed, same numbers": lambda: _check_randomness(part, measure, world),
        UNTOUCHED: lambda: _check_untouched(part, measure, world),
        TRUTH: lambda: _check_direction(part, measure, kind),
    }
    for law, check in checks.items():
        with part.under(law, f"of {kind} events, "):
            check()


def _numbers(measure: HeldOutMeasure, helds: Sequence[HeldOut], seed: int = 0) -> Numbers:
    """What a fresh metric computes after these batches."""
    metric = measure.metric()
    torch.manual_seed(seed)
    for held in helds:
        measure.update(metric, held)
    return _computed(metric)


def _computed(metric: Any) -> Numbers:
    found = metric.compute()
    return {key: float(value) for key, value in (found if isinstance(found, dict) else {"": found}).items()}


def _declared(part: Subject, found: Numbers) -> Numbers:
    stored = {stored_name(part.name, key): value for key, value in found.items()}
    return {name: stored[name] for name in part.cls.info.named(part.name)}


def _check_numbers(part: Subject, measure: HeldOutMeasure, world: HeldOutWorld) -> None:
    import torchmetrics

    made: object = measure.metric()
    kind = isinstance(made, torchmetrics.Metric)
    part.require(kind, "metric() is a torchmetrics.Metric", f"{type(made).__name__}")
    for held in (world.held(), replace(world, groups=False).held(), world.held([2, 5])):
        found = _numbers(measure, [held])
        stored = {stored_name(part.name, key) for key in found}
        missing = sorted(set(part.cls.info.named(part.name)) - stored)
        part.require(not missing, COMPUTED, f"{missing} is not among {sorted(stored)}")
        for name, value in _declared(part, found).items():
            part.require(torch.tensor(value).isfinite(), COMPUTED, f"{name} is {value}")
    single = world.held([0], units=1)
    measure.update(measure.metric(), single)


def _check_state(part: Subject, measure: HeldOutMeasure, world: HeldOutWorld) -> None:
    first, second = measure.metric(), measure.metric()
    part.require(first is not second, FRESH, "two calls of metric() gave one object")
    before = _declared(part, _numbers(measure, [world.held([0, 1])]))
    _numbers(measure, [world.held([5, 6, 7])])
    after = _declared(part, _numbers(measure, [world.held([0, 1])]))
    part.require(before == after, FRESH, f"the same units gave {before}, and later {after}")


def _check_sums(part: Subject, measure: HeldOutMeasure, world: HeldOutWorld) -> None:
    """The first row is unlike the others, so that a mean of means is no mean."""
    whole = [_declared(part, _numbers(measure, [world.held()], seed)) for seed in range(SEEDS)]
    few, rest = world.held([0]), world.held(range(1, ROWS))
    batches = [_declared(part, _numbers(measure, [few, rest], seed)) for seed in range(SEEDS)]
    together = [_declared(part, _in_two_processes(measure, few, rest, seed)) for seed in range(SEEDS)]
    for law, seen in (("batches add up", batches), ("processes add up", together)):
        for name in whole[0]:
            one, other = (torch.tensor([f[name] for f in found]).double() for found in (whole, seen))
            allowed = ROUNDING * max(1.0, float(one.abs().mean())) + SPREADS * float(one.std() + other.std())
            gap = float((one.mean() - other.mean()).abs())
            told = f"{name} is {one.mean():.6g} of all units at once, {other.mean():.6g} of two shares"
            part.require(gap <= allowed, law, told)


def _in_two_processes(measure: HeldOutMeasure, first: HeldOut, second: HeldOut, seed: int) -> Numbers:
    """What two processes that hold one batch each compute together: torchmetrics' own sync, fed by hand."""
    metrics = [measure.metric(), measure.metric()]
    torch.manual_seed(seed)
    for metric, held in zip(metrics, (first, second), strict=True):
        measure.update(metric, held)
    theirs: list[Tensor] = []

    def listen(state: Tensor, group: Any) -> list[Tensor]:
        del group
        theirs.append(state)
        return [state]

    metrics[1].sync(dist_sync_fn=listen, distributed_available=lambda: True)
    waiting = iter(theirs)
    metrics[0].dist_sync_fn = lambda state, group: [state, next(waiting)]
    metrics[0].distributed_available_fn = lambda: True  # so that compute() joins the two
    return _computed(metrics[0])


def _check_randomness(part: Subject, measure: HeldOutMeasure, world: HeldOutWorld) -> None:
    held = world.held()
    one, other = _numbers(measure, [held]), _numbers(measure, [held])
    same = str(one) == str(other)
    part.require(same, "same seed, same numbers", f"seed 0 gave {one}, and {other}")
    states = []
    for seed in (0, 1):
        metric = measure.metric()
        torch.manual_seed(seed)
        measure.update(metric, held)
        metric.compute()
        states.append(torch.get_rng_state())
    seeded = torch.equal(*states)
    part.require(not seeded, "torch is not seeded", "after seeds 0 and 1 its generator is in one state")


def _check_untouched(part: Subject, measure: HeldOutMeasure, world: HeldOutWorld) -> None:
    held = world.held()

    def tensors() -> dict[str, Tensor]:
        there = {"context": held.context.h, "keep": held.keep, "target.mean": held.target.mean}
        there |= {"target.log_std": held.target.log_std} if held.target.log_std is not None else {}
        there |= {"groups": held.groups} if held.groups is not None else {}
        return there | {"data": held.data, "rows": held.rows, "draws": held.draws()}

    before = {name: tensor.clone() for name, tensor in tensors().items()}
    measure.update(measure.metric(), held)
    changed = [name for name, tensor in tensors().items() if not torch.equal(tensor, before[name])]
    part.require(not changed, UNTOUCHED, f"{changed} changed")


def _check_direction(part: Subject, measure: HeldOutMeasure, kind: str) -> None:
    own = part.cls.info.numbers
    keyed: dict[str, Number] = {"": own} if isinstance(own, Number) else dict(own)
    found = {flaw: _numbers(measure, [HeldOutWorld(kind, flaw).held()]) for flaw in FLAWS}
    for key, number in keyed.items():
        truth = found["none"][key]
        for flaw in FLAWS[1:] if number.proper else ():
            wrong = found[flaw][key]
            better = truth > wrong if number.better == "higher" else truth < wrong
            told = f"'{number.label}' is {truth:.6g} for the truth, {wrong:.6g} for a {flaw} head"
            part.require(better, TRUTH, f"{told}; {number.better} is said to be better")
