"""The official code's own numbers, float32: within 1e-5 of the norm, tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from calmkit.dynamics.schedules import alphas_cumprod
from calmkit.heads.energy_score import energy_loss
from calmkit.interfaces import Context
from calmkit.text.interop import official

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "official-k4"
pytestmark = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="shared/golden/official-k4 does not lie beside the checkout"
)
KINDS = ("energy", "flow", "diffusion")
RELATIVE = 1e-5


@pytest.fixture(autouse=True)
def float32() -> Iterator[None]:
    torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        yield


@cache
def golden() -> dict[str, Tensor]:
    return load_file(str(GOLDEN / "expected.safetensors"))


@cache
def model(kind: str) -> Any:
    return official.load(GOLDEN / kind)


def chunks() -> Tensor:
    return golden()["input_ids"].view(2, 6, 4)


def hidden(kind: str) -> Tensor:
    return golden()[f"{kind}.hidden"].flatten(0, 1)


def agrees(ours: Tensor, name: str) -> None:
    theirs = golden()[name]
    assert ours.shape == theirs.shape
    assert (ours.double() - theirs.double()).norm() <= RELATIVE * theirs.double().norm()


@pytest.mark.parametrize("kind", ["autoencoder", *KINDS])
def test_posterior(kind: str) -> None:
    posterior = model(kind).autoencoder.encode(chunks())
    agrees(posterior.mean, "ae.mean")
    agrees(posterior.log_std, "ae.log_std")


def test_decoder_logits() -> None:
    logits = model("autoencoder").autoencoder.decode(golden()["ae.mean"])
    agrees(logits.flatten(1, 2), "ae.decode_logits")


def test_clipped_kl() -> None:
    agrees(model("autoencoder").autoencoder.loss(chunks()).terms["kl_clipped"], "ae.kl_clipped")


@pytest.mark.parametrize("kind", KINDS)
def test_embedder(kind: str) -> None:
    agrees(model(kind).embedder(chunks(), golden()["ae.mean"]), f"{kind}.inputs_embeds")


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states(kind: str) -> None:
    further = torch.cat([chunks(), chunks()[:, :1]], 1)  # the last state conditions the chunk behind the row
    agrees(model(kind).context(further).h[:, 1:], f"{kind}.hidden")


def test_energy_samples() -> None:
    agrees(model("energy").head.network(golden()["energy.noise"], hidden("energy")), "energy.samples")


def test_energy_score() -> None:
    posterior = model("energy").autoencoder.encode(chunks())
    mean, std = posterior.mean.flatten(0, 1), posterior.log_std.exp().flatten(0, 1)
    targets = mean + golden()["energy.target_eps"] * std
    loss = energy_loss(golden()["energy.samples"], targets, model("energy").head.exponent)
    agrees(-loss, "energy.score")


def test_flow_velocity() -> None:
    net = model("flow").head.net
    velocity = net(golden()["flow.x"][None], golden()["flow.t"][None], net.condition(hidden("flow")))
    agrees(velocity[0], "flow.velocity")


def test_flow_sample() -> None:
    start = golden()["flow.x0"][None]
    agrees(model("flow").head.from_noise(Context(hidden("flow")), start)[0], "flow.sample")


def test_diffusion_network() -> None:
    head = model("diffusion").head
    told = head.schedule.time(golden()["diffusion.t"], torch.float32)
    both = head.net(golden()["diffusion.x"][None], told[None], head.net.condition(hidden("diffusion")))
    agrees(both[0], "diffusion.eps_and_var")


def test_diffusion_schedule() -> None:
    agrees(alphas_cumprod(model("diffusion").head.schedule.train_timesteps), "diffusion.alphas_cumprod")


@pytest.mark.parametrize("kind", ["autoencoder", *KINDS])
def test_export_gives_the_same_files_back(kind: str, tmp_path: Path) -> None:
    checkpoint = official.read(GOLDEN / kind)
    whole = model(kind) if checkpoint.config else model(kind).autoencoder
    config = dict(checkpoint.config.values) if checkpoint.config else None
    official.save(whole, tmp_path, config=config, ae_config=dict(checkpoint.autoencoder_config.values))
    for folder, written in ((kind, tmp_path), ("autoencoder", tmp_path / "autoencoder")):
        if not written.exists():
            continue
        theirs = torch.load(GOLDEN / folder / "pytorch_model.bin", weights_only=True)
        ours = torch.load(written / "pytorch_model.bin", weights_only=True)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        said, says = (json.loads((f / "config.json").read_text()) for f in (GOLDEN / folder, written))
        said.pop("ae_path", None), says.pop("ae_path", None)
        assert says == said
