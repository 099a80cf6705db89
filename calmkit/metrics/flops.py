"""FLOPs of training and of writing, part by part, so that systems can be compared at equal cost.

FLOPs are 2 per multiply-add of a matrix product, attention counted in full (not halved for causality); all
else is free. In training a part that is a `StatesFlops` gives its formula; any other, guests too, is run once
on a small batch and counted with `torch.utils.flop_counter`. Writing is always counted on one real step.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, Table 1. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from calmkit.generation import SeededRandomness
from calmkit.interfaces import Autoencoder, Context, NotTrainable, StatesFlops
from calmkit.model import CalmModel

BACKWARD = (
    2  # a backward pass takes two matrix products, for inputs and weights, where the forward pass takes one
)


@final
@dataclass(frozen=True)
class FlopCount:
    """What a model costs.

    Attributes:
        training: Part -> FLOPs of one training step on one row, forward and backward; the frozen autoencoder
            only encodes.
        inference: Part -> FLOPs of writing one unit with one draw, at a context of as many units.
        chunk_size: K.
    """

    training: Mapping[str, int]
    inference: Mapping[str, int]
    chunk_size: int

    @property
    def total(self) -> int:
        """FLOPs of one training step on one row."""
        return sum(self.training.values())

    @property
    def inference_per_token(self) -> float:
        """FLOPs per token written, with one draw per unit."""
        return sum(self.inference.values()) / self.chunk_size


def count_flops(model: CalmModel, units: int) -> FlopCount:
    """FLOPs of a model on rows of `units` units. It is a copy that runs: the model is left as it is.

    The ids are end-of-text: a part whose cost depends on the data is counted on these.

    Raises:
        ValueError: If there are fewer than 2 units: backbones don't read the last unit of a training row.
    """
    if units < 2:
        raise ValueError(f"FLOPs are counted on rows of at least 2 units, got {units}.")
    device = next(model.parameters()).device
    model = copy.deepcopy(model)
    with SeededRandomness(0, device).borrowed(), _comparable():
        chunks = torch.full((1, units, model.chunk_size), model.eos_id, device=device)
        return FlopCount(_training(model, chunks), _inference(model, chunks), model.chunk_size)


def autoencoder_train_flops(autoencoder: Autoencoder, units: int, vocab_size: int) -> int:
    """FLOPs of one step of stage 1 on one row of `units` units; 0 where there is nothing to train."""
    if isinstance(autoencoder, StatesFlops):
        return (1 + BACKWARD) * autoencoder.forward_flops(units)
    autoencoder = copy.deepcopy(autoencoder)  # a running statistic must not move
    device = next((parameter.device for parameter in autoencoder.parameters()), torch.device("cpu"))
    with SeededRandomness(0, device).borrowed(), _comparable(), _thawed(autoencoder):
        chunks = torch.randint(vocab_size, (1, units, autoencoder.chunk_size), device=device)
        try:
            return _forward_backward(autoencoder, lambda: autoencoder.loss(chunks).per_unit, [])
        except NotTrainable:
            return 0


def _training(model: CalmModel, chunks: Tensor) -> dict[str, int]:
    units = chunks.shape[1]
    valid = torch.ones(1, units, dtype=torch.bool, device=chunks.device)
    with torch.no_grad():
        target = model.encode(chunks)
        z = target.sample(1)[0]
        x = model.embedder(chunks, z)
        context = model.backbone(x, valid)
    if not model.head.info.needs_memory:
        context, target = context[0], target[0]
    x, h = _given(x), _given(context.h)
    memory = None if context.memory is None else _given(context.memory)
    given = Context(h, memory, context.visible)
    read = [h] if memory is None else [h, memory]

    def part(module: nn.Module, call: Callable[[], Tensor], inputs: list[Tensor]) -> int:
        if isinstance(module, StatesFlops):
            return (1 + BACKWARD) * module.forward_flops(units)
        return _forward_backward(module, call, inputs)

    return {
        "autoencoder": _forward(lambda: model.encode(chunks)),
        "embedder": part(model.embedder, lambda: model.embedder(chunks, z), []),
        "backbone": part(model.backbone, lambda: model.backbone(x, valid).h, [x]),
        "head": part(model.head, lambda: model.head.loss(given, target), read),
    }


@torch.no_grad()
def _inference(model: CalmModel, chunks: Tensor) -> dict[str, int]:
    units = chunks.shape[1]
    valid = torch.ones(1, units, dtype=torch.bool, device=chunks.device)
    z = model.encode(chunks).mean
    x = model.embedder(chunks, z)
    _, state = model.backbone.start(1, units)
    _, state = model.backbone.step(x[:, :-1], valid[:, :-1], state)
    with FlopCounterMode(display=False) as counter:
        context, _ = model.backbone.step(x[:, -1:], valid[:, -1:], state)
    value = model.head.sample(context)
    return {
        "embedder": _forward(lambda: model.embedder(chunks[:, :1], z[:, :1])),
        "backbone": counter.get_total_flops(),
        "head": _forward(lambda: model.head.sample(context)),
        "autoencoder": _forward(lambda: model.autoencoder.to_data(value)),
    }


@torch.enable_grad()
def _given(tensor: Tensor) -> Tensor:
    """A copy that takes a gradient, and no leaf: the counter's hooks on a module's inputs refuse leaves."""
    return tensor.detach().requires_grad_().clone()


@torch.no_grad()
def _forward(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@torch.enable_grad()
def _forward_backward(module: nn.Module, call: Callable[[], Tensor], inputs: list[Tensor]) -> int:
    """FLOPs of a call and of the gradients for the inputs and the module's trainable parameters."""
    wanted = [*inputs, *(parameter for parameter in module.parameters() if parameter.requires_grad)]
    with FlopCounterMode(display=False) as counter:
        result = call()
        if result.requires_grad and wanted:
            torch.autograd.grad(result.sum(), wanted, allow_unused=True)  # leaves no .grad behind
    return counter.get_total_flops()


@contextmanager
def _comparable() -> Iterator[None]:
    """Kernels that count the same on every device: plain attention and recurrences, no fused fast paths."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _thawed(module: nn.Module) -> Iterator[None]:
    """Let the parameters take gradients inside the block."""
    frozen = [parameter for parameter in module.parameters() if not parameter.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
