"""Which precision `auto` means, as a table; the machine is played."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from calmkit.training.precision import BF16, FP32, choose_precision


@pytest.mark.parametrize("setting", ["64-true", "32-true", "bf16-mixed", "16-mixed"])
def test_what_is_asked_for_is_taken(setting: str) -> None:
    assert choose_precision(setting, "auto") == setting


@pytest.mark.parametrize(
    ("dot_product", "tile", "chosen"), [(False, False, FP32), (True, False, BF16), (False, True, BF16)]
)
@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
def test_a_cpu_by_its_instructions(
    monkeypatch: pytest.MonkeyPatch, dot_product: bool, tile: bool, chosen: str, accelerator: str
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: dot_product)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tile)
    assert choose_precision("auto", accelerator) == chosen


@pytest.mark.parametrize(
    ("module", "accelerator", "chosen"),
    [
        (SimpleNamespace(is_bf16_supported=lambda: True), "auto", BF16),
        (SimpleNamespace(is_bf16_supported=lambda: False), "auto", FP32),
        (SimpleNamespace(), "auto", FP32),  # a device that says nothing
        (SimpleNamespace(is_bf16_supported=lambda: True), "cpu", FP32),  # a recipe that stays on the CPU
    ],
)
def test_a_device_by_what_it_says(
    monkeypatch: pytest.MonkeyPatch, module: SimpleNamespace, accelerator: str, chosen: str
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert choose_precision("auto", accelerator) == chosen
