"""FLOPs of training and of writing, part by part, so that systems can be compared at equal cost.

Each part says its own (`calmkit.interfaces.flops`): arithmetic on sizes, on the meta device too. What a part
does not state, guests too, is measured (`calmkit.metrics.measured_flops`): a copy of it runs on one row of
made-up input. FLOPs are 2 per multiply-add of a matrix product, attention in full, all else free.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, Table 1. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from calmkit.decoding import data_of, past_of
from calmkit.head_calls import head_draws, head_log_prob, head_loss
from calmkit.interfaces import (
    PASSES,
    AnyOrderBackbone,
    Autoencoder,
    Backbone,
    Context,
    DensityHead,
    Embedder,
    GenerativeHead,
    LatentTransform,
    NotTrainable,
    RowSampler,
    SampleOptions,
    StatesCodingFlops,
    StatesDensityFlops,
    StatesDrawFlops,
    StatesFlops,
    StatesStepFlops,
    StatesTrainingFlops,
    UnitwiseAutoencoder,
)
from calmkit.metrics.frozen_flops import with_frozen
from calmkit.metrics.made_up import MadeUpInput, made_up_data
from calmkit.metrics.measured_flops import copied, flops_of, flops_with_gradients, given
from calmkit.metrics.row_calls import RowCalls, row_calls
from calmkit.metrics.transform_flops import members, transform_inverse_flops, transform_training_flops
from calmkit.model import CalmModel
from calmkit.transforms.chain import Chain


@final
@dataclass(frozen=True)
class FlopCount:
    """What a model costs.

    Attributes:
        training: Part -> FLOPs of one training step on one row, forward and backward; the frozen autoencoder
            only encodes, a transform that learns nothing only transforms, and a part that is frozen takes no
            gradients of its weights.
        inference: Part -> FLOPs of writing a unit behind a whole row, all its draws, or an L-th of what a row
            takes; None where no formula can say it (an adaptive solver).
    """

    training: Mapping[str, int]
    inference: Mapping[str, int | None]

    @property
    def total(self) -> int:
        """FLOPs of one training step on one row."""
        return sum(self.training.values())

    @property
    def inference_per_unit(self) -> int | None:
        """FLOPs per unit drawn; None where a part's are not known."""
        known = [flops for flops in self.inference.values() if flops is not None]
        return sum(known) if len(known) == len(self.inference) else None


def states_flops(part: nn.Module) -> bool:
    """Whether a part says all that is asked of its kind, so that nothing has to run; a chain: each in it."""
    if isinstance(part, Chain):
        return all(map(states_flops, members(part)))
    kinds: tuple[tuple[type, type], ...] = (
        (Autoencoder, StatesCodingFlops),
        (GenerativeHead, StatesDrawFlops),
        (DensityHead, StatesDensityFlops),
        (Embedder, StatesStepFlops),
        (Backbone, StatesStepFlops),
        (AnyOrderBackbone, StatesFlops),
        (LatentTransform, StatesFlops),
    )
    asked = [promise for kind, promise in kinds if isinstance(part, kind)]
    return bool(asked) and all(isinstance(part, promise) for promise in asked)


def count_flops(
    model: CalmModel,
    units: int,
    draws: int = 1,
    options: SampleOptions | None = None,
    rows: RowSampler | None = None,
) -> FlopCount:
    """FLOPs of a model on rows of `units` units.

    Args:
        model: On any device; on the meta device all its parts must state their FLOPs.
        units: L. In generation the last of them is written, with the others as context; in any order all of
            them are, step by step, and this is the L-th part of it.
        draws: Of the head for each unit written, all of which are decoded.
        options: Of these draws.
        rows: How whole rows are drawn, instead of these: its guidance and its beams count; of all that it
            draws one row is decoded.

    Raises:
        ValueError: If there are fewer than 2 units (backbones don't read the last unit of a training row), or
            a part on the meta device states nothing.
    """
    if units < 2:
        raise ValueError(f"FLOPs are counted on rows of at least 2 units, got {units}.")
    samples = MadeUpInput.of(model, units)
    coded = samples if model.transform is None else MadeUpInput.coded(model.autoencoder, units)
    parts = (
        ("embedder", model.embedder, units),
        ("backbone", model.backbone, _behind(model, units)),
        ("head", model.head, units),
    )
    training = {"autoencoder": _encode(model.autoencoder, coded)}
    whole = {name: _training(part, length, samples) for name, part, length in parts}
    in_front = [part for part in (model.transform, model.conditioner) if part is not None]
    training |= with_frozen(whole, {name: (part, length) for name, part, length in parts}, in_front)
    if model.transform is not None:
        event = model.autoencoder.event
        training["transform"] = transform_training_flops(model.transform, coded, event)
    return FlopCount(training, _inference(model, samples, coded, draws, options, rows))


def _behind(model: CalmModel, units: int) -> int:
    """Units that the backbone reads, the conditioner's among them."""
    return units + (0 if model.conditioner is None else model.conditioner.length)


def _inference(
    model: CalmModel,
    samples: MadeUpInput,
    coded: MadeUpInput,
    draws: int,
    options: SampleOptions | None,
    rows: RowSampler | None,
) -> dict[str, int | None]:
    """Part -> FLOPs of a unit. Of whole rows, only the one that is drawn in the end is decoded."""
    units, calls = samples.units, row_calls(model, samples.units, rows)
    fan, wishes = (draws, options) if rows is None else (calls.fan, rows.options)
    decoded = draws if rows is None else 1
    inference: dict[str, int | None] = {
        "embedder": -(-calls.embedded * _step(model.embedder, units, samples) // units),
        "backbone": -(-calls.read * _read(model.backbone, _behind(model, units), samples) // units),
        "head": _head(model.head, calls, fan, wishes, samples),
        "autoencoder": decoded * -(-coded.units * flops_of_decoding(model.autoencoder, coded) // units),
    }
    if model.transform is not None:
        row = transform_inverse_flops(model.transform, coded, model.autoencoder.event)
        inference["transform"] = decoded * -(-row // units)
    return inference


def _read(backbone: Backbone | AnyOrderBackbone, behind: int, samples: MadeUpInput) -> int:
    """Of one unit more for a causal backbone, of the whole row for one of any order."""
    if isinstance(backbone, Backbone):
        return _step(backbone, behind, samples)
    if isinstance(backbone, StatesFlops):
        return backbone.forward_flops(behind)
    with torch.no_grad(), copied(backbone) as (part, device, dtype):
        x, known = (
            samples.hidden(device, dtype),
            torch.ones(1, samples.units, dtype=torch.bool, device=device),
        )
        return flops_of(lambda: part(x, known))


def _head(
    part: GenerativeHead, calls: RowCalls, draws: int, options: SampleOptions | None, samples: MadeUpInput
) -> int | None:
    """Of one unit: an L-th of all draws and log densities of a row. A guided draw counts as two where both
    conditions pass the network; what they share there, the embedding of the time, is counted twice.
    """
    drawn = flops_of_draws(part, draws, options, samples)
    if drawn is None:
        return None
    scored = _score(part, samples) if calls.scored else 0
    return -(-(calls.contexts * calls.terms * drawn + calls.scored * scored) // samples.units)


def autoencoder_train_flops(autoencoder: Autoencoder, units: int) -> int:
    """FLOPs of one step of stage 1 on one row of `units` units; 0 where there is nothing to train."""
    if isinstance(autoencoder, StatesCodingFlops):
        return PASSES * units * (autoencoder.encode_flops() + autoencoder.decode_flops())
    with copied(autoencoder) as (autoencoder, device, _):
        autoencoder.requires_grad_(True)
        data = made_up_data(autoencoder, 1, units, device)
        try:
            return flops_with_gradients(autoencoder, lambda: autoencoder.loss(data).per_unit, [])
        except NotTrainable:
            return 0


def _encode(part: Autoencoder, samples: MadeUpInput) -> int:
    if isinstance(part, StatesCodingFlops):
        return samples.units * part.encode_flops()
    with copied(part) as (part, device, _):
        return flops_of(lambda: part.encode(samples.data(device)))


def flops_of_decoding(part: Autoencoder, samples: MadeUpInput) -> int:
    """FLOPs of one value back to its data."""
    if isinstance(part, StatesCodingFlops):
        return part.decode_flops()
    with copied(part) as (part, device, dtype):
        z = samples.target(device, dtype).mean
        if isinstance(part, UnitwiseAutoencoder):
            past = past_of(part, samples.data(device)[:, :1], torch.ones(1, 1, dtype=torch.bool))
            return flops_of(lambda: data_of(part, z[:, :1], None if past is None else past[:, 1:]))
        return -(-flops_of(lambda: part.to_data(z)) // samples.units)


def _training(part: nn.Module, units: int, samples: MadeUpInput) -> int:
    if isinstance(part, StatesTrainingFlops):
        return part.training_flops(units)
    if isinstance(part, StatesFlops):
        return PASSES * part.forward_flops(units)
    with copied(part) as (part, device, dtype):
        target, x = samples.target(device, dtype), given(samples.hidden(device, dtype))
        if isinstance(part, Embedder):
            data, z = samples.unit_data(device), target.mean
            return flops_with_gradients(part, lambda: part(data, z), [])
        if isinstance(part, AnyOrderBackbone):
            known = torch.ones(1, samples.units, dtype=torch.bool, device=device)
            x = given(samples.hidden(device, dtype))
            return flops_with_gradients(part, lambda: part(x, known).h, [x])
        if isinstance(part, Backbone):
            valid = torch.ones(1, samples.units, dtype=torch.bool, device=device)
            return flops_with_gradients(part, lambda: part(x, valid).h, [x])
        assert isinstance(part, GenerativeHead)
        if not part.info.needs_memory:
            return flops_with_gradients(part, lambda: head_loss(part, Context(x[0]), target[0]), [x])
        memory = given(samples.hidden(device, dtype))
        visible = torch.ones(1, units, units, dtype=torch.bool, device=device).tril()
        past = Context(x, memory, visible)
        return flops_with_gradients(part, lambda: head_loss(part, past, target), [x, memory])


def _step(part: Embedder | Backbone, units: int, samples: MadeUpInput) -> int:
    if isinstance(part, StatesStepFlops):
        return part.step_flops(units - 1)
    with torch.no_grad(), copied(part) as (part, device, dtype):
        if isinstance(part, Embedder):
            data, z = samples.unit_data(device), samples.target(device, dtype).mean[:, :1]
            return flops_of(lambda: part(None if data is None else data[:, :1], z))
        x = samples.hidden(device, dtype)
        valid = torch.ones(x.shape[:2], dtype=torch.bool, device=device)
        _, state = part.start(1, units)
        _, state = part.step(x[:, :-1], valid[:, :-1], state)
        return flops_of(lambda: part.step(x[:, -1:], valid[:, -1:], state))


def flops_of_draws(
    part: GenerativeHead, draws: int, options: SampleOptions | None, samples: MadeUpInput
) -> int | None:
    """FLOPs of so many draws of one unit in one call; None where no formula can say it."""
    if isinstance(part, StatesDrawFlops):
        return part.draw_flops(draws, options)
    with torch.no_grad(), copied(part) as (part, device, dtype):
        context = Context(samples.hidden(device, dtype)[:, :1])
        if part.info.needs_memory:
            visible = torch.ones(1, 1, samples.units, dtype=torch.bool, device=device)
            context = Context(context.h, samples.hidden(device, dtype), visible)
        return flops_of(lambda: head_draws(part, context, draws, options))


def _score(part: GenerativeHead, samples: MadeUpInput) -> int:
    """Of one log density."""
    if isinstance(part, StatesDensityFlops):
        return part.density_flops()
    assert isinstance(part, DensityHead)
    with copied(part) as (part, device, dtype):
        h, z = samples.hidden(device, dtype)[0, :1], samples.target(device, dtype).mean[0, :1]
        return flops_of(lambda: head_log_prob(part, Context(h), z))
