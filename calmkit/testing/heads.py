"""The laws of heads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from calmkit.head_calls import head_draws, head_log_prob, head_loss
from calmkit.interfaces import (
    Context,
    DensityHead,
    EventSpec,
    GenerativeHead,
    GuidedHead,
    IterativeHead,
    Posterior,
    SampleOptions,
    ScheduledHead,
    WeightedHead,
)
from calmkit.testing import laws
from calmkit.testing.density import check_density, make_context, make_target
from calmkit.testing.guidance import check_guidance
from calmkit.testing.head_options import check_options
from calmkit.testing.laws import CHUNK_SIZE, HIDDEN_DIM, LEADING, VOCAB_SIZE, Subject
from calmkit.testing.registered import check_registered
from calmkit.testing.schedules import check_schedule, loss_on_the_way
from calmkit.testing.weighted import check_weighted

EVENTS = {
    "continuous": (EventSpec((6,)),),
    "tokens": (EventSpec((CHUNK_SIZE,), VOCAB_SIZE), EventSpec((1,), VOCAB_SIZE)),
}


def check_head(part: str | type[GenerativeHead], **settings: Any) -> None:
    """Hold a head to its contract, for every kind of event that its `info` names.

    Laws: constructor; `info`; what it keeps is registered; shapes and one finite loss per unit for any
    leading dimensions; no state between calls; units independent of each other; the same loss in train and
    eval mode; gradient; same seed same draw, other seed other draw (a head whose draws are all equal is
    deterministic and must stay so); `state_dict`; dtype and device; called as training calls it, in bfloat16
    or, where `info.half_precision` is false, in float32; sample options honoured or refused; a temperature
    below 1 narrows the draws; a density that sums to 1 and agrees with the draws; of a `GuidedHead`, guided
    draws that are draws, and no guidance by terms of one condition; of a `ScheduledHead`, a loss that goes by
    the fraction alone, is that of the end unless told, and leaves nothing in the `state_dict`; of a
    `WeightedHead`, picks by the weights that follow the law of the draws.

    An exception in the head is told as the law that was being checked and the call that it came through. A
    head is never asked for zero units, as the core never does.

    Args:
        part: Name in the registry, or a class.
        settings: Keyword settings of the head; small ones keep the check fast.

    Raises:
        AssertionError: Naming head, law and what was seen.
    """
    with laws.undisturbed():
        head = laws.subject("heads", part, settings)
        for event in (event for kind in sorted(head.cls.info.events) for event in EVENTS[kind]):
            _check_event(head, event)


def _check_event(part: Subject, event: EventSpec) -> None:
    head: GenerativeHead = part.build(HIDDEN_DIM, event)
    check_registered(part, head)
    _check_shapes(part, head, event)
    context, target = make_context(head, (2, 5)), make_target(event, (2, 5))
    laws.check_repeats(part, head, "a loss keeps no state", lambda: head.loss(context, target))

    def loss() -> Tensor:
        units = _leading(head)[-1]
        if isinstance(head, ScheduledHead):
            return loss_on_the_way(head, event, units)
        return head.loss(make_context(head, units), make_target(event, units)).mean()

    laws.check_gradients(part, head, loss)
    # From here on the head is a little trained: at birth the draws of a zero-initialised head are all equal,
    # and the loss may see neither condition nor target, nor what it keeps between calls.
    laws.check_repeats(part, head, "a loss keeps no state", lambda: head.loss(context, target))
    _check_units(part, head, event)
    _check_mode(part, head, event)
    _check_seed(part, head, event)
    check_options(part, head, event)
    if isinstance(head, ScheduledHead):
        check_schedule(part, head, event)
    if isinstance(head, GuidedHead):
        check_guidance(part, head, event)
    if isinstance(head, WeightedHead):
        check_weighted(part, head, event)
    _check_calls(part, head)
    laws.check_state_dict(
        part,
        head,
        part.build(HIDDEN_DIM, event, seed=1),
        lambda m: [laws.with_seed(0, m.loss, context, target), laws.with_seed(0, m.sample, context, 2)],
    )
    if isinstance(head, DensityHead):
        check_density(part, event)
    _check_dtype_and_device(part, event)


def _leading(head: GenerativeHead) -> list[tuple[int, ...]]:
    """Heads with a memory get `[B, L]` unflattened."""
    return [(1, 3), (2, 5)] if head.info.needs_memory else list(LEADING)


@laws.law("loss and draws for any leading dimensions")
def _check_shapes(part: Subject, head: GenerativeHead, event: EventSpec) -> None:
    for units in _leading(head):
        context, target = make_context(head, units), make_target(event, units)
        points = [target] if target.log_std is None else [target, Posterior(target.mean)]
        for posterior in points:
            loss = head.loss(context, posterior)
            law = "one loss per unit, not reduced"
            part.require(loss.shape == units, law, f"{tuple(loss.shape)} for units {units}")
            part.require(loss.isfinite().all(), "a loss is finite", f"units {units} gave {loss.tolist()}")
        for num in (1, 3):
            draws, law = head.sample(context, num), "draws are [num, *units, *event]"
            wanted = (num, *units, *event.shape)
            part.require(draws.shape == wanted, law, f"{tuple(draws.shape)} instead of {wanted}")
            part.require(draws.isfinite().all(), "draws are finite", f"units {units} gave {draws.tolist()}")
            if event.vocab_size is not None:
                inside = not draws.is_floating_point() and ((draws >= 0) & (draws < event.vocab_size)).all()
                part.require(inside, "draws of ids are ids", f"{draws.dtype} {draws.tolist()}")


@laws.law("the loss of a unit depends on its own condition and target")
def _check_units(part: Subject, head: GenerativeHead, event: EventSpec) -> None:
    """The loss of a unit answers to its own condition and target, and to nobody else's."""
    units = (2, 5)
    context, target = make_context(head, units), make_target(event, units)
    mean, h = target.mean.clone(), context.h.clone()
    mean[0, 0] = (mean[0, 0] + 1) % event.vocab_size if event.vocab_size else mean[0, 0] + 3.0
    h[0, 0] += 3.0
    before = laws.with_seed(0, head.loss, context, target)
    for what, after in (
        ("target", laws.with_seed(0, head.loss, context, Posterior(mean, target.log_std))),
        ("condition", laws.with_seed(0, head.loss, replace(context, h=h), target)),
    ):
        law = f"the loss of a unit depends on no other unit's {what}"
        part.close(after.flatten()[1:], before.flatten()[1:], law, "losses of the other units")
        law, seen = f"the loss of a unit depends on its {what}", f"moving it left {before[0, 0].item():.6g}"
        part.require(after[0, 0] != before[0, 0], law, seen)


@laws.law("a loss means the same in train and eval mode")
def _check_mode(part: Subject, head: GenerativeHead, event: EventSpec) -> None:
    context, target = make_context(head, (2, 5)), make_target(event, (2, 5))
    law = "a loss means the same in train and eval mode"
    train, evaluation = (laws.with_seed(0, head.train(mode).loss, context, target) for mode in (True, False))
    part.close(train, evaluation, law, "the two losses at equal seed")


@laws.law("same seed, same draw")
def _check_seed(part: Subject, head: GenerativeHead, event: EventSpec) -> None:
    context = make_context(head, (2, 5))
    first, again, elsewhere = (laws.with_seed(seed, head.sample, context, 4) for seed in (0, 0, 1))
    part.require(torch.equal(first, again), "same seed, same draw", "two calls with seed 0 differ")
    if (first == first[:1]).all():
        law = "a head whose draws are all equal is deterministic"
        part.require(torch.equal(first, elsewhere), law, "another seed gave other draws")
        return
    part.require(not torch.equal(first, elsewhere), "other seed, other draw", "seeds 0 and 1 draw the same")
    for i in range(1, 4):
        law = "draws of one call are independent"
        part.require(not torch.equal(first[0], first[i]), law, f"draws 0 and {i} are the same for every unit")


@laws.law("network_calls is a positive count, or None")
def _check_calls(part: Subject, head: GenerativeHead) -> None:
    if not isinstance(head, IterativeHead):
        return
    law = "network_calls is a positive count, or None"
    tries = [None, SampleOptions(num_steps=5)] if "num_steps" in head.info.options else [None]
    for options in tries:
        calls = head.network_calls(options)
        part.require(calls is None or calls >= 1, law, f"{calls} for {options}")


@laws.law("dtype and device follow the input")
def _check_dtype_and_device(part: Subject, event: EventSpec) -> None:
    dtypes = [torch.float32, torch.float64]
    if part.cls.info.half_precision:
        dtypes.append(torch.bfloat16)
    for dtype in dtypes:
        head = part.build(HIDDEN_DIM, event, dtype=dtype)
        context, target = make_context(head, (2, 5), dtype), make_target(event, (2, 5), dtype)
        with laws.default_dtype(laws.other(dtype)):
            loss, draws = head.loss(context, target), head.sample(context, 2)
        # A sum in half precision loses digits, so a loss may be wider than bfloat16.
        wide = dtype == torch.bfloat16 and loss.dtype == torch.float32
        laws.check_dtype(part, loss, torch.float32 if wide else dtype, "the loss")
        if event.vocab_size is None:
            laws.check_dtype(part, draws, dtype, "a draw")
        finite = loss.isfinite().all() and draws.isfinite().all()
        part.require(finite, "loss and draws are finite", f"not in {dtype}")
    _check_autocast(part, event)
    device = laws.accelerator()
    if device is not None:
        head = part.build(HIDDEN_DIM, event, dtype=torch.float32).to(device)
        context, target = make_context(head, (2, 5), torch.float32), make_target(event, (2, 5), torch.float32)
        memory, visible = (None if t is None else t.to(device) for t in (context.memory, context.visible))
        context = Context(context.h.to(device), memory, visible)
        log_std = None if target.log_std is None else target.log_std.to(device)
        loss = head.loss(context, Posterior(target.mean.to(device), log_std))
        laws.check_device(part, loss, device, "the loss")
        laws.check_device(part, head.sample(context, 2), device, "a draw")


@laws.law("a head holds as training calls it")
def _check_autocast(part: Subject, event: EventSpec) -> None:
    """Weights and targets in float32, h and matrix products in bfloat16 or as `info.half_precision` asks."""
    head = part.build(HIDDEN_DIM, event, dtype=torch.float32).train()
    context, target = make_context(head, (2, 5), torch.float32), make_target(event, (2, 5), torch.float32)
    context = replace(context, h=context.h.bfloat16())
    half, where = head.info.half_precision, "under bfloat16 autocast"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, draws = head_loss(head, context, target), head_draws(head, context, 2)
        values = {"loss": loss, "draws": draws}
        if isinstance(head, DensityHead):
            values["log_prob"] = head_log_prob(head, context, target.mean)
    for name, value in values.items():
        law = "loss, draws and density are finite"
        part.require(value.isfinite().all(), law, f"{name} is not {where}: {value.tolist()}")
        wide = half or value.dtype in (torch.float32, torch.int64)
        part.require(wide, "dtype follows the input", f"{name} is {value.dtype}, called in float32")
    loss.mean().backward()
    bad = [n for n, p in head.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    part.require(not bad, "gradients are finite", f"not {where} for {bad}")
