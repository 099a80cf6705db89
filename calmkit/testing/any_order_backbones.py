"""The laws of any-order backbones."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import AnyOrderBackbone
from calmkit.testing import laws
from calmkit.testing.laws import Subject
from calmkit.testing.registered import check_registered

LAYOUTS = ((2, 3), (6,), (1,))
ROWS, PREFIX = 4, 2


def check_any_order_backbone(part: str | type[AnyOrderBackbone], **settings: Any) -> None:
    """Hold an any-order backbone to its contract.

    Laws: constructor; `hidden_dim`; what it keeps is registered; shapes, with and without a prefix, whatever
    is known; no state between calls; gradient; what stands at a unit that is not known is never read, bit for
    bit, be it NaN; a known unit, the prefix and a unit's own position are; a row alone gives what it gives in
    a batch; `state_dict`; dtype and device; it holds under bfloat16 autocast. An exception in it is told as
    the law that was being checked and the call that it came through.

    Args:
        part: Name in the registry, or a class.
        settings: Keyword settings of the backbone; small ones keep the check fast.

    Raises:
        AssertionError: Naming backbone, law and what was seen.
    """
    with laws.undisturbed():
        check_any_order_laws(laws.subject("backbones", part, settings))


def check_any_order_laws(subject: Subject) -> None:
    """The same, of a subject that is known to be one."""
    for layout in LAYOUTS:
        backbone: AnyOrderBackbone = subject.build(layout)
        laws.check_facts(subject, backbone)
        check_registered(subject, backbone)
        with torch.no_grad():
            _check_shapes(subject, backbone, layout)
    layout = LAYOUTS[0]
    backbone = subject.build(layout)
    given = _batch(backbone, layout)
    with torch.no_grad():
        laws.check_repeats(subject, backbone, "forward keeps no state", lambda: backbone(*given).h)
    _check_gradients(subject, backbone, layout)
    # From here on it is a little trained: zero-initialised layers would hide what they do.
    backbone.eval()
    with torch.no_grad():
        _check_hidden(subject, backbone, given)
        _check_known(subject, backbone, given)
        _check_prefix(subject, backbone, given)
        _check_position(subject, backbone, given)
        _check_rows(subject, backbone, given)
        laws.check_state_dict(subject, backbone, subject.build(layout, seed=1), lambda m: [m(*given).h])
        _check_dtype_and_device(subject, layout)


def _batch(backbone: AnyOrderBackbone, layout: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Units, what is known of four rows (nothing, some, others, all), and a prefix."""
    units, width = prod(layout), backbone.hidden_dim
    every = torch.arange(units)
    known = torch.stack([every < 0, every % 2 == 0, every % 3 == 1, every >= 0])
    x = torch.randn(ROWS, units, width, dtype=torch.float64)
    return x, known, torch.randn(ROWS, PREFIX, width, dtype=torch.float64)


@laws.law("h is [B, L, H] and finite")
def _check_shapes(part: Subject, backbone: AnyOrderBackbone, layout: tuple[int, ...]) -> None:
    law = "h is [B, L, H] and finite"
    x, known, prefix = _batch(backbone, layout)
    for rows in (ROWS, 1):
        for before in (None, prefix[:rows]):
            h = backbone(x[:rows], known[:rows], before).h
            where = f"x {tuple(x[:rows].shape)} {'without' if before is None else 'with'} a prefix"
            part.require(h.shape == x[:rows].shape, law, f"{tuple(h.shape)} for {where}")
            part.require(h.isfinite().all(), law, f"not finite for {where}")


def _check_gradients(part: Subject, backbone: AnyOrderBackbone, layout: tuple[int, ...]) -> None:
    def loss() -> Tensor:
        h = backbone(*_batch(backbone, layout)).h
        return (h - torch.randn_like(h)).square().mean()

    laws.check_gradients(part, backbone, loss)


@laws.law("what is not known is never read")
def _check_hidden(part: Subject, backbone: AnyOrderBackbone, given: tuple[Tensor, Tensor, Tensor]) -> None:
    law = "what is not known is never read"
    x, known, prefix = given
    before = backbone(x, known, prefix).h
    for other in (100.0, float("nan")):
        moved = torch.where(known.unsqueeze(-1), x, other)
        after = backbone(moved, known, prefix).h
        changed = (after != before).any(-1)  # true of NaN
        seen = f"with {other} at the hidden units, h changed at (row, unit) {changed.nonzero().tolist()}"
        part.require(not changed.any(), law, seen)


@laws.law("a known unit is read")
def _check_known(part: Subject, backbone: AnyOrderBackbone, given: tuple[Tensor, Tensor, Tensor]) -> None:
    x, known, prefix = given
    before = backbone(x, known, prefix).h
    for row, unit in known.nonzero().tolist():
        moved = x.clone()
        moved[row, unit] = torch.randn_like(moved[row, unit])  # no shift, which a norm takes away
        changed = (backbone(moved, known, prefix).h != before).any(-1)
        changed[row, unit] = True  # its own condition may leave it out
        unread = (~changed[row]).nonzero().flatten().tolist()
        part.require(
            not unread, "a known unit is read", f"h[{row}, {unread}] did not change with unit {unit}"
        )
        changed[row] = False
        part.require(not changed.any(), "a row reads itself alone", f"row {row} changed another")


@laws.law("the prefix is read")
def _check_prefix(part: Subject, backbone: AnyOrderBackbone, given: tuple[Tensor, Tensor, Tensor]) -> None:
    x, known, prefix = given
    before = backbone(x, known, prefix).h
    for place in range(PREFIX):
        moved = prefix.clone()
        moved[:, place] = torch.randn_like(moved[:, place])
        unread = (backbone(x, known, moved).h == before).all(-1).nonzero().tolist()
        seen = f"h at (row, unit) {unread} did not change with the prefix at {place}"
        part.require(not unread, "the prefix is read", seen)


@laws.law("a condition knows its own position")
def _check_position(part: Subject, backbone: AnyOrderBackbone, given: tuple[Tensor, Tensor, Tensor]) -> None:
    x, known, _ = given
    h = backbone(x[:1], torch.zeros_like(known[:1])).h[0]
    gap = (h.unsqueeze(0) - h.unsqueeze(1)).abs().amax(-1) + torch.eye(len(h), dtype=h.dtype)
    seen = "with nothing known, units are conditioned alike"
    part.require((gap > 0).all(), "a condition knows its own position", seen)


@laws.law("a row alone gives what it gives in a batch")
def _check_rows(part: Subject, backbone: AnyOrderBackbone, given: tuple[Tensor, Tensor, Tensor]) -> None:
    h = backbone(*given).h
    for row in range(ROWS):
        alone = backbone(*(value[row : row + 1] for value in given)).h
        part.close(alone[0], h[row], "a row alone gives what it gives in a batch", f"h of row {row}")


@laws.law("dtype and device follow the input")
def _check_dtype_and_device(part: Subject, layout: tuple[int, ...]) -> None:
    single: AnyOrderBackbone = part.build(layout, dtype=torch.float32)
    x, known, prefix = _batch(single, layout)
    laws.check_autocast(part, lambda: [single(x.float(), known, prefix.float()).h])
    device = laws.accelerator()
    for dtype, place in [
        (torch.float32, torch.device("cpu")),
        (torch.float64, torch.device("cpu")),
        *([(torch.float32, device)] if device else []),
    ]:
        backbone: AnyOrderBackbone = part.build(layout, dtype=dtype).to(place)
        given = (x.to(place, dtype), known.to(place), prefix.to(place, dtype))
        with laws.default_dtype(laws.other(dtype)):
            h = backbone(*given).h
        laws.check_dtype(part, h, dtype, "h")
        laws.check_device(part, h, place, "h")
