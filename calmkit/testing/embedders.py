"""The laws of embedders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import Embedder, EventSpec
from calmkit.testing import laws
from calmkit.testing.laws import CHUNK_SIZE, HIDDEN_DIM, LEADING, VOCAB_SIZE, Subject
from calmkit.testing.registered import check_registered

CONTINUOUS = EventSpec((6,))


def check_embedder(part: str | type[Embedder], **settings: Any) -> None:
    """Hold an embedder to its contract.

    Laws: constructor; `reads`; what it keeps is registered; no state between calls; one vector of width H per
    unit, for any leading dimensions; each depends on its own unit only, and on what `reads` says; equal in
    train and eval mode; gradient; `state_dict`; dtype and device; it holds under bfloat16 autocast. One that
    reads the ids is held to them beside token ids too. An exception in it is told as the law that was being
    checked and the call that it came through.

    Args:
        part: Name in the registry, or a class.
        settings: Keyword settings of the embedder.

    Raises:
        AssertionError: Naming embedder, law and what was seen.
    """
    with laws.undisturbed():
        embedder = laws.subject("embedders", part, settings)
        _check_event(embedder, CONTINUOUS, CHUNK_SIZE)
        if embedder.cls.reads == "data":
            for chunk_size in (CHUNK_SIZE, 1):
                _check_event(embedder, EventSpec((chunk_size,), VOCAB_SIZE), chunk_size)


def _sizes(part: Subject, event: EventSpec, chunk_size: int) -> tuple[Any, ...]:
    """What the constructor of this embedder gets first."""
    known = {"hidden_dim": HIDDEN_DIM, "event": event, "chunk_size": chunk_size, "vocab_size": VOCAB_SIZE}
    return tuple(known[size] for size in part.cls.sizes)


def _units(event: EventSpec, chunk_size: int, units: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    data = torch.randint(VOCAB_SIZE, (*units, chunk_size))
    z = data if event.vocab_size is not None else torch.randn(*units, *event.shape, dtype=torch.float64)
    return data, z


def _check_event(part: Subject, event: EventSpec, chunk_size: int) -> None:
    sizes = _sizes(part, event, chunk_size)
    embedder: Embedder = part.build(*sizes)
    check_registered(part, embedder)
    _check_shapes(part, embedder, event, chunk_size)
    data, z = _units(event, chunk_size, (2, 5))
    laws.check_repeats(part, embedder, "an embedder keeps no state", lambda: embedder(data, z))

    def loss() -> Tensor:
        out = embedder(*_units(event, chunk_size, (2, 5)))
        return (out - torch.randn_like(out)).square().mean()

    laws.check_gradients(part, embedder, loss)
    law = "equal in train and eval mode"
    with part.under(law):
        train, evaluation = (embedder.train(mode)(data, z) for mode in (True, False))
        part.close(train, evaluation, law, "vectors in the two modes")
    _check_reads(part, embedder, event, data, z)
    laws.check_state_dict(part, embedder, part.build(*sizes, seed=1), lambda m: [m(data, z)])
    _check_dtype_and_device(part, event, chunk_size)


@laws.law("one vector per unit")
def _check_shapes(part: Subject, embedder: Embedder, event: EventSpec, chunk_size: int) -> None:
    for units in LEADING:
        out, law = embedder(*_units(event, chunk_size, units)), "one vector per unit"
        wanted = (*units, HIDDEN_DIM)
        part.require(out.shape == wanted, law, f"{tuple(out.shape)} instead of {wanted}")
        part.require(out.isfinite().all(), "vectors are finite", f"not for units {units}")


@laws.law("dtype and device follow the input")
def _check_dtype_and_device(part: Subject, event: EventSpec, chunk_size: int) -> None:
    sizes, (data, z) = _sizes(part, event, chunk_size), _units(event, chunk_size, (2, 5))
    for dtype in (torch.float32, torch.float64):
        with laws.default_dtype(laws.other(dtype)):
            out = part.build(*sizes, dtype=dtype)(data, z if event.vocab_size is not None else z.to(dtype))
        laws.check_dtype(part, out, dtype, "a vector")
    z = z if event.vocab_size is not None else z.float()
    embedder: Embedder = part.build(*sizes, dtype=torch.float32)
    laws.check_autocast(part, lambda: [embedder(data, z)])
    device = laws.accelerator()
    if device is not None:
        laws.check_device(part, embedder.to(device)(data.to(device), z.to(device)), device, "a vector")


@laws.law("reads says what is read")
def _check_reads(part: Subject, embedder: Embedder, event: EventSpec, data: Tensor, z: Tensor) -> None:
    before = embedder(data, z)
    other_data, other_z = data.clone(), z.clone()
    other_data[0, 0] = (data[0, 0] + 1) % VOCAB_SIZE
    if event.vocab_size is None:
        other_z[0, 0] += 3.0
    else:
        other_z[0, 0] = other_data[0, 0]
    after = embedder(other_data, other_z)
    law = "each vector depends on its own unit only"
    part.close(after.flatten(0, 1)[1:], before.flatten(0, 1)[1:], law, "vectors of the other units")
    part.require(
        not torch.equal(after[0, 0], before[0, 0]), "a vector depends on its unit", "it did not change"
    )
    if event.vocab_size is not None:
        return  # the value is the ids
    for name, changed in (("data", (other_data, z)), ("latents", (data, other_z))):
        read = not torch.equal(embedder(*changed), before)
        told = embedder.reads in (name, "both")
        did = "changed" if read else "did not change"
        seen = f"reads is '{embedder.reads}', yet the {name} {did} the vectors"
        part.require(read == told, "reads says what is read", seen)
