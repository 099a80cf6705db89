"""The laws of autoencoders: here those of chunks of ids; beside it those of units of numbers, of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import (
    Autoencoder,
    EventSpec,
    ImageAutoencoder,
    PastReadingAutoencoder,
    TokenAutoencoder,
    UnitwiseAutoencoder,
)
from calmkit.testing import laws
from calmkit.testing.autoencoder_laws import (
    FROZEN,
    UNITS,
    as_stage_1_calls_it,
    check_differentiable,
    check_loss,
    check_no_gradient,
    check_posterior,
    frozen_model,
)
from calmkit.testing.image_autoencoders import check_image_autoencoder
from calmkit.testing.laws import LEADING, VOCAB_SIZE, Subject
from calmkit.testing.past_autoencoders import check_past_read
from calmkit.testing.registered import check_registered
from calmkit.testing.unit_autoencoders import check_unit_autoencoder


def check_autoencoder(
    part: str | type[Autoencoder], *, sizes: Mapping[str, Any] | None = None, **settings: Any
) -> None:
    """Hold an autoencoder to its contract: one of ids, one of units of real numbers
    (`check_unit_autoencoder`), or one of images (`check_image_autoencoder`).

    Laws of one of ids: constructor; `event` and `chunk_size`; what it keeps is registered; shapes for any
    leading dimensions, zero units never among them; no state between calls; `encode` deterministic and equal
    in train and eval mode; `to_data` the most likely ids of `decode`, all below V; `decode` differentiable
    where the value is continuous; one finite loss per unit and gradient to every parameter, or `NotTrainable`
    exactly where there are none; `state_dict`; dtype and device follow the parameters; it holds under
    bfloat16 autocast; frozen inside a `CalmModel`, after `.train()` too. One whose decoder reads the past, of
    ids or of numbers, keeps the laws of `check_past_read` as well. An exception in it is told as the
    law that was being checked and the call that it came through.

    Args:
        part: Name in the registry, or a class.
        sizes: Name -> what the constructor gets first, of one of units of real numbers; the kit knows those
            of the others, and takes 12 for a whole number that is not named.
        settings: Keyword settings of the autoencoder; small ones keep the check fast.

    Raises:
        AssertionError: Naming autoencoder, law and what was seen.
    """
    with laws.undisturbed():
        subject = laws.subject("autoencoders", part, settings)
        if issubclass(subject.cls, ImageAutoencoder):
            check_image_autoencoder(subject)
        elif issubclass(subject.cls, UnitwiseAutoencoder) and not subject.cls.discrete:
            check_unit_autoencoder(subject, sizes or {})
        else:
            _check_token_autoencoder(subject)


def _check_token_autoencoder(subject: Subject) -> None:
    law = "it serves a kind of data that the kit can make"
    seen = "it derives from none; TokenAutoencoder, UnitwiseAutoencoder or ImageAutoencoder would do"
    subject.require(issubclass(subject.cls, TokenAutoencoder), law, seen)
    autoencoder: TokenAutoencoder = subject.build(VOCAB_SIZE)
    laws.check_facts(subject, autoencoder)
    _check_facts(subject, autoencoder)
    check_registered(subject, autoencoder)
    _check_shapes(subject, autoencoder)
    check_loss(subject, autoencoder, lambda: _chunks(autoencoder), UNITS)
    # From here on it is a little trained: zero-initialised layers would hide what they do.
    autoencoder.eval()
    _check_encode(subject, autoencoder)
    _check_decode(subject, autoencoder)
    if isinstance(autoencoder, PastReadingAutoencoder):
        check_past_read(subject, autoencoder, lambda: _chunks(autoencoder))
    data = _chunks(autoencoder)

    def outputs(m: TokenAutoencoder) -> list[Tensor]:
        posterior = m.encode(data)
        return [posterior.mean, m.decode(posterior.mean), m.to_data(posterior.mean)]

    laws.check_state_dict(subject, autoencoder, subject.build(VOCAB_SIZE, seed=1), outputs)
    _check_dtype_and_device(subject)
    _check_frozen(subject, autoencoder)


def _chunks(autoencoder: TokenAutoencoder, units: tuple[int, ...] = UNITS) -> Tensor:
    return torch.randint(VOCAB_SIZE, (*units, autoencoder.chunk_size))


@laws.law("event and chunk_size say what a unit is")
def _check_facts(part: Subject, autoencoder: TokenAutoencoder) -> None:
    event, law = autoencoder.event, "event and chunk_size say what a unit is"
    if event.vocab_size is not None:
        fits = event == EventSpec((autoencoder.chunk_size,), VOCAB_SIZE)
        part.require(fits, law, f"{event} for {autoencoder.chunk_size} ids below {VOCAB_SIZE}")


@laws.law("encode, decode and to_data for any leading dimensions")
def _check_shapes(part: Subject, autoencoder: TokenAutoencoder) -> None:
    size = autoencoder.chunk_size
    for units in LEADING:
        posterior = autoencoder.encode(_chunks(autoencoder, units))
        wanted = (*units, *autoencoder.event.shape)
        check_posterior(part, posterior, wanted, "encode gives [*, *event]")
        logits = autoencoder.decode(posterior.mean)
        wanted = (*units, size, VOCAB_SIZE)
        good = logits.shape == wanted and logits.isfinite().all()
        seen = f"shape {tuple(logits.shape)}, not {wanted}, or not finite"
        part.require(good, "decode gives logits [*, K, V]", seen)
        ids = autoencoder.to_data(posterior.mean)
        seen = f"shape {tuple(ids.shape)} for units {units}, chunk_size {size}"
        part.require(ids.shape == (*units, size), "to_data gives ids [*, K]", seen)


@laws.law("encode is deterministic")
def _check_encode(part: Subject, autoencoder: TokenAutoencoder) -> None:
    data = _chunks(autoencoder)
    first, again = (laws.with_seed(seed, lambda: autoencoder.encode(data)) for seed in (0, 1))
    training = autoencoder.train().encode(data)
    autoencoder.eval()
    for other, law in (
        (again, "encode is deterministic"),
        (training, "encode is equal in train and eval mode"),
    ):
        part.require(torch.equal(first.mean, other.mean), law, "the means differ")
        if first.log_std is not None and other.log_std is not None:
            part.require(torch.equal(first.log_std, other.log_std), law, "log_std differs")


@laws.law("to_data gives the most likely ids")
def _check_decode(part: Subject, autoencoder: TokenAutoencoder) -> None:
    z = autoencoder.encode(_chunks(autoencoder)).mean.detach()
    logits, ids = autoencoder.decode(z), autoencoder.to_data(z)
    inside = not ids.is_floating_point() and ((ids >= 0) & (ids < VOCAB_SIZE)).all()
    part.require(inside, "ids are below V", f"{ids.dtype} from {ids.min()} to {ids.max()}, V is {VOCAB_SIZE}")
    chosen = logits.gather(-1, ids.long().unsqueeze(-1)).squeeze(-1)
    seen = f"{(chosen < logits.amax(-1)).sum()} of {ids.numel()} ids are not"
    # The largest logit, but for rounding: to_data may work in blocks.
    part.require((chosen >= logits.amax(-1) - 1e-9).all(), "to_data gives the most likely ids", seen)
    if autoencoder.event.vocab_size is None:
        check_differentiable(part, autoencoder, z)


@laws.law("dtype and device follow the parameters")
def _check_dtype_and_device(part: Subject) -> None:
    for dtype in (torch.float32, torch.float64):
        autoencoder: TokenAutoencoder = part.build(VOCAB_SIZE, dtype=dtype)
        if not list(autoencoder.parameters()):
            break
        with laws.default_dtype(laws.other(dtype)):
            data = _chunks(autoencoder)
            posterior = autoencoder.encode(data)
            values = {"the mean": posterior.mean, "a logit": autoencoder.decode(posterior.mean)}
            values["the loss"] = autoencoder.loss(data).per_unit
        if posterior.log_std is not None:
            values["log_std"] = posterior.log_std
        for what, value in values.items():
            laws.check_dtype(part, value, dtype, what)
    autoencoder = part.build(VOCAB_SIZE, dtype=torch.float32)
    data = _chunks(autoencoder)
    laws.check_autocast(part, lambda: as_stage_1_calls_it(autoencoder, data))
    device = laws.accelerator()
    if device is not None:
        autoencoder = autoencoder.to(device)
        mean = autoencoder.encode(_chunks(autoencoder).to(device)).mean
        laws.check_device(part, mean, device, "the mean")
        laws.check_device(part, autoencoder.decode(mean), device, "a logit")


@laws.law(FROZEN)
def _check_frozen(part: Subject, autoencoder: TokenAutoencoder) -> None:
    """In a model: no gradient, and eval mode that survives `model.train()`."""
    head = "regression" if autoencoder.event.vocab_size is None else "local_ar"
    sizes = {"chunk_size": autoencoder.chunk_size, "vocab_size": VOCAB_SIZE}
    model = frozen_model(part, autoencoder, "tokens", head, **sizes)
    check_no_gradient(part, model, _chunks(autoencoder))
