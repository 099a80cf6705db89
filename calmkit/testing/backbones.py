"""The laws of backbones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import AnyOrderBackbone, Backbone, State
from calmkit.testing import laws
from calmkit.testing.any_order_backbones import check_any_order_laws
from calmkit.testing.laws import Subject
from calmkit.testing.registered import check_registered

ROWS, UNITS = 3, 7


def check_backbone(part: str | type[Backbone] | type[AnyOrderBackbone], **settings: Any) -> None:
    """Hold a backbone to its contract; an any-order one to that of `check_any_order_backbone`.

    Laws: constructor; `hidden_dim`; what it keeps is registered; shapes; no state between calls; a start
    vector where no valid unit came before; no leak from the future, bit for bit; every valid unit is seen by
    those after it; invalid units are not, on the left or the right; a row alone gives what it gives in a
    batch; `step`, one at a time and in blocks, equals `forward`; `select` commutes with `step`; stepping an
    older state again is right or an error; the branches of `states` equal `forward`; gradient; `state_dict`;
    dtype and device; it holds under bfloat16 autocast. An exception in it is told as the law that was being
    checked and the call that it came through.

    Args:
        part: Name in the registry, or a class.
        settings: Keyword settings of the backbone; small ones keep the check fast.

    Raises:
        AssertionError: Naming backbone, law and what was seen.
    """
    with laws.undisturbed():
        subject = laws.subject("backbones", part, settings)
        if issubclass(subject.cls, AnyOrderBackbone):
            check_any_order_laws(subject)
            return
        backbone: Backbone = subject.build()
        laws.check_facts(subject, backbone)
        check_registered(subject, backbone)
        with torch.no_grad():
            _check_shapes(subject, backbone)
            given = _batch(backbone)
            laws.check_repeats(subject, backbone, "forward keeps no state", lambda: backbone(*given).h)
        _check_gradients(subject, backbone)
        # From here on it is a little trained: zero-initialised layers would hide what they do.
        backbone.eval()
        with torch.no_grad():
            _check_causal(subject, backbone)
            _check_filling(subject, backbone)
            _check_rows(subject, backbone)
            _check_step(subject, backbone)
            _check_select(subject, backbone)
            _check_older_state(subject, backbone)
            _check_states(subject, backbone)
            x, valid = _batch(backbone)
            fresh = subject.build(seed=1)
            laws.check_state_dict(subject, backbone, fresh, lambda m: [m(x, valid).h])
            _check_dtype_and_device(subject)


def _batch(backbone: Backbone, units: int = UNITS) -> tuple[Tensor, Tensor]:
    """Three rows: all real, two fillings on the left, two on the right."""
    valid = torch.ones(ROWS, units, dtype=torch.bool)
    valid[1, :2] = False
    valid[2, -2:] = False
    return torch.randn(ROWS, units, backbone.hidden_dim, dtype=torch.float64), valid


def _check_gradients(part: Subject, backbone: Backbone) -> None:
    def loss() -> Tensor:
        x = torch.randn(ROWS, UNITS, backbone.hidden_dim, dtype=torch.float64)
        h = backbone(x, torch.ones(ROWS, UNITS, dtype=torch.bool)).h
        return (h - torch.randn_like(h)).square().mean()

    laws.check_gradients(part, backbone, loss)


@laws.law("h is [B, L, H] and finite")
def _check_shapes(part: Subject, backbone: Backbone) -> None:
    for batch, units in ((1, 1), (2, 1), (2, 5)):
        x = torch.randn(batch, units, backbone.hidden_dim, dtype=torch.float64)
        h, law = backbone(x, torch.ones(batch, units, dtype=torch.bool)).h, "h is [B, L, H] and finite"
        part.require(h.shape == x.shape, law, f"{tuple(h.shape)} for x {tuple(x.shape)}")
        part.require(h.isfinite().all(), law, f"not finite for x {tuple(x.shape)}")
    h = backbone.start(2, 4)[0].h
    wanted, law = (2, 1, backbone.hidden_dim), "start gives the condition of unit 0"
    part.require(h.shape == wanted, law, f"shape {tuple(h.shape)} instead of {wanted}")


@laws.law("no leak from the future")
def _check_causal(part: Subject, backbone: Backbone) -> None:
    x, valid = _batch(backbone)
    before = backbone(x, valid).h
    for j in range(UNITS):
        moved = x.clone()
        moved[:, j] += 3.0
        after = backbone(moved, valid).h
        same = torch.equal(after[:, : j + 1], before[:, : j + 1])
        part.require(same, "no leak from the future", f"unit {j} changed h[:, :{j + 1}]")
        for row in range(ROWS):
            unseen = torch.equal(after[row, j + 1 :], before[row, j + 1 :])
            if not valid[row, j]:
                law, seen = "an invalid unit is never read", f"unit {j} of row {row} changed later conditions"
                part.require(unseen, law, seen)
            elif j + 1 < UNITS:
                law, seen = "the next condition sees a valid unit", f"unit {j} changed nothing after it"
                part.require(not torch.equal(after[row, j + 1], before[row, j + 1]), law, seen)


@laws.law("filling on the left changes nothing")
def _check_filling(part: Subject, backbone: Backbone) -> None:
    """Filled on the left, a row is as it was without, behind the start vector."""
    x, _ = _batch(backbone)
    real = torch.ones(ROWS, UNITS, dtype=torch.bool)
    h, start = backbone(x, real).h, backbone.start(ROWS, UNITS)[0].h
    part.close(h[:, :1], start, "unit 0 is conditioned by the start vector", "h[:, 0] and start's h")
    law = "filling on the left changes nothing"
    for count in (1, 3):
        filling = 100.0 * torch.randn(ROWS, count, backbone.hidden_dim, dtype=torch.float64)
        valid = torch.cat([torch.zeros(ROWS, count, dtype=torch.bool), real], 1)
        filled = backbone(torch.cat([filling, x], 1), valid).h
        part.close(filled[:, count:], h, law, f"h behind {count} fillings and without")
        at_start = start.expand_as(filled[:, : count + 1])
        law_start = "where no valid unit came before, h is the start vector"
        part.close(filled[:, : count + 1], at_start, law_start, f"h at {count} fillings and start's h")


@laws.law("a row alone gives what it gives in a batch")
def _check_rows(part: Subject, backbone: Backbone) -> None:
    x, valid = _batch(backbone)
    h = backbone(x, valid).h
    for row in range(ROWS):
        alone = backbone(x[row : row + 1], valid[row : row + 1]).h
        part.close(alone[0], h[row], "a row alone gives what it gives in a batch", f"h of row {row}")


def _walk(backbone: Backbone, x: Tensor, valid: Tensor, blocks: tuple[int, ...]) -> Tensor:
    context, state = backbone.start(len(x), x.shape[1])
    pieces, at = [context.h], 0
    for n in blocks:
        context, state = backbone.step(x[:, at : at + n], valid[:, at : at + n], state)
        pieces.append(context.h)
        at += n
    return torch.cat(pieces, 1)


@laws.law("step equals forward")
def _check_step(part: Subject, backbone: Backbone) -> None:
    x, valid = _batch(backbone)
    h = backbone(x, valid).h
    for blocks in ((1,) * (UNITS - 1), (UNITS - 1,), (2, 1, 3), (1, 4, 1)):
        walked = _walk(backbone, x, valid, blocks)
        part.close(walked, h, "step equals forward", f"h in blocks {blocks} and at once")


def _read(backbone: Backbone, x: Tensor, valid: Tensor, room: int = UNITS) -> State:
    state = backbone.start(len(x), room)[1]
    return backbone.step(x, valid, state)[1]


@laws.law("select commutes with step")
def _check_select(part: Subject, backbone: Backbone) -> None:
    x, valid = _batch(backbone)
    h = backbone(x, valid).h
    for picked in ([1, 1, 0], [2], [2, 0, 1, 1, 2]):
        rows = torch.tensor(picked)
        state = backbone.select(_read(backbone, x[:, :4], valid[:, :4]), rows)
        got, law = [], "select commutes with step"
        for i in (4, 5):  # twice: rows that were copied must go on independently
            context, state = backbone.step(x[rows, i : i + 1], valid[rows, i : i + 1], state)
            got.append(context.h)
        part.close(torch.cat(got, 1), h[rows, 5:7], law, f"h of rows {picked} selected before and after")
    rows = torch.tensor([0, 0])
    state = backbone.select(_read(backbone, x[:, :4], valid[:, :4]), rows)
    pair = torch.stack([x[0, 4], x[1, 4]]).unsqueeze(1)
    copies = backbone.step(pair, torch.ones(2, 1, dtype=torch.bool), state)[0].h
    for copy in range(2):
        line = torch.cat([x[:1, :4], pair[copy : copy + 1]], 1)
        wanted = _walk(backbone, line, torch.ones(1, 5, dtype=torch.bool), (5,))[:, -1:]
        part.close(
            copies[copy : copy + 1], wanted, "copies of a row go on independently", f"h of copy {copy}"
        )


@laws.law("stepping an older state again is right, or an error")
def _check_older_state(part: Subject, backbone: Backbone) -> None:
    """A state is a value: stepping an older one again is right, or an error, never a silent mix."""
    x, _ = _batch(backbone)
    one = torch.ones(ROWS, 1, dtype=torch.bool)
    law = "stepping an older state again is right, or an error"
    h = backbone(x, torch.ones(ROWS, UNITS, dtype=torch.bool)).h
    older = _read(backbone, x[:, :4], one.expand(-1, 4))
    _, newer = backbone.step(x[:, 4:5], one, older)
    detour = torch.randn(ROWS, 1, backbone.hidden_dim, dtype=torch.float64)
    line = torch.cat([x[:, :4], detour], 1)
    wanted = _walk(backbone, line, one.expand(-1, 5), (5,))[:, -1:]
    try:
        again = backbone.step(detour, one, older)[0].h
    except Exception:  # refusing is lawful, whatever the error is called
        return
    part.close(again, wanted, law, "h after stepping the older state again")
    try:
        onward = backbone.step(x[:, 5:6], one, newer)[0].h
    except Exception:
        return
    part.close(onward, h[:, 6:7], law, "h of the newer state after the older one was stepped again")


@laws.law("the branches of states equal forward")
def _check_states(part: Subject, backbone: Backbone) -> None:
    """Branch (b, i) has read the units before i of row b."""
    x, valid = _batch(backbone)
    law, width = "the branches of states equal forward", x.shape[-1]
    ahead = torch.randn(ROWS, UNITS, 2, width, dtype=torch.float64)  # what each branch is rolled out with
    one = torch.ones(ROWS * UNITS, 1, dtype=torch.bool)
    state = backbone.states(x, valid)
    first, state = backbone.step(x.reshape(-1, 1, width), valid.reshape(-1, 1), state)
    h = first.h.reshape(ROWS, UNITS, width)
    part.close(h[:, :-1], backbone(x, valid).h[:, 1:], law, "h one unit on")
    second, state = backbone.step(ahead[:, :, 0].reshape(-1, 1, width), one, state)
    picked = torch.tensor([0, 4, UNITS + 3, 3 * UNITS - 1, 4])
    state = backbone.select(state, picked)
    third = backbone.step(ahead.reshape(-1, 2, width)[picked, 1:], one[picked], state)[0].h
    for k, branch in enumerate(picked.tolist()):
        b, i = divmod(branch, UNITS)
        line = torch.cat([x[b, : i + 1], ahead[b, i]]).unsqueeze(0)
        real = torch.cat([valid[b, : i + 1], torch.ones(2, dtype=torch.bool)]).unsqueeze(0)
        wanted = _walk(backbone, line, real, (i + 3,))[0]
        part.close(second.h[branch, 0], wanted[-2], law, f"h of branch ({b}, {i}) two units on")
        part.close(third[k, 0], wanted[-1], law, f"h of branch ({b}, {i}), selected, three units on")


@laws.law("dtype and device follow the input")
def _check_dtype_and_device(part: Subject) -> None:
    single: Backbone = part.build(dtype=torch.float32)
    x, valid = _batch(single)
    x = x.float()
    laws.check_autocast(part, lambda: [single(x, valid).h, _walk(single, x, valid, (2, 1, 3))])
    device = laws.accelerator()
    for dtype, place in [
        (torch.float32, torch.device("cpu")),
        (torch.float64, torch.device("cpu")),
        *([(torch.float32, device)] if device else []),
    ]:
        backbone: Backbone = part.build(dtype=dtype).to(place)
        x, valid = (t.to(place) for t in _batch(backbone))
        with laws.default_dtype(laws.other(dtype)):
            h, walked = backbone(x.to(dtype), valid).h, _walk(backbone, x.to(dtype), valid, (2, 1, 3))
        for value, what in ((h, "forward's h"), (walked, "the h of start and step")):
            laws.check_dtype(part, value, dtype, what)
            laws.check_device(part, value, place, what)
        # An accelerator may take another kernel for a step than for a whole row.
        part.close(walked.cpu(), h.cpu(), "step equals forward", f"h in {dtype} on {place.type}", 1e-4)
