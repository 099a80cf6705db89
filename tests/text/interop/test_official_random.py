"""Random checkpoints of many sizes against the official formulas, in double precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from official_reference import (
    Sizes,
    autoencoder_state,
    clipped_kl,
    cosine_betas,
    decode,
    denoiser,
    diffusion_sample,
    embed,
    encode,
    energy_samples,
    energy_score,
    flow_sample,
    language_state,
    llama,
    respaced,
    variance_bits,
    velocity,
)
from torch import Tensor

from calmkit.dynamics.ancestral import step_bits
from calmkit.dynamics.schedules import alphas_cumprod, linspace_timesteps
from calmkit.heads.diffusion import DiffusionHead
from calmkit.heads.energy_score import energy_loss
from calmkit.interfaces import Context, EventSpec, SampleOptions
from calmkit.model import CalmModel
from calmkit.text.interop import official
from calmkit.text.interop.official_config import DIFFUSION_SECTION

PLAIN = Sizes()
SIZES = [
    PLAIN,
    PLAIN.but(k=1, latent=3, encoder=4, decoder=0),
    PLAIN.but(k=2, encoder=3, decoder=1, kv_heads=1, theta=500000.0),
    PLAIN.but(k=8, encoder=1, decoder=5, kv_heads=4, heads=8, hidden=32, layers=3, head_depth=1, beta=1.5),
    PLAIN.but(k=4, encoder=5, decoder=3, heads=2, kv_heads=2, layers=1, noise=64, draws=2, theta=100.0),
    PLAIN.but(k=3, encoder=0, decoder=2, vocab=41, ae_hidden=5, ae_ffn=7, latent=9, head_depth=3, beta=0.5),
]
all_sizes = pytest.mark.parametrize("sizes", SIZES, ids=str)


def write(folder: Path, config: dict[str, Any], state: dict[str, Tensor]) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def made(folder: Path, sizes: Sizes) -> tuple[CalmModel, dict[str, Tensor], dict[str, Tensor]]:
    """The loaded model, the official state, and the autoencoder's."""
    autoencoder = autoencoder_state(sizes)
    state = language_state(sizes, autoencoder)
    language, alone = sizes.configs()
    write(folder / "autoencoder", alone, autoencoder)
    model = official.load(write(folder / "model", language, state))
    assert isinstance(model, CalmModel)
    return model, state, autoencoder


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.dtype == theirs.dtype == torch.float64
    assert ours.shape == theirs.shape
    assert theirs.norm() > 0
    assert (ours - theirs).norm() <= 1e-11 * theirs.norm()


def chunks_of(sizes: Sizes, rows: int = 2, units: int = 5) -> Tensor:
    return torch.randint(sizes.vocab, (rows, units, sizes.k))


@all_sizes
def test_autoencoder(tmp_path: Path, sizes: Sizes) -> None:
    model, _, state = made(tmp_path, sizes)
    chunks = chunks_of(sizes)
    mean, log_std = encode(state, sizes, chunks)
    posterior = model.autoencoder.encode(chunks)
    assert posterior.log_std is not None
    close(posterior.mean, mean)
    close(posterior.log_std, log_std)
    close(model.autoencoder.decode(mean), decode(state, sizes, mean))
    assert torch.equal(model.autoencoder.to_data(mean), decode(state, sizes, mean).argmax(-1))
    close(model.autoencoder.loss(chunks).terms["kl_clipped"], clipped_kl(mean, log_std))


@all_sizes
def test_embedder_and_backbone(tmp_path: Path, sizes: Sizes) -> None:
    model, state, _ = made(tmp_path, sizes)
    chunks = chunks_of(sizes)
    x = embed(state, sizes, chunks)
    close(model.embedder(chunks, model.encode(chunks).mean), x)
    further = torch.cat([chunks, chunks[:, :1]], 1)  # the condition behind the last chunk is a further one's
    close(model.context(further).h[:, 1:], llama(state, sizes, x))


@all_sizes
def test_energy(tmp_path: Path, sizes: Sizes, monkeypatch: pytest.MonkeyPatch) -> None:
    model, state, _ = made(tmp_path, sizes)
    h, noise = torch.randn(7, sizes.hidden), torch.rand(sizes.draws, 7, sizes.noise) - 0.5
    theirs = energy_samples(state, sizes, noise, h)
    monkeypatch.setattr(torch, "rand", lambda *args, **options: noise + 0.5)
    draws = model.head.sample(Context(h), sizes.draws)
    assert (draws - theirs).norm() <= 1e-11 * theirs.norm()
    targets = torch.randn(20, 7, sizes.latent)
    assert model.head.exponent == sizes.beta
    close(-energy_loss(draws, targets, model.head.exponent), energy_score(theirs, targets, sizes.beta))


@all_sizes
def test_flow(tmp_path: Path, sizes: Sizes) -> None:
    sizes = sizes.but(kind="FlowTransformer")
    model, state, _ = made(tmp_path, sizes)
    h, x, t = torch.randn(7, sizes.hidden), torch.randn(7, sizes.latent), torch.rand(7)
    net = model.head.net
    close(net(x[None], t[None], net.condition(h))[0], velocity(state, sizes, x, t, h))
    close(model.head.from_noise(Context(h), x[None])[0], flow_sample(state, sizes, x, h))


@all_sizes
def test_diffusion(tmp_path: Path, sizes: Sizes, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = sizes.but(kind="DiffusionTransformer")
    model, state, _ = made(tmp_path, sizes)
    h, x = torch.randn(4, sizes.hidden), torch.randn(4, sizes.latent)
    timesteps, net, schedule = torch.tensor([0, 1, 500, 999]), model.head.net, model.head.schedule
    told = schedule.time(timesteps, torch.float64)
    both = denoiser(state, sizes, x, timesteps, h)
    close(net(x[None], told[None], net.condition(h))[0], both)
    noises = [torch.randn(1, 4, sizes.latent) for _ in range(9)]
    left = iter(noises)
    monkeypatch.setattr("calmkit.dynamics.denoise.standard_noise", lambda *_: next(left))
    options = SampleOptions(num_steps=10, temperature=0.7)
    sample = model.head.from_noise(Context(h), x[None], options)
    close(sample, diffusion_sample(state, sizes, x[None], h, noises, 0.7))
    assert model.head.network_calls(SampleOptions()) == 100


def test_variance_term_of_the_diffusion_loss() -> None:
    z, x, eps, v = torch.randn(4, 6, 5).unbind()
    schedule = DiffusionHead(4, EventSpec((5,)), **DIFFUSION_SECTION).schedule
    for k in (1, 2, 500, 998, 999):
        timesteps = torch.full((6,), k)
        guess = schedule.latent(eps, x, *schedule.levels(timesteps, torch.float64))
        bits = step_bits(z, guess, v, schedule.steps(timesteps, torch.float64), timesteps == 0)
        wanted = variance_bits(z, x, k, eps, v)
        assert (bits - wanted).norm() <= 1e-9 * wanted.norm()  # at 999 eps is divided by 5e-5


def test_cosine_schedule_and_respacing() -> None:
    close(alphas_cumprod(1000), torch.cumprod(1 - cosine_betas(), 0))
    for steps in range(2, 1001):  # 21 among them, the first where adding up decides a tie
        assert linspace_timesteps(1000, steps) == respaced(1000, steps)[::-1]
