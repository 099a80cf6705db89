"""The laws of embedders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import Embedder, EventSpec
from calmkit.testing import laws
from calmkit.testing.laws import CHUNK_SIZE, HIDDEN_DIM, LEADING, VOCAB_SIZE, Subject

CONTINUOUS = EventSpec((6,))


def check_embedder(part: str | type[Embedder], **settings: Any) -> None:
    """Hold an embedder to its contract.

    Laws: constructor; one vector of width H per unit, for any leading dimensions; each depends on its own
    unit only, and on what `reads` says; equal in train and eval mode; gradient; `state_dict`; dtype and
    device. One that reads the ids is held to them beside token ids too.

    Args:
        part: Name in the registry, or a class.
        settings: Keyword settings of the embedder.

    Raises:
        AssertionError: Naming embedder, law and what was seen.
    """
    with laws.undisturbed():
        embedder = laws.subject("embedders", part, settings)
        reads = getattr(embedder.cls, "reads", None)
        known = ("data", "latents", "both")
        embedder.require(reads in known, "reads is 'data', 'latents' or 'both'", f"it is {reads!r}")
        _check_event(embedder, CONTINUOUS, CHUNK_SIZE)
        if reads == "data":
            for chunk_size in (CHUNK_SIZE, 1):
                _check_event(embedder, EventSpec((chunk_size,), VOCAB_SIZE), chunk_size)


def _units(event: EventSpec, chunk_size: int, units: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    data = torch.randint(VOCAB_SIZE, (*units, chunk_size))
    z = data if event.vocab_size is not None else torch.randn(*units, *event.shape, dtype=torch.float64)
    return data, z


def _check_event(part: Subject, event: EventSpec, chunk_size: int) -> None:
    sizes = (HIDDEN_DIM, event, chunk_size, VOCAB_SIZE)
    embedder: Embedder = part.build(*sizes)
    for units in LEADING:
        out, law = embedder(*_units(event, chunk_size, units)), "one vector per unit"
        wanted = (*units, HIDDEN_DIM)
        part.require(out.shape == wanted, law, f"{tuple(out.shape)} instead of {wanted}")
        part.require(out.isfinite().all(), "vectors are finite", f"not for units {units}")

    def loss() -> Tensor:
        out = embedder(*_units(event, chunk_size, (2, 5)))
        return (out - torch.randn_like(out)).square().mean()

    laws.check_gradients(part, embedder, loss)
    data, z = _units(event, chunk_size, (2, 5))
    train, evaluation = (embedder.train(mode)(data, z) for mode in (True, False))
    part.close(train, evaluation, "equal in train and eval mode", "vectors in the two modes")
    _check_reads(part, embedder, event, data, z)
    laws.check_state_dict(part, embedder, part.build(*sizes, seed=1), lambda m: [m(data, z)])
    for dtype in (torch.float32, torch.float64):
        with laws.default_dtype(laws.other(dtype)):
            out = part.build(*sizes, dtype=dtype)(data, z if event.vocab_size is not None else z.to(dtype))
        laws.check_dtype(part, out, dtype, "a vector")
    device = laws.accelerator()
    if device is not None:
        z = z if event.vocab_size is not None else z.float()
        out = part.build(*sizes, dtype=torch.float32).to(device)(data.to(device), z.to(device))
        laws.check_device(part, out, device, "a vector")


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
