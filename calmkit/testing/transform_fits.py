"""The laws of fitting a latent transform, and the values that all of its laws are checked on."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from calmkit.interfaces import EventSpec, LatentTransform, Posterior
from calmkit.testing import laws
from calmkit.testing.laws import Subject

EVENT = EventSpec((6,))
UNITS = 5  # of a row without a layout
FITTED = "before it is fitted it refuses"


def some_values(
    layout: tuple[int, ...] | None, leading: tuple[int, ...] = (3,), units: int = UNITS
) -> Tensor:
    """Rows whose dimensions differ in center and scale."""
    units = units if layout is None else prod(layout)
    scale = torch.linspace(0.5, 2.0, EVENT.shape[0], dtype=torch.float64)
    return 3.0 * scale.flip(0) + scale * torch.randn(*leading, units, EVENT.shape[0], dtype=torch.float64)


def shape_out(transform: LatentTransform, z: Tensor) -> tuple[int, ...]:
    """Of what comes out: as many numbers as come in."""
    return (*z.shape[:-2], z.shape[-2] * z.shape[-1] // transform.event.shape[0], *transform.event.shape)


@laws.law("fit is repeatable and sees its batches once")
def check_fit(part: Subject, transform: LatentTransform, layout: tuple[int, ...] | None) -> None:
    """Fit twice, after two seeds, from batches that can be gone over once; and to a single row."""
    law = "fit is repeatable and sees its batches once"
    batches = [some_values(layout, (4,)) for _ in range(3)]
    given = [z.clone() for z in batches]
    before = _state(transform)
    laws.with_seed(0, transform.fit, iter(batches))
    first = _state(transform)
    same = all(torch.equal(left, right) for left, right in zip(given, batches, strict=True))
    part.require(same, "fit leaves the values alone", "they were changed")
    laws.with_seed(1, transform.fit, iter(batches))
    changed = [name for name, value in first.items() if not torch.equal(value, _state(transform)[name])]
    part.require(not changed, law, f"a second fit to the same values, after another seed, changed {changed}")
    part.build(EVENT, layout).fit([some_values(layout, (1,))])
    fills = any(not torch.equal(value, before[name]) for name, value in first.items())
    if fills:
        _check_unfitted(part, part.build(EVENT, layout), layout)


@laws.law(FITTED)
def _check_unfitted(part: Subject, fresh: LatentTransform, layout: tuple[int, ...] | None) -> None:
    z = some_values(layout)
    out = torch.randn(*shape_out(fresh, z), dtype=z.dtype)
    calls = {"forward": lambda: fresh(z), "inverse": lambda: fresh.inverse(out)}
    if fresh.keeps_gaussians:
        calls["posterior"] = lambda: fresh.posterior(Posterior(z, torch.zeros_like(z)))
    for name, call in calls.items():
        try:
            call()
        except RuntimeError as error:
            seen = f"{name} raised a RuntimeError that says nothing of fit: {error}".rstrip(".")
            part.require("fit" in str(error), FITTED, seen)
        else:
            part.require(False, FITTED, f"{name} gave numbers, though fit fills what it needs")


def _state(transform: LatentTransform) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in transform.state_dict().items()}
