"""The laws of autoencoders of single units whose data are real numbers, such as a few values of a series."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import Batch, NotTrainable, Posterior, UnitwiseAutoencoder
from calmkit.model import CalmModel
from calmkit.registry import make_manager
from calmkit.testing import laws
from calmkit.testing.laws import LEADING, Subject
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
    _check_loss(part, autoencoder)
    # From here on it is a little trained: zero-initialised layers would hide what they do.
    autoencoder.eval()
    _check_encode(part, autoencoder)
    _check_alone(part, autoencoder)
    _check_decode(part, autoencoder)
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


def values(autoencoder: UnitwiseAutoencoder, units: tuple[int, ...] = (4, 5)) -> Tensor:
    """Units of real numbers, in the dtype of the autoencoder's parameters, else in double precision."""
    dtype = next((p.dtype for p in autoencoder.parameters()), torch.float64)
    return torch.randn(*units, *autoencoder.unit_shape, dtype=dtype)


@laws.law("encode, decode and to_data for any leading dimensions")
def _check_shapes(part: Subject, autoencoder: UnitwiseAutoencoder) -> None:
    for units in LEADING:
        data = values(autoencoder, units)
        posterior = autoencoder.encode(data)
        wanted = (*units, *autoencoder.event.shape)
        for name, value in (("mean", posterior.mean), ("log_std", posterior.log_std)):
            good = value is None or (value.shape == wanted and value.isfinite().all())
            shape = None if value is None else tuple(value.shape)
            seen = f"{name} has shape {shape}, not {wanted}, or isn't finite"
            part.require(good, "encode gives [*, *event]", seen)
        decoded = autoencoder.decode(posterior.mean)
        good = decoded.shape[: len(units)] == units and decoded.isfinite().all()
        seen = f"shape {tuple(decoded.shape)} for units {units}, or not finite"
        part.require(good, "decode keeps the leading dimensions", seen)
        back = autoencoder.to_data(posterior.mean)
        seen = f"shape {tuple(back.shape)} of {back.dtype} for data of shape {tuple(data.shape)}"
        law = "to_data gives real numbers [*, *unit_shape]"
        part.require(back.shape == data.shape and back.is_floating_point(), law, seen)
        part.require(back.isfinite().all(), law, "some are not finite")


@laws.law("one loss per unit, not reduced")
def _check_loss(part: Subject, autoencoder: UnitwiseAutoencoder) -> None:
    law, data = "NotTrainable exactly where there are no parameters", values(autoencoder)
    trainable = bool(list(autoencoder.parameters()))
    try:
        output = autoencoder.loss(data)
    except NotTrainable:
        part.require(not trainable, law, "it has parameters")
        return
    part.require(trainable, law, "no parameters, yet loss() returned")
    kept = "a loss keeps no state"
    laws.check_repeats(part, autoencoder, kept, lambda: autoencoder.loss(data).per_unit)
    shape = tuple(output.per_unit.shape)
    seen = f"{shape} for data of shape {tuple(data.shape)}"
    part.require(shape == data.shape[:2], "one loss per unit, not reduced", seen)
    part.require(output.per_unit.isfinite().all(), "a loss is finite", f"{output.per_unit.tolist()}")
    for name, term in output.terms.items():
        seen = f"'{name}' has shape {tuple(term.shape)}, requires_grad {term.requires_grad}"
        part.require(term.ndim == 0 and not term.requires_grad, "terms are scalars without gradient", seen)
    laws.check_gradients(part, autoencoder, lambda: autoencoder.loss(values(autoencoder)).per_unit.mean())
    laws.check_repeats(part, autoencoder, kept, lambda: autoencoder.loss(data).per_unit)


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


@laws.law("decode is differentiable")
def _check_decode(part: Subject, autoencoder: UnitwiseAutoencoder) -> None:
    z = autoencoder.encode(values(autoencoder)).mean.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(autoencoder.decode(z).square().sum(), z, allow_unused=True)
    good = gradient is not None and gradient.isfinite().all() and gradient.any()
    part.require(good, "decode is differentiable", f"the gradient in z is {gradient}")


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


@laws.law("frozen inside a model, after .train() too")
def _check_frozen(part: Subject, autoencoder: UnitwiseAutoencoder) -> None:
    """In a model: no gradient, and eval mode that survives `model.train()`."""
    law, width, manager = "frozen inside a model, after .train() too", 8, make_manager()
    sizes = {"hidden_dim": width, "event": autoencoder.event}
    model = CalmModel(
        autoencoder,
        manager.build("embedders", "latents", {}, **sizes),
        manager.build("backbones", "gru", {"hidden_dim": width}),
        manager.build("heads", "regression", {}, **sizes),
    ).double()
    model.train()
    awake = [name or "itself" for name, module in autoencoder.named_modules() if module.training]
    part.require(not awake, law, f"in train mode: {awake}")
    data = values(autoencoder)
    model.loss(Batch(data, torch.ones(data.shape[:2], dtype=torch.bool))).per_unit.mean().backward()
    moved = [n for n, p in autoencoder.named_parameters() if p.requires_grad or p.grad is not None]
    part.require(not moved, law, f"with gradient: {moved}")
