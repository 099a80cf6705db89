"""Which numbers to train in: bfloat16 where the device multiplies it in hardware, float32 elsewhere."""

from __future__ import annotations

import torch

BF16 = "bf16-mixed"
FP32 = "32-true"


def choose_precision(setting: str, accelerator: str) -> str:
    """Lightning's precision for a recipe's setting; anything but `auto` is passed through.

    On a CPU with bf16 dot products a matrix product is several times faster than in float32; weights, losses
    and targets stay float32 either way.
    """
    if setting != "auto":
        return setting
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device is None or accelerator == "cpu":
        cpu_has_it = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return BF16 if cpu_has_it else FP32
    supported = getattr(torch.get_device_module(device), "is_bf16_supported", lambda: False)
    return BF16 if supported() else FP32
