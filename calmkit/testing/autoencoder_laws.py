"""The laws that autoencoders of all kinds of data keep: those of ids, of units of numbers and of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import Autoencoder, Batch, NotTrainable, Posterior
from calmkit.model import CalmModel
from calmkit.registry import make_manager
from calmkit.testing import laws
from calmkit.testing.laws import Subject

TRAINABLE = "NotTrainable exactly where there are no parameters"
STATELESS = "a loss keeps no state"
PER_UNIT = "one loss per unit, not reduced"
FROZEN = "frozen inside a model, after .train() too"
UNITS = (4, 5)
"""Rows, and units of each, of an autoencoder whose units stand alone."""


def check_posterior(part: Subject, posterior: Posterior, wanted: tuple[int, ...], law: str) -> None:
    """Mean and `log_std`, where there is one, are finite and of the shape that is wanted."""
    for name, value in (("mean", posterior.mean), ("log_std", posterior.log_std)):
        good = value is None or (value.shape == wanted and bool(value.isfinite().all()))
        shape = None if value is None else tuple(value.shape)
        part.require(good, law, f"{name} has shape {shape}, not {wanted}, or isn't finite")


@laws.law(PER_UNIT)
def check_loss(
    part: Subject, autoencoder: Autoencoder, data_of: Callable[[], Tensor], units: tuple[int, int]
) -> None:
    """One finite loss per unit, without a state and with gradient to every parameter; `NotTrainable` exactly
    where there are none. The autoencoder is left a little trained.

    Args:
        part: Whose autoencoder it is.
        autoencoder: In train mode.
        data_of: Other data at every call, of `units`.
        units: Rows, and units of each.
    """
    data, trainable = data_of(), bool(list(autoencoder.parameters()))
    try:
        output = autoencoder.loss(data)
    except NotTrainable:
        part.require(not trainable, TRAINABLE, "it has parameters")
        return
    part.require(trainable, TRAINABLE, "no parameters, yet loss() returned")
    laws.check_repeats(part, autoencoder, STATELESS, lambda: autoencoder.loss(data).per_unit)
    found = tuple(output.per_unit.shape)
    seen = f"{found} instead of {units} for data of shape {tuple(data.shape)}"
    part.require(found == units, PER_UNIT, seen)
    part.require(output.per_unit.isfinite().all(), "a loss is finite", f"{output.per_unit.tolist()}")
    for name, term in output.terms.items():
        good = term.ndim == 0 and not term.requires_grad
        seen = f"'{name}' has shape {tuple(term.shape)}, requires_grad {term.requires_grad}"
        part.require(good, "terms are scalars without gradient", seen)
    laws.check_gradients(part, autoencoder, lambda: autoencoder.loss(data_of()).per_unit.mean())
    laws.check_repeats(part, autoencoder, STATELESS, lambda: autoencoder.loss(data).per_unit)


def check_differentiable(part: Subject, autoencoder: Autoencoder, z: Tensor) -> None:
    """What `decode` makes of values has a gradient in them."""
    z = z.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(autoencoder.decode(z).square().sum(), z, allow_unused=True)
    good = gradient is not None and bool(gradient.isfinite().all()) and bool(gradient.any())
    part.require(good, "decode is differentiable", f"the gradient in z is {gradient}")


def as_stage_1_calls_it(autoencoder: Autoencoder, data: Tensor) -> list[Tensor]:
    """What a stage 1 asks of an autoencoder."""
    mean = autoencoder.encode(data).mean
    outputs = [mean, autoencoder.to_data(mean)]
    return [*outputs, autoencoder.loss(data).per_unit] if list(autoencoder.parameters()) else outputs


def frozen_model(
    part: Subject, autoencoder: Autoencoder, embedder: str, head: str, **sizes: Any
) -> CalmModel:
    """A model in train mode around an autoencoder, which is refused where it doesn't stay in eval mode.

    Args:
        part: Whose autoencoder it is.
        autoencoder: Whatever mode it is in.
        embedder: By name.
        head: By name.
        sizes: What these two are built with, beside the width and the event.
    """
    width, manager = 8, make_manager()
    sizes |= {"hidden_dim": width, "event": autoencoder.event}
    model = CalmModel(
        autoencoder,
        manager.build("embedders", embedder, {}, **sizes),
        manager.build("backbones", "gru", {"hidden_dim": width}),
        manager.build("heads", head, {}, **sizes),
    ).double()
    model.train()
    awake = [name or "itself" for name, module in autoencoder.named_modules() if module.training]
    part.require(not awake, FROZEN, f"in train mode: {awake}")
    return model


def check_no_gradient(part: Subject, model: CalmModel, data: Tensor) -> None:
    """The loss of a model leaves no gradient in its autoencoder."""
    model.loss(Batch(data, torch.ones(data.shape[:2], dtype=torch.bool))).per_unit.mean().backward()
    named = model.autoencoder.named_parameters()
    moved = [name for name, p in named if p.requires_grad or p.grad is not None]
    part.require(not moved, FROZEN, f"with gradient: {moved}")
