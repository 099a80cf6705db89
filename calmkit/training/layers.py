"""The layers of a backbone in training: computed again in the backward pass, or compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def backbone_layers(trained: nn.Module) -> list[nn.Module]:
    """The layers that are stacked in the backbone of a model; an autoencoder has none."""
    backbone = getattr(trained, "backbone", None)
    stacks = () if backbone is None else backbone.modules()
    return [layer for stack in stacks if isinstance(stack, nn.ModuleList) for layer in stack]


@contextmanager
def trained_layers(trained: nn.Module, *, recompute: bool, compiled: bool) -> Iterator[None]:
    """While a stage is trained, its layers keep less or run faster; in a validation they are as ever.

    Names of parameters stay what they are, so checkpoints and models are the same with and without.

    Args:
        trained: What the stage trains.
        recompute: What a layer computes is computed again in the backward pass, not kept.
        compiled: Layers go through `torch.compile`.
    """
    changed = backbone_layers(trained) if recompute or compiled else []
    for layer in changed:
        forward = layer.forward
        made: Callable[..., Any] = torch.compile(forward) if compiled else forward
        layer.forward = _in_training(layer, forward, _recomputed(made) if recompute else made)
    try:
        yield
    finally:
        for layer in changed:
            del layer.__dict__["forward"]


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def again(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return again


def _in_training(layer: nn.Module, plain: Callable[..., Any], made: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        chosen = made if layer.training and torch.is_grad_enabled() else plain
        return chosen(*args, **kwargs)

    return forward
