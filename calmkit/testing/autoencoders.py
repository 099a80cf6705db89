"""The laws of autoencoders: here those of chunks of ids; beside it those of units of numbers, of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from calmkit.interfaces import (
    Autoencoder,
    Batch,
    EventSpec,
    ImageAutoencoder,
    NotTrainable,
    TokenAutoencoder,
    UnitwiseAutoencoder,
)
from calmkit.model import CalmModel
from calmkit.registry import make_manager
from calmkit.testing import laws
from calmkit.testing.image_autoencoders import check_image_autoencoder
from calmkit.testing.laws import LEADING, VOCAB_SIZE, Subject
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
    bfloat16 autocast; frozen inside a `CalmModel`, after `.train()` too. An exception in it is told as the
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
    _check_loss(subject, autoencoder)
    # From here on it is a little trained: zero-initialised layers would hide what they do.
    autoencoder.eval()
    _check_encode(subject, autoencoder)
    _check_decode(subject, autoencoder)
    data = _chunks(autoencoder)

    def outputs(m: TokenAutoencoder) -> list[Tensor]:
        posterior = m.encode(data)
        return [posterior.mean, m.decode(posterior.mean), m.to_data(posterior.mean)]

    laws.check_state_dict(subject, autoencoder, subject.build(VOCAB_SIZE, seed=1), outputs)
    _check_dtype_and_device(subject)
    _check_frozen(subject, autoencoder)


def _chunks(autoencoder: TokenAutoencoder, units: tuple[int, ...] = (4, 5)) -> Tensor:
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
        for name, value in (("mean", posterior.mean), ("log_std", posterior.log_std)):
            good = value is None or (value.shape == wanted and value.isfinite().all())
            shape = None if value is None else tuple(value.shape)
            seen = f"{name} has shape {shape}, not {wanted}, or isn't finite"
            part.require(good, "encode gives [*, *event]", seen)
        logits = autoencoder.decode(posterior.mean)
        wanted = (*units, size, VOCAB_SIZE)
        good = logits.shape == wanted and logits.isfinite().all()
        seen = f"shape {tuple(logits.shape)}, not {wanted}, or not finite"
        part.require(good, "decode gives logits [*, K, V]", seen)
        ids = autoencoder.to_data(posterior.mean)
        seen = f"shape {tuple(ids.shape)} for units {units}, chunk_size {size}"
        part.require(ids.shape == (*units, size), "to_data gives ids [*, K]", seen)


@laws.law("one loss per unit, not reduced")
def _check_loss(part: Subject, autoencoder: TokenAutoencoder) -> None:
    law = "NotTrainable exactly where there are no parameters"
    data = _chunks(autoencoder)
    if not list(autoencoder.parameters()):
        try:
            autoencoder.loss(data)
        except NotTrainable:
            return
        part.require(False, law, "no parameters, yet loss() returned")
    try:
        output = autoencoder.loss(data)
    except NotTrainable:
        part.require(False, law, "it has parameters")
    kept = "a loss keeps no state"
    laws.check_repeats(part, autoencoder, kept, lambda: autoencoder.loss(data).per_unit)
    shape = tuple(output.per_unit.shape)
    part.require(
        shape == data.shape[:2], "one loss per unit, not reduced", f"{shape} for chunks {data.shape}"
    )
    part.require(output.per_unit.isfinite().all(), "a loss is finite", f"{output.per_unit.tolist()}")
    for name, term in output.terms.items():
        good = term.ndim == 0 and not term.requires_grad
        seen = f"'{name}' has shape {tuple(term.shape)}, requires_grad {term.requires_grad}"
        part.require(good, "terms are scalars without gradient", seen)
    laws.check_gradients(part, autoencoder, lambda: autoencoder.loss(_chunks(autoencoder)).per_unit.mean())
    laws.check_repeats(part, autoencoder, kept, lambda: autoencoder.loss(data).per_unit)


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
    if autoencoder.event.vocab_size is not None:
        return
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(autoencoder.decode(z).square().sum(), z, allow_unused=True)
    good = gradient is not None and gradient.isfinite().all() and gradient.any()
    part.require(good, "decode is differentiable", f"the gradient in z is {gradient}")


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
    laws.check_autocast(part, lambda: _as_stage_1_calls_it(autoencoder, data))
    device = laws.accelerator()
    if device is not None:
        autoencoder = autoencoder.to(device)
        mean = autoencoder.encode(_chunks(autoencoder).to(device)).mean
        laws.check_device(part, mean, device, "the mean")
        laws.check_device(part, autoencoder.decode(mean), device, "a logit")


def _as_stage_1_calls_it(autoencoder: TokenAutoencoder, data: Tensor) -> list[Tensor]:
    mean = autoencoder.encode(data).mean
    outputs = [mean, autoencoder.to_data(mean)]
    return [*outputs, autoencoder.loss(data).per_unit] if list(autoencoder.parameters()) else outputs


@laws.law("frozen inside a model, after .train() too")
def _check_frozen(part: Subject, autoencoder: TokenAutoencoder) -> None:
    """In a model: no gradient, and eval mode that survives `model.train()`."""
    event, size, width = autoencoder.event, autoencoder.chunk_size, 8
    manager = make_manager()
    sizes = {"hidden_dim": width, "event": event, "chunk_size": size, "vocab_size": VOCAB_SIZE}
    head = "regression" if event.vocab_size is None else "local_ar"
    model = CalmModel(
        autoencoder,
        manager.build("embedders", "tokens", {}, **sizes),
        manager.build("backbones", "gru", {"hidden_dim": width}),
        manager.build("heads", head, {}, **sizes),
    ).double()
    model.train()
    awake = [name or "itself" for name, module in autoencoder.named_modules() if module.training]
    law = "frozen inside a model, after .train() too"
    part.require(not awake, law, f"in train mode: {awake}")
    data = _chunks(autoencoder)
    loss = model.loss(Batch(data, torch.ones(data.shape[:2], dtype=torch.bool))).per_unit.mean()
    loss.backward()
    moved = [n for n, p in autoencoder.named_parameters() if p.requires_grad or p.grad is not None]
    part.require(not moved, law, f"with gradient: {moved}")
