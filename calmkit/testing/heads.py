"""The laws of heads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import (
    Context,
    DensityHead,
    EventSpec,
    GenerativeHead,
    IterativeHead,
    Posterior,
    SampleOptions,
)
from calmkit.testing import laws
from calmkit.testing.density import check_density, make_context, make_target
from calmkit.testing.laws import CHUNK_SIZE, HIDDEN_DIM, VOCAB_SIZE, Subject

EVENTS = {
    "continuous": (EventSpec((6,)),),
    "tokens": (EventSpec((CHUNK_SIZE,), VOCAB_SIZE), EventSpec((1,), VOCAB_SIZE)),
}


def check_head(part: str | type[GenerativeHead], **settings: Any) -> None:
    """Hold a head to its contract, for every kind of event that its `info` names.

    Laws: constructor; shapes and one finite loss per unit for any leading dimensions; units independent of
    each other; the same loss in train and eval mode; gradient; same seed same draw, other seed other draw (a
    head whose draws are all equal is deterministic and must stay so); `state_dict`; dtype and device; sample
    options honoured or refused; a temperature below 1 narrows the draws; a density that sums to 1 and agrees
    with the draws.

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
    _check_shapes(part, head, event)

    def loss() -> Tensor:
        units = _leading(head)[-1]
        return head.loss(make_context(head, units), make_target(event, units)).mean()

    laws.check_gradients(part, head, loss)
    # From here on the head is a little trained: at birth the draws of a zero-initialised head are all equal,
    # and the loss may see neither condition nor target.
    _check_units(part, head, event)
    _check_mode(part, head, event)
    _check_seed(part, head, event)
    _check_options(part, head, event)
    _check_calls(part, head)
    context, target = make_context(head, (2, 5)), make_target(event, (2, 5))
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
    return [(2, 0), (1, 3), (2, 5)] if head.info.needs_memory else [(), (3,), (0,), (2, 0), (2, 5)]


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


def _check_mode(part: Subject, head: GenerativeHead, event: EventSpec) -> None:
    context, target = make_context(head, (2, 5)), make_target(event, (2, 5))
    law = "a loss means the same in train and eval mode"
    train, evaluation = (laws.with_seed(0, head.train(mode).loss, context, target) for mode in (True, False))
    part.close(train, evaluation, law, "the two losses at equal seed")


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


def _check_options(part: Subject, head: GenerativeHead, event: EventSpec) -> None:
    context, honoured = make_context(head, (2, 5)), head.info.options
    tries = {"temperature": 0.5, "num_steps": 2, "solver": "euler", "generator": torch.Generator()}
    for name in sorted(tries.keys() - honoured):
        seen = f"'{name}' is not in info.options, yet sample() took it"
        _require_refused(part, head, context, SampleOptions(**{name: tries[name]}), seen)  # type: ignore[arg-type]
    named = head.info.temperature != "none"
    law = "info.temperature says what info.options honours"
    seen = f"temperature is '{head.info.temperature}', options {sorted(honoured)}"
    part.require(named == ("temperature" in honoured), law, seen)
    if named:
        _require_refused(part, head, context, SampleOptions(temperature=0.0), "sample() took temperature 0")
        _check_temperature(part, head, event)
    if "solver" in honoured:
        unknown = SampleOptions(solver="no such solver")
        _require_refused(part, head, context, unknown, "sample() took solver 'no such solver'")
    if "num_steps" in honoured:
        draws = head.sample(context, 2, SampleOptions(num_steps=2))
        part.require(draws.isfinite().all(), "draws are finite", f"num_steps=2 gave {draws.tolist()}")
    if "generator" in honoured:
        left, right = (laws.with_seed(seed, head.sample, context, 2, _generator_options()) for seed in (0, 1))
        law = "a given generator is the only source of randomness"
        part.require(torch.equal(left, right), law, "draws changed with torch's default generator")


def _generator_options() -> SampleOptions:
    return SampleOptions(generator=torch.Generator().manual_seed(5))


def _require_refused(
    part: Subject, head: GenerativeHead, context: Context, options: SampleOptions, seen: str
) -> None:
    try:
        head.sample(context, 1, options)
    except ValueError:
        return
    part.require(False, "a sample option is honoured or a ValueError, never ignored", seen)


def _check_temperature(part: Subject, head: GenerativeHead, event: EventSpec) -> None:
    """Seeded, and far from the border: the spread at temperature 0.1 against that at 1, over 256 draws."""
    context = make_context(head, (1, 4))
    cold, plain, one = (
        laws.with_seed(0, head.sample, context, 256, options)
        for options in (SampleOptions(temperature=0.1), None, SampleOptions(temperature=1.0))
    )
    part.close(one, plain, "temperature 1 changes nothing", "draws with it and without")
    law, (low, high) = "a temperature below 1 narrows the draws", (_spread(cold, event), _spread(one, event))
    seen = f"spread {low:.4g} at temperature 0.1, {high:.4g} at 1"
    # A temperature on noise leaves the first noise of an iterative head alone, and of a head that has hardly
    # learned that may be nearly all of the spread.
    allowed = 1.01 * high if head.info.temperature == "noise" else high
    part.require(low <= allowed and not torch.equal(cold, one), law, seen)


def _spread(draws: Tensor, event: EventSpec) -> float:
    """Mean standard deviation, or, of ids, the share of draws that are not the most frequent id."""
    if event.vocab_size is None:
        return draws.std(0).mean().item()
    ids = torch.nn.functional.one_hot(draws, event.vocab_size).double().mean(0)
    return 1 - ids.amax(-1).mean().item()


def _check_calls(part: Subject, head: GenerativeHead) -> None:
    iterative = head.info.sampling == "iterative"
    law = "IterativeHead exactly where info.sampling is 'iterative'"
    part.require(
        isinstance(head, IterativeHead) == iterative, law, f"info.sampling is '{head.info.sampling}'"
    )
    if not isinstance(head, IterativeHead):
        return
    law = "network_calls is a positive count, or None"
    tries = [None, SampleOptions(num_steps=5)] if "num_steps" in head.info.options else [None]
    for options in tries:
        calls = head.network_calls(options)
        part.require(calls is None or calls >= 1, law, f"{calls} for {options}")


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
    if part.cls.info.half_precision:
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


def _check_autocast(part: Subject, event: EventSpec) -> None:
    """How training runs it: float32 weights and targets, matrix products in bfloat16."""
    head = part.build(HIDDEN_DIM, event, dtype=torch.float32).train()
    context, target = make_context(head, (2, 5), torch.float32), make_target(event, (2, 5), torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head.loss(context, target)
    part.require(loss.isfinite().all(), "a loss is finite", f"{loss.tolist()} under bfloat16 autocast")
    loss.mean().backward()
    bad = [n for n, p in head.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    part.require(not bad, "gradients are finite", f"not under bfloat16 autocast for {bad}")
