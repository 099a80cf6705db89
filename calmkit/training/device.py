"""find_device: the device that a word such as `auto` or `cuda:1` names, if this machine has it."""

from __future__ import annotations

import torch

from calmkit.training.errors import RunFailed


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` is the accelerator where there is one, and else the CPU.

    Raises:
        RunFailed: Nobody knows such a device, or this machine has none; with those that it has.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return accelerator or torch.device("cpu")
    count = torch.accelerator.device_count() if accelerator else 0
    here = [torch.device("cpu"), *(torch.device(accelerator.type, i) for i in range(count) if accelerator)]
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is not None and (
        device in here or (device.index is None and device.type in {d.type for d in here})
    ):
        return device
    what = f"Nobody knows a device '{name}'." if device is None else f"This machine has no device '{name}'."
    raise RunFailed(
        f"{what} It has: {', '.join(map(str, here))}; auto takes the accelerator where there is one."
    )
