"""The laws of autoencoders of single units whose data are real numbers, such as a few values of a series."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import PastReadingAutoencoder, Posterior, UnitwiseAutoencoder
from calmkit.testing import laws
from calmkit.testing.autoencoder_laws import (
    FROZEN,
    UNITS,
    check_differentiable,
    check_loss,
    check_no_gradient,
    check_posterior,
    frozen_model,
)
from calmkit.testing.laws import LEADING, Subject
from calmkit.testing.past_autoencoders import check_past_read
from calmkit.testing.registered import check_registered

WHOLE = 12
"""What a size is that is a whole number, where nobody says how large: many numbers divide it."""

ALONE = "each unit alone"


def check_unit_autoencoder(part: Subject, sizes: Mapping[str, Any]) -> None:
    """Hold an autoencoder of units of real numbers to its contract.

    Laws: constructor; `event` and `unit_shape`; what it keeps is registered; shapes for any leading
    dimensions, zero units never among them; each unit alone; one finite loss per unit and gradient to
    every parameter, or `NotTrainable` exactly where there are none; no state between calls; `encode`
    deterministic and equal in train and eval mode; `decode` differentiable, `to_data` finite;
    `state_dict`; dtype and device follow the data; it holds under bfloat16 autocast; frozen inside a
    `CalmModel`, after `.train()` too.

    Args:
        part: Of a class that derives from `UnitwiseAutoencoder`, and is not `discrete`.
        sizes: Name -> what its constructor gets first; a whole number that is not named is `WHOLE`.

    Raises:
        AssertionError: Naming autoencoder, law and what was seen.
    """
    first = sizes_for(part, sizes)
    autoencoder: UnitwiseAutoencoder = part.build(*first)
    laws.check_facts(part, autoencoder)
    event = autoencoder.event
    part.require(event.vocab_size is None, "the value of a unit is continuous", f"its event is {event}")
    check_registered(part, autoencoder)
    _check_shapes(part, autoencoder)
    check_loss(part, autoencoder, lambda: values(autoencoder), UNITS)
    # From here on it is a little trained: zero-initialised layers would hide what they do.
    autoencoder.eval()
    _check_encode(part, autoencoder)
    _check_alone(part, autoencoder)
    with part.under("decode is differentiable"):
        check_differentiable(part, autoencoder, autoencoder.encode(values(autoencoder)).mean)
    if isinstance(autoencoder, PastReadingAutoencoder):
        check_past_read(part, autoencoder, lambda: values(autoencoder))
    data = values(autoencoder)

    def outputs(m: UnitwiseAutoencoder) -> list[Tensor]:
        mean = m.encode(data).mean
        return [mean, m.decode(mean), m.to_data(mean)]

    laws.check_state_dict(part, autoencoder, part.build(*first, seed=1), outputs)
    _check_dtype_and_device(part, first)
    _check_frozen(part, autoencoder)


def sizes_for(part: Subject, given: Mapping[str, Any]) -> list[Any]:
    """What the constructor gets first, in its order."""
    law = "the kit knows what it is built with"
    hints = {name: one.annotation for name, one in inspect.signature(part.cls).parameters.items()}
    found = []
    for name in part.cls.sizes:
        whole = hints.get(name) in (int, "int")
        seen = f"nobody says its {name}; give it in `sizes`, such as sizes={{'{name}': ...}}"
        part.require(name in given or whole, law, seen)
        found.append(given.get(name, WHOLE))
    return found


def values(autoencoder: UnitwiseAutoencoder, units: tuple[int, ...] = UNITS) -> Tensor:
    """Units of real numbers, in the dtype of the autoencoder's parameters, else in double precision."""
    dtype = next((p.dtype for p in autoencoder.parameters()), torch.float64)
    return torch.randn(*units, *autoencoder.unit_shape, dtype=dtype)


@laws.law("encode, decode and to_data for any leading dimensions")
def _check_shapes(part: Subject, autoencoder: UnitwiseAutoencoder) -> None:
    for units in LEADING:
        data = values(autoencoder, units)
        posterior = autoencoder.encode(data)
        wanted = (*units, *autoencoder.event.shape)
        check_posterior(part, posterior, wanted, "encode gives [*, *event]")
        decoded = autoencoder.decode(posterior.mean)
        good = decoded.shape[: len(units)] == units and decoded.isfinite().all()
        seen = f"shape {tuple(decoded.shape)} for units {units}, or not finite"
        part.require(good, "decode keeps the leading dimensions", seen)
        back = autoencoder.to_data(posterior.mean)
        seen = f"shape {tuple(back.shape)} of {back.dtype} for data of shape {tuple(data.shape)}"
        law = "to_data gives real numbers [*, *unit_shape]"
        part.require(back.shape == data.shape and back.is_floating_point(), law, seen)
        part.require(back.isfinite().all(), law, "some are not finite")


def _encoded(autoencoder: UnitwiseAutoencoder, data: Tensor) -> Tensor:
    """Mean and log_std of the posteriors, side by side."""
    posterior = autoencoder.encode(data)
    both = [posterior.mean] if posterior.log_std is None else [posterior.mean, posterior.log_std]
    return torch.cat(both, -1)


@laws.law("encode is deterministic")
def _check_encode(part: Subject, autoencoder: UnitwiseAutoencoder) -> None:
    data = values(autoencoder)
    first, again = (laws.with_seed(seed, _encoded, autoencoder, data) for seed in (0, 1))
    training = _encoded(autoencoder.train(), data)
    autoencoder.eval()
    part.require(torch.equal(first, again), "encode is deterministic", "two calls differ")
    part.require(torch.equal(first, training), "encode is equal in train and eval mode", "they differ")


@laws.law(ALONE)
def _check_alone(part: Subject, autoencoder: UnitwiseAutoencoder) -> None:
    data = values(autoencoder)
    together, alone = _encoded(autoencoder, data), _encoded(autoencoder, data[1, 2])
    part.close(alone, together[1, 2], ALONE, "posteriors of a unit alone and among others")
    z = autoencoder.encode(data).mean
    part.close(autoencoder.to_data(z[1, 2]), autoencoder.to_data(z)[1, 2], ALONE, "the data of a unit")


@laws.law("dtype and device follow the data")
def _check_dtype_and_device(part: Subject, sizes: Sequence[Any]) -> None:
    for dtype in (torch.float32, torch.float64):
        autoencoder: UnitwiseAutoencoder = part.build(*sizes, dtype=dtype)
        with laws.default_dtype(laws.other(dtype)):
            data = values(autoencoder).to(dtype)
            for what, value in _numbers(autoencoder, autoencoder.encode(data), data).items():
                laws.check_dtype(part, value, dtype, what)
    autoencoder = part.build(*sizes, dtype=torch.float32)
    data = values(autoencoder).float()
    laws.check_autocast(part, lambda: list(_numbers(autoencoder, autoencoder.encode(data), data).values()))
    device = laws.accelerator()
    if device is not None:
        autoencoder, data = autoencoder.to(device), data.to(device)
        for what, value in _numbers(autoencoder, autoencoder.encode(data), data).items():
            laws.check_device(part, value, device, what)


def _numbers(autoencoder: UnitwiseAutoencoder, posterior: Posterior, data: Tensor) -> dict[str, Tensor]:
    mean = posterior.mean
    found = {"the mean": mean, "what decode gives": autoencoder.decode(mean)}
    found["what to_data gives"] = autoencoder.to_data(mean)
    if posterior.log_std is not None:
        found["log_std"] = posterior.log_std
    if list(autoencoder.parameters()):
        found["the loss"] = autoencoder.loss(data).per_unit
    return found


@laws.law(FROZEN)
def _check_frozen(part: Subject, autoencoder: UnitwiseAutoencoder) -> None:
    """In a model: no gradient, and eval mode that survives `model.train()`."""
    model = frozen_model(part, autoencoder, "latents", "regression")
    check_no_gradient(part, model, values(autoencoder))
