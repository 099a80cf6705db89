"""On an accelerator: the numbers of the CPU, and everything stays where the model is.

`pytest -m gpu -n 0`. Skipped where there is none; `tests/test_second_device.py` runs the same lines on a
device that is none, `CALMKIT_TEST_DEVICE=pretend`, which sees what the CPU forgives.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import second_device
import torch
from guest_student_t import StudentTHead
from small_runs import SHORT, column, small_run, workshop
from torch import Tensor

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.autoencoders.vae import VAE
from calmkit.backbones.transformer import TransformerBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.head_calls import head_draws, head_loss
from calmkit.heads.energy_score import gaussian_energy_loss
from calmkit.interfaces import Autoencoder, Batch, Context, DensityHead, EventSpec, Posterior
from calmkit.model import CalmModel
from calmkit.registry import make_manager
from calmkit.text.generation import generate
from calmkit.text.metrics.rollout import brier_draws

ASKED = os.environ.get("CALMKIT_TEST_DEVICE")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(ASKED is None and not torch.accelerator.is_available(), reason="no accelerator here"),
]
V, K, H, EOS = 50, 4, 64, 49
HEADS: dict[str, dict[str, Any]] = {
    "energy": {"depth": 2},
    "flow": {"depth": 2},
    "diffusion": {"depth": 2},
    "mean_flow": {"depth": 2},
    "consistency": {"depth": 2},
    "mixture": {"depth": 2, "num_components": 3},
    "strata": {"num_codes": 3},
    "tied_mixture": {"num_components": 5},
    "regression": {"depth": 2},
    "local_ar": {"width": 32, "depth": 1, "heads": 2},
}


@pytest.fixture(autouse=True)
def float32_as_users_have_it() -> Iterator[None]:
    """Not every device has float64, and whoever makes numbers in torch's default dtype makes them here."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def device() -> torch.device:
    if ASKED == second_device.NAME:
        return second_device.register()
    if ASKED is not None:
        return torch.device(ASKED)
    found = torch.accelerator.current_accelerator()
    assert found is not None
    return found


def make_model(head: str) -> CalmModel:
    """A model in float32, random weights everywhere, also where a fresh head has zeros."""
    autoencoder: Autoencoder = VAE(V, chunk_size=K, latent_dim=16, hidden_dim=32)
    if head == "local_ar":
        autoencoder = TokenChunks(V, chunk_size=K)
    event = autoencoder.event
    sizes = {"hidden_dim": H, "event": event, "chunk_size": K, "vocab_size": V}
    part = make_manager().build("heads", head, HEADS[head], **sizes)
    backbone = TransformerBackbone(hidden_dim=H, depth=2, heads=4, kv_heads=2)
    model = CalmModel(autoencoder, TokensEmbedder(H, event, K, V), backbone, part)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.float().eval()


def batch() -> tuple[Tensor, Tensor]:
    chunks, valid = torch.randint(V - 1, (3, 9, K)), torch.ones(3, 9, dtype=torch.bool)
    valid[1, :2] = False
    return chunks, valid


def assert_close(found: Tensor, wanted: Tensor) -> None:
    """Within what float32 sums in another order may do."""
    error = (found.cpu().double() - wanted.double()).norm() / wanted.double().norm()
    assert float(error) < 1e-4


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_deterministic_numbers_are_those_of_the_cpu(head: str, device: torch.device) -> None:
    model, (chunks, valid) = make_model(head), batch()
    there = copy.deepcopy(model).to(device)
    here = model.context(chunks, valid).h
    away = there.context(chunks.to(device), valid.to(device)).h
    assert away.device.type == device.type
    assert_close(away, here)
    posterior = model.encode(chunks)
    if posterior.log_std is not None:
        assert_close(there.encode(chunks.to(device)).mean, posterior.mean)
        z = posterior.mean[valid]
        assert_close(there.autoencoder.decode(z.to(device)), model.autoencoder.decode(z))
    if isinstance(model.head, DensityHead):
        assert isinstance(there.head, DensityHead)
        context, value = model.context(chunks, valid)[valid], posterior.mean[valid]
        moved = type(context)(context.h.to(device))
        assert_close(there.head.log_prob(moved, value.to(device)), model.head.log_prob(context, value))


def test_the_energy_loss_and_its_gradient_are_those_of_the_cpu(device: torch.device) -> None:
    draws, mean = torch.randn(8, 20, 16).float(), torch.randn(20, 16).float()
    log_std, noise = torch.full((20, 16), -1.2).float(), torch.randn(100, 16).float()
    results = []
    for place in (torch.device("cpu"), device):
        given = draws.to(place, copy=True).requires_grad_()  # a leaf there as well as here
        loss = gaussian_energy_loss(given, mean.to(place), log_std.to(place), noise.to(place), 1.0)
        loss.sum().backward()
        assert given.grad is not None
        results.append((loss.detach().cpu(), given.grad.cpu()))
    (here, here_grad), (away, away_grad) = results
    assert_close(away, here)
    assert_close(away_grad, here_grad)


@pytest.mark.parametrize("head", HEADS)
def test_draws_scores_and_text_stay_on_the_device_and_follow_the_seed(
    head: str, device: torch.device
) -> None:
    model, (chunks, valid) = make_model(head).to(device), batch()
    chunks, valid = chunks.to(device), valid.to(device)
    loss = model.loss(Batch(chunks, valid)).per_unit
    assert loss.device.type == device.type
    assert bool(loss.isfinite().all())
    accuracy, collision, _ = brier_draws(model, chunks, valid, num_draws=2)
    assert accuracy.device.type == collision.device.type == device.type
    sampler = make_manager().build("samplers", "vote", {"candidates": 8})
    texts = [
        [
            unit.data.cpu()
            for unit in generate(model, [[1, 2, 3], []], sampler, eos_id=EOS, max_units=3, seed=5)
        ]
        for _ in range(2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*texts, strict=True))


def test_a_head_that_holds_in_float32_only_is_called_so_under_the_device_s_autocast(
    device: torch.device,
) -> None:
    event = EventSpec((16,))
    head = StudentTHead(H, event).to(device)
    context = Context(torch.randn(5, H, device=device).bfloat16())
    target = Posterior(torch.randn(5, 16, device=device))
    with torch.autocast(device.type, torch.bfloat16):
        loss, draws = head_loss(head, context, target), head_draws(head, context, 3)
    assert (loss.dtype, draws.dtype) == (torch.float32, torch.float32)
    assert loss.device.type == draws.device.type == device.type
    loss.mean().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_a_run_trains_on_the_device(tmp_path: Path, device: torch.device) -> None:
    accelerator = "cpu" if device.type == "cpu" else "gpu"
    with workshop(tmp_path) as folder:
        run = small_run(folder, "run", *SHORT[:1], f"trainer.accelerator={accelerator}")
        losses = column(run, "lm/train/loss")
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_a_loaded_run_writes_on_the_device(tmp_path: Path, device: torch.device, precision: Any) -> None:
    """Every draw, and the generator behind it, is the device's; the same seed gives the same text."""
    with workshop(tmp_path) as folder:
        run = small_run(folder, "run", *SHORT, "trainer.accelerator=cpu", "backbone=transformer")
        text_model = run.load(device="auto" if ASKED is None else ASKED, precision=precision)
        assert {p.device.type for p in text_model.model.parameters()} == {device.type}
        made: list[torch.device] = []
        before = torch.get_device_module(device).get_rng_state() if device.type != "cpu" else None
        texts = []
        for _ in range(2):
            pieces = text_model.stream(
                "the ", max_tokens=64, seed=1, on_unit=lambda unit: made.append(unit.data.device)
            )
            texts.append("".join(pieces))
        assert {place.type for place in made} == {device.type}
        assert texts[0] == texts[1]
        if before is not None:
            assert torch.equal(torch.get_device_module(device).get_rng_state(), before)
