"""The laws of conditioners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import Conditioner
from calmkit.testing import laws
from calmkit.testing.laws import HIDDEN_DIM, Subject
from calmkit.testing.registered import check_registered

ROWS = 5
NUM_LABELS = 7
PREFIX_SHAPE = (3, 4)
Draw = Callable[[int], Mapping[str, Tensor]]
"""Number of rows -> a random condition of them, by name."""


def check_conditioner(
    part: str | type[Conditioner],
    draw: Draw | None = None,
    sizes: Mapping[str, Any] | None = None,
    /,
    **settings: Any,
) -> None:
    """Hold a conditioner to its contract.

    Laws: constructor; `length` and `drop` are stated, `drop` a probability below 1; it reads what `reads`
    names and nothing else; what it keeps is registered; the prefix is `[B, length, H]` and finite; no state
    between calls; equal in train and eval mode; rows differ by their conditions; a dropped row gets the null
    condition, whatever its own is, and where all are dropped there may be no condition at all; a row reads
    itself alone; gradient; `state_dict`; dtype and device; it holds under bfloat16 autocast. An exception in
    it is told as the law that was being checked and the call that it came through.

    Args:
        part: Name in the registry, or a class.
        draw: Conditions to try it with, for one that reads others than `label` (one of 7) and `prefix`
            `[B, 3, 4]`.
        sizes: What its constructor gets first by name, where that is more than `hidden_dim`, `num_labels`
            and `prefix_shape`.
        settings: Keyword settings of the conditioner.

    Raises:
        AssertionError: Naming conditioner, law and what was seen.
    """
    with laws.undisturbed():
        subject = laws.subject("conditioners", part, settings)
        known = {"hidden_dim": HIDDEN_DIM, "num_labels": NUM_LABELS, "prefix_shape": PREFIX_SHAPE}
        known |= sizes or {}
        unknown = [size for size in subject.cls.sizes if size not in known]
        law = "its sizes are known"
        subject.require(not unknown, law, f"nobody says what {unknown} are; the argument `sizes` would do")
        _check(subject, tuple(known[size] for size in subject.cls.sizes), draw or _any_condition)


def _any_condition(rows: int) -> Mapping[str, Tensor]:
    label = torch.randperm(NUM_LABELS)[:rows]
    return {"label": label, "prefix": torch.randn(rows, *PREFIX_SHAPE, dtype=torch.float64)}


def _check(part: Subject, sizes: tuple[Any, ...], draw: Draw) -> None:
    conditioner: Conditioner = part.build(*sizes)
    laws.check_facts(part, conditioner)
    law = "drop is a probability"
    part.require(0 <= conditioner.drop < 1, law, f"it is {conditioner.drop}; [0, 1) would do")
    check_registered(part, conditioner)
    condition, none = _read(part, draw(ROWS)), torch.zeros(ROWS, dtype=torch.bool)
    with torch.no_grad():
        _check_shape(part, conditioner, draw)
        law = "a conditioner keeps no state"
        laws.check_repeats(part, conditioner, law, lambda: conditioner(condition, none))
        law = "equal in train and eval mode"
        train, evaluation = (conditioner.train(mode)(condition, none) for mode in (True, False))
        part.close(train, evaluation, law, "prefixes in the two modes")

    def loss() -> Tensor:
        out = conditioner(_read(part, draw(ROWS)), torch.arange(ROWS) % 2 == 0)
        return (out - torch.randn_like(out)).square().mean()

    laws.check_gradients(part, conditioner, loss)
    conditioner.eval()
    with torch.no_grad():
        _check_drop(part, conditioner, condition, _read(part, draw(ROWS)))
        _check_nothing(part, conditioner, condition)
        fresh = part.build(*sizes, seed=1)
        laws.check_state_dict(part, conditioner, fresh, lambda m: [m(condition, none)])
        _check_dtype_and_device(part, sizes, condition)


def _read(part: Subject, condition: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What it says that it reads: a name that it does not say is an exception."""
    missing = [name for name in part.cls.reads if name not in condition]
    seen = f"nobody says what {missing} are; the argument `draw` would do"
    part.require(not missing, "its conditions are known", seen)
    return {name: condition[name] for name in part.cls.reads}


@laws.law("the prefix is [B, length, H] and finite")
def _check_shape(part: Subject, conditioner: Conditioner, draw: Draw) -> None:
    law = "the prefix is [B, length, H] and finite"
    for rows in (1, ROWS):
        for dropped in (True, False):
            drop = torch.full((rows,), dropped)
            out, wanted = conditioner(_read(part, draw(rows)), drop), (rows, conditioner.length, HIDDEN_DIM)
            part.require(out.shape == wanted, law, f"{tuple(out.shape)} instead of {wanted}")
            part.require(out.isfinite().all(), law, f"not finite for {rows} rows")


@laws.law("a dropped row gets the null condition")
def _check_drop(
    part: Subject, conditioner: Conditioner, condition: dict[str, Tensor], other: dict[str, Tensor]
) -> None:
    none, first = torch.zeros(ROWS, dtype=torch.bool), torch.arange(ROWS) == 0
    kept, null = conditioner(condition, none), conditioner(condition, ~none)
    law = "a dropped row gets the null condition, whatever its own is"
    same = torch.equal(null, null[:1].expand_as(null)) and torch.equal(null, conditioner(other, ~none))
    part.require(same, law, "dropped rows differ with their conditions")
    part.require(not torch.equal(kept, null), law, "it is what a row gets that is not dropped")
    part.require(
        torch.equal(conditioner(condition, first)[0], null[0]), law, "row 0 differs where it alone is dropped"
    )
    law, kept_rows = "a row reads itself alone", conditioner(condition, first)[1:]
    part.require(torch.equal(kept_rows, kept[1:]), law, "row 0 was dropped, and another changed")
    out = conditioner({name: torch.cat([value[1:2], value[1:]]) for name, value in condition.items()}, none)
    part.require(torch.equal(out[1:], kept[1:]), law, "row 0 was another, and others changed")
    law = "rows differ by their conditions"
    part.require(not torch.equal(out[0], kept[0]), law, "row 0 was another, and its prefix the same")


@laws.law("where all rows are dropped the condition may be empty")
def _check_nothing(part: Subject, conditioner: Conditioner, condition: dict[str, Tensor]) -> None:
    """As guidance asks for the null condition, and whoever draws of nothing."""
    law, every = "where all rows are dropped the condition may be empty", torch.ones(ROWS, dtype=torch.bool)
    same = torch.equal(conditioner({}, every), conditioner(condition, every))
    part.require(same, law, "it is another prefix than that of dropped rows")


@laws.law("dtype and device follow the parameters")
def _check_dtype_and_device(part: Subject, sizes: tuple[Any, ...], condition: dict[str, Tensor]) -> None:
    some = torch.arange(ROWS) % 2 == 0
    single: Conditioner = part.build(*sizes, dtype=torch.float32)
    laws.check_autocast(part, lambda: [single(_cast(condition, torch.float32), some)])
    device = laws.accelerator()
    for dtype, place in [
        (torch.float32, torch.device("cpu")),
        (torch.float64, torch.device("cpu")),
        *([(torch.float32, device)] if device else []),
    ]:
        conditioner: Conditioner = part.build(*sizes, dtype=dtype).to(place)
        given = {name: value.to(place) for name, value in _cast(condition, dtype).items()}
        with laws.default_dtype(laws.other(dtype)):
            out = conditioner(given, some.to(place))
        laws.check_dtype(part, out, dtype, "a prefix")
        laws.check_device(part, out, place, "a prefix")


def _cast(condition: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in condition.items()
    }
