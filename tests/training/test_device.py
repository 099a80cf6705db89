"""A device by its name: what this machine has, and nothing else."""

from __future__ import annotations

import pytest
import torch

from calmkit.training.device import find_device
from calmkit.training.errors import RunFailed


def two_of(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A machine with two accelerators of a kind."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)


def none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


def test_auto_is_the_accelerator_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    none_at_all(monkeypatch)
    assert find_device("auto") == torch.device("cpu")
    for kind in ("cuda", "mps", "xpu"):
        two_of(monkeypatch, kind)
        assert find_device("auto") == torch.device(kind)


def test_a_device_by_name_and_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    none_at_all(monkeypatch)
    assert find_device("cpu") == torch.device("cpu")
    two_of(monkeypatch, "cuda")
    assert [str(find_device(name)) for name in ("cpu", "cuda", "cuda:0", "cuda:1")] == [
        "cpu",
        "cuda",
        "cuda:0",
        "cuda:1",
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpu", "Nobody knows a device 'gpu'. It has: cpu;"),
        ("cuda", "This machine has no device 'cuda'. It has: cpu; auto takes the accelerator"),
        ("cuda:x", "Nobody knows a device 'cuda:x'."),
        ("", "Nobody knows a device ''."),
        ("meta", "This machine has no device 'meta'."),
        ("cpu:1", "This machine has no device 'cpu:1'."),
    ],
)
def test_what_is_not_here_is_refused_with_what_is(
    monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    none_at_all(monkeypatch)
    with pytest.raises(RunFailed) as caught:
        find_device(name)
    assert str(caught.value).startswith(said)


def test_a_number_too_high_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    two_of(monkeypatch, "cuda")
    for name in ("cuda:2", "mps"):
        with pytest.raises(RunFailed, match=rf"no device '{name}'\. It has: cpu, cuda:0, cuda:1; auto"):
            find_device(name)
