"""What a network costs: the FLOPs of its Linear layers, from their sizes."""

from __future__ import annotations

from torch import nn


def linear_flops(*modules: nn.Module) -> int:
    """FLOPs of one row through every Linear layer of these modules, once each: 2 per weight."""
    layers = (layer for module in modules for layer in module.modules())
    return 2 * sum(layer.weight.numel() for layer in layers if isinstance(layer, nn.Linear))
