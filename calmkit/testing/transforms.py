"""The laws of latent transforms."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import LatentTransform, Posterior
from calmkit.recipe.shapes_only import shapes_only
from calmkit.testing import laws
from calmkit.testing.laws import LEADING, Subject
from calmkit.testing.registered import check_registered
from calmkit.testing.transform_fits import EVENT, UNITS, check_fit, shape_out, some_values

LAYOUTS = (None, (12,), (4, 8), (6, 6))


def check_transform(part: str | type[LatentTransform], **settings: Any) -> None:
    """Hold a latent transform to its contract, over each of four layouts that it takes.

    Laws: constructor; a ValueError for a layout that it can't take, and one at least that it takes; `event`,
    `layout`; `learned` exactly where it has parameters; what it keeps is registered; `fit` sees the batches
    once, is the same whatever the seed, leaves its values alone and takes a single row; before it is fitted a
    RuntimeError that says so, if `fit` fills anything; shapes for any leading dimensions; no state between
    calls; equal in train and eval mode; gradient; inverse and forward undo each other; log_det is that of the
    Jacobian; a row alone gives what it gives in a batch; `posterior` is the law of transformed draws where
    Gaussians are kept, else a TypeError; `state_dict`, into one that was never fitted; it works on the meta
    device; dtype and device. An exception in it is told as the law that was being checked and the call that
    it came through.

    Args:
        part: Name in the registry, or a class.
        settings: Keyword settings of the transform; small ones keep the check fast.

    Raises:
        AssertionError: Naming transform, law and what was seen.
    """
    with laws.undisturbed():
        subject = laws.subject("transforms", part, settings)
        taken = [layout for layout in LAYOUTS if _takes(subject, layout)]
        seen = f"it refuses each of {LAYOUTS} with a ValueError"
        subject.require(taken, "it takes some layout of its units", seen)
        for layout in taken:
            _check_layout(subject, layout)


@laws.law("a layout is taken or refused with a ValueError")
def _takes(part: Subject, layout: tuple[int, ...] | None) -> bool:
    try:
        part.cls(EVENT, layout, **part.options)
    except ValueError:
        return False
    return True


def _check_layout(part: Subject, layout: tuple[int, ...] | None) -> None:
    transform: LatentTransform = part.build(EVENT, layout)
    laws.check_facts(part, transform)
    check_registered(part, transform)
    _check_facts(part, transform, layout)
    check_fit(part, transform, layout)
    _check_shapes(part, transform, layout)
    z = some_values(layout)
    laws.check_repeats(part, transform, "a transform keeps no state", lambda: transform(z)[0])
    _check_modes(part, transform, z)

    def loss() -> Tensor:
        out = transform(some_values(layout))[0]
        return (out - torch.randn_like(out)).square().mean()

    laws.check_gradients(part, transform, loss)
    # From here on it is a little trained: zero-initialised layers would hide what they do.
    transform.eval()
    with torch.no_grad():
        _check_inverse(part, transform, z)
        _check_rows(part, transform, z)
    jacobian = _check_log_det(part, transform, z[0])
    _check_posterior(part, transform, z[0], jacobian)
    with torch.no_grad():
        out = transform(z)[0]
        fresh = part.build(EVENT, layout, seed=1)
        laws.check_state_dict(part, transform, fresh, lambda m: [*m(z), m.inverse(out)])
        _check_meta(part, layout)
        _check_dtype_and_device(part, layout)


@laws.law("the constructor states the facts of its kind")
def _check_facts(part: Subject, transform: LatentTransform, layout: tuple[int, ...] | None) -> None:
    law = "event and layout say what comes out"
    with part.under(law):
        event, out = transform.event, transform.layout
    one = event.kind == "continuous" and len(event.shape) == 1
    part.require(one, law, f"{event} is no latent vector")
    if layout is not None:
        part.require(out is not None, law, f"the units lie as {layout}, and come out without a layout")
        given, made = prod(layout) * EVENT.shape[0], prod(out or ()) * event.shape[0]
        part.require(made == given, law, f"{made} numbers of a row come out of {given}")
    trained = [name for name, value in transform.named_parameters() if value.requires_grad]
    seen = f"learned is {transform.learned}, and its parameters are {trained}"
    part.require(transform.learned == bool(trained), "learned says whether it has parameters", seen)


@laws.law("values [*, l, d] and log_det [*, l]")
def _check_shapes(part: Subject, transform: LatentTransform, layout: tuple[int, ...] | None) -> None:
    law = "values [*, l, d] and log_det [*, l]"
    for leading in (*LEADING, (1,)):
        for units in (UNITS, 1):
            z = some_values(layout, leading, units)
            out, log_det = transform(z)
            wanted = shape_out(transform, z)
            seen = f"{tuple(out.shape)} and {tuple(log_det.shape)} for z {tuple(z.shape)}, not {wanted}"
            part.require(out.shape == wanted and log_det.shape == wanted[:-1], law, seen)
            finite = out.isfinite().all() and log_det.isfinite().all()
            part.require(finite, law, f"not finite for z {tuple(z.shape)}")
            back = tuple(transform.inverse(out).shape)
            part.require(back == z.shape, law, f"inverse gives {back}, not {tuple(z.shape)}")
            if layout is not None:
                many = prod(transform.layout or ())
                seen = f"{wanted[-2]} units come out, and lie as {transform.layout}"
                part.require(wanted[-2] == many, "event and layout say what comes out", seen)


@laws.law("equal in train and eval mode")
def _check_modes(part: Subject, transform: LatentTransform, z: Tensor) -> None:
    train, evaluation = (transform.train(mode)(z)[0] for mode in (True, False))
    part.close(train, evaluation, "equal in train and eval mode", "values in the two modes")


@laws.law("inverse undoes forward")
def _check_inverse(part: Subject, transform: LatentTransform, z: Tensor) -> None:
    out = transform(z)[0]
    part.close(transform.inverse(out), z, "inverse undoes forward", "inverse(forward(z)) and z")
    other = torch.randn_like(out)
    again = transform(transform.inverse(other))[0]
    part.close(again, other, "forward undoes inverse", "forward(inverse(z)) and z")


@laws.law("a row alone gives what it gives in a batch")
def _check_rows(part: Subject, transform: LatentTransform, z: Tensor) -> None:
    law = "a row alone gives what it gives in a batch"
    out, log_det = transform(z)
    back = transform.inverse(out)
    for row in range(len(z)):
        for alone, name in ((transform(z[row]), "no batch"), (transform(z[None, row]), "a batch of one")):
            part.close(alone[0].view_as(out[row]), out[row], law, f"values of row {row} in {name} and in 3")
            part.close(alone[1].view_as(log_det[row]), log_det[row], law, f"log_det of row {row} in {name}")
        part.close(transform.inverse(out[row]), back[row], law, f"inverse of row {row}")


@laws.law("log_det is that of the Jacobian")
def _check_log_det(part: Subject, transform: LatentTransform, row: Tensor) -> Tensor:
    """The Jacobian of a row, `[l * d, L * D]`."""
    jacobian = torch.autograd.functional.jacobian(lambda z: transform(z)[0], row)
    jacobian = jacobian.reshape(row.numel(), row.numel())
    told = transform(row)[1].detach().sum()
    part.close(told, torch.linalg.slogdet(jacobian)[1], "log_det is that of the Jacobian", "summed log_det")
    return jacobian


@laws.law("posterior is the law of transformed draws")
def _check_posterior(part: Subject, transform: LatentTransform, row: Tensor, jacobian: Tensor) -> None:
    """A map that keeps every diagonal Gaussian is affine, so its Jacobian says what becomes of each."""
    log_std = 0.5 * torch.randn_like(row)
    if not transform.keeps_gaussians:
        try:
            transform.posterior(Posterior(row, log_std))
        except TypeError:
            return
        part.require(False, "without keeps_gaussians, posterior is a TypeError", "it gave a posterior")
    law = "posterior is the law of transformed draws"
    with torch.no_grad():
        center, step = transform(row)[0], log_std.exp() * torch.randn_like(row)
        moved = (transform(row + step)[0] - center).flatten()
        part.close(moved, jacobian @ step.flatten(), law, "a draw and where an affine map would put it")
        found, point = transform.posterior(Posterior(row, log_std)), transform.posterior(Posterior(row))
        part.close(found.mean, center, law, "the mean and the transformed mean")
        part.require(found.log_std is not None, law, "a Gaussian became a point")
        assert found.log_std is not None
        covariance = jacobian @ (2 * log_std.flatten()).exp().diag() @ jacobian.T
        told = (2 * found.log_std.flatten()).exp().diag()
        part.close(told, covariance, law, "the covariance told and that of transformed draws")
        part.require(point.log_std is None, "a point stays a point", "it got a log_std")
        part.close(point.mean, center, "a point stays a point", "the point and the transformed value")


@laws.law("it works on the meta device")
def _check_meta(part: Subject, layout: tuple[int, ...] | None) -> None:
    law = "it works on the meta device"
    with shapes_only():
        transform: LatentTransform = part.cls(EVENT, layout, **part.options)
        z = torch.empty(2, UNITS if layout is None else prod(layout), *EVENT.shape)
        out, log_det = transform(z)
        back = transform.inverse(out)
    for value, wanted in ((out, shape_out(transform, z)), (log_det, out.shape[:-1]), (back, z.shape)):
        seen = f"shape {tuple(value.shape)} instead of {tuple(wanted)}, or it has left the device"
        part.require(value.is_meta and value.shape == wanted, law, seen)


@laws.law("dtype and device follow the input")
def _check_dtype_and_device(part: Subject, layout: tuple[int, ...] | None) -> None:
    device, cpu = laws.accelerator(), torch.device("cpu")
    places = [(torch.float32, cpu), (torch.float64, cpu), *([(torch.float32, device)] if device else [])]
    for dtype, place in places:
        z = some_values(layout).to(place, dtype)
        with laws.default_dtype(laws.other(dtype)):
            transform: LatentTransform = part.build(EVENT, layout, dtype=dtype).to(place)
            transform.fit([z])
            out, log_det = transform(z)
            told = [(out, "forward"), (log_det, "log_det"), (transform.inverse(out), "inverse")]
            if transform.keeps_gaussians:
                posterior = transform.posterior(Posterior(z, torch.zeros_like(z)))
                told += [(posterior.mean, "a mean"), (posterior.log_std, "a log_std")]
        for value, what in told:
            laws.check_dtype(part, value, dtype, what)
            laws.check_device(part, value, place, what)
