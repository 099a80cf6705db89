"""The laws of autoencoders of whole images."""

from __future__ import annotations

import copy
import math
from functools import partial

import torch
from torch import Tensor

from calmkit.interfaces import ImageAutoencoder, Posterior
from calmkit.testing import laws
from calmkit.testing.autoencoder_laws import (
    FROZEN,
    as_stage_1_calls_it,
    check_differentiable,
    check_loss,
    check_posterior,
    frozen_model,
)
from calmkit.testing.laws import Subject
from calmkit.testing.registered import check_registered

IMAGE_SHAPES = ((1, 8, 8), (3, 16, 16))
"""`(C, H, W)` of the images that a part is held to its laws with."""

ROWS = 4
LOUD = 4.0  # times its weights an autoencoder decodes beyond its images


def check_image_autoencoder(part: Subject) -> None:
    """Hold an autoencoder of images to its contract, on images of one channel and of three.

    Laws: constructor; `event` and `layout`; what it keeps is registered; `encode` gives one value per place
    of the layout, `decode` and `to_data` images, for any leading dimensions; one finite loss per unit and
    gradient to every parameter, or `NotTrainable` exactly where there are none; no state between calls;
    `encode` deterministic and equal in train and eval mode; an image alone gives what it gives in a batch;
    `to_data` is `decode` within [-1, 1]; `decode` differentiable; `state_dict`; dtype and device follow the
    parameters; it holds under bfloat16 autocast; frozen inside a `CalmModel`, after `.train()` too.

    Raises:
        AssertionError: Naming autoencoder, law and what was seen.
    """
    for shape in IMAGE_SHAPES:
        autoencoder: ImageAutoencoder = part.build(shape)
        laws.check_facts(part, autoencoder)
        check_registered(part, autoencoder)
        _check_shapes(part, autoencoder, shape)
        check_loss(part, autoencoder, partial(images, shape), (ROWS, math.prod(autoencoder.layout)))
        # From here on it is a little trained: zero-initialised layers would hide what they do.
        autoencoder.eval()
        _check_encode(part, autoencoder, shape)
        _check_decode(part, autoencoder, shape)
        data = images(shape)

        def outputs(m: ImageAutoencoder, data: Tensor = data) -> list[Tensor]:
            mean = m.encode(data).mean
            return [mean, m.decode(mean), m.to_data(mean)]

        laws.check_state_dict(part, autoencoder, part.build(shape, seed=1), outputs)
        _check_dtype_and_device(part, shape)
        _check_frozen(part, autoencoder, shape)


def images(shape: tuple[int, int, int], rows: int = ROWS, dtype: torch.dtype = torch.float64) -> Tensor:
    """Images within [-1, 1], each of its own brightness."""
    brightest = 4 * torch.rand(rows, 1, 1, 1, dtype=dtype)
    return (brightest * torch.rand(rows, *shape, dtype=dtype) - 1).clamp(max=1)


def _units(autoencoder: ImageAutoencoder, rows: int) -> tuple[int, ...]:
    return (rows, math.prod(autoencoder.layout), *autoencoder.event.shape)


@laws.law("encode, decode and to_data of whole images")
def _check_shapes(part: Subject, autoencoder: ImageAutoencoder, shape: tuple[int, int, int]) -> None:
    event = autoencoder.event
    good = event.vocab_size is None and len(event.shape) == 1 and len(autoencoder.layout) == 2
    seen = f"event {event} and layout {autoencoder.layout}; one latent vector and a grid (h, w) would do"
    part.require(good, "event and layout say what the units are", seen)
    for rows in (1, ROWS):
        posterior, wanted = autoencoder.encode(images(shape, rows)), _units(autoencoder, rows)
        check_posterior(part, posterior, wanted, "encode gives [B, layout, *event]")
        for leading in ((rows,), (3, rows)):
            z = posterior.mean.detach().expand(*leading, *wanted[1:])
            for name, method in (("decode", autoencoder.decode), ("to_data", autoencoder.to_data)):
                value = method(z)
                good = value.shape == (*leading, *shape) and bool(value.isfinite().all())
                seen = f"shape {tuple(value.shape)} for leading dimensions {leading}, or not finite"
                part.require(good, f"{name} gives images [*, C, H, W]", seen)


@laws.law("encode is deterministic")
def _check_encode(part: Subject, autoencoder: ImageAutoencoder, shape: tuple[int, int, int]) -> None:
    data = images(shape)
    first, again = (laws.with_seed(seed, autoencoder.encode, data) for seed in (0, 1))
    training = autoencoder.train().encode(data)
    autoencoder.eval()
    _equal(part, first, again, "encode is deterministic")
    _equal(part, first, training, "encode is equal in train and eval mode")
    law = "an image alone gives what it gives in a batch"
    for row in range(ROWS):
        alone = autoencoder.encode(data[row : row + 1])
        part.close(alone.mean, first.mean[row : row + 1], law, f"the means of row {row}")
        if alone.log_std is not None and first.log_std is not None:
            part.close(alone.log_std, first.log_std[row : row + 1], law, f"log_std of row {row}")
        z = first.mean[row : row + 1]
        part.close(autoencoder.decode(z), autoencoder.decode(first.mean)[row : row + 1], law, "its decoding")


def _equal(part: Subject, left: Posterior, right: Posterior, law: str) -> None:
    part.require(torch.equal(left.mean, right.mean), law, "the means differ")
    if left.log_std is not None and right.log_std is not None:
        part.require(torch.equal(left.log_std, right.log_std), law, "log_std differs")


@laws.law("to_data gives the decoded image within [-1, 1]")
def _check_decode(part: Subject, autoencoder: ImageAutoencoder, shape: tuple[int, int, int]) -> None:
    law = "to_data gives the decoded image within [-1, 1]"
    z = 3 * autoencoder.encode(images(shape)).mean.detach()
    loud = copy.deepcopy(autoencoder)
    with torch.no_grad():  # decoded values leave [-1, 1] where anything can make them
        for parameter in loud.parameters():
            parameter.mul_(LOUD)
    shown = loud.to_data(z)
    seen = f"from {shown.min():.3g} to {shown.max():.3g}"
    part.require(((shown >= -1) & (shown <= 1)).all(), law, seen)
    part.close(shown, loud.decode(z).clamp(-1, 1), law, "to_data and the clipped decoding")
    check_differentiable(part, autoencoder, z)


@laws.law("dtype and device follow the parameters")
def _check_dtype_and_device(part: Subject, shape: tuple[int, int, int]) -> None:
    for dtype in (torch.float32, torch.float64):
        autoencoder: ImageAutoencoder = part.build(shape, dtype=dtype)
        trainable = bool(list(autoencoder.parameters()))
        with laws.default_dtype(laws.other(dtype)):
            data = images(shape, dtype=dtype)
            posterior = autoencoder.encode(data)
            values = {"the mean": posterior.mean, "a decoded image": autoencoder.decode(posterior.mean)}
            if trainable:
                values["the loss"] = autoencoder.loss(data).per_unit
        if posterior.log_std is not None:
            values["log_std"] = posterior.log_std
        for what, value in values.items():
            laws.check_dtype(part, value, dtype, what)
    autoencoder = part.build(shape, dtype=torch.float32)
    data = images(shape, dtype=torch.float32)
    laws.check_autocast(part, lambda: as_stage_1_calls_it(autoencoder, data))
    device = laws.accelerator()
    if device is not None:
        autoencoder = autoencoder.to(device)
        mean = autoencoder.encode(data.to(device)).mean
        laws.check_device(part, mean, device, "the mean")
        laws.check_device(part, autoencoder.decode(mean), device, "a decoded image")


@laws.law(FROZEN)
def _check_frozen(part: Subject, autoencoder: ImageAutoencoder, shape: tuple[int, int, int]) -> None:
    """In a model: no gradient, eval mode that survives `model.train()`, and a state that no use changes."""
    frozen_model(part, autoencoder, "latents", "regression")
    learning = [name for name, parameter in autoencoder.named_parameters() if parameter.requires_grad]
    part.require(not learning, FROZEN, f"with gradient: {learning}")
    before = {name: value.clone() for name, value in autoencoder.state_dict().items()}
    autoencoder.to_data(autoencoder.encode(images(shape)).sample()[0])
    moved = [name for name, value in autoencoder.state_dict().items() if not torch.equal(value, before[name])]
    part.require(not moved, FROZEN, f"changed by encode or to_data: {moved}")
