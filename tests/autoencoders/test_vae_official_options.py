"""Options for official checkpoints: a layer that is never run, a real id for dropped tokens."""

from __future__ import annotations

import pytest
import torch

from calmkit.autoencoders.vae import VAE
from calmkit.testing import check_autoencoder

SIZES = {"chunk_size": 2, "latent_dim": 3, "hidden_dim": 8}
ODD = {"encoder_layers": 3, "decoder_layers": 1, "odd_layer": "unused"}


def test_an_unused_layer_is_kept_never_run_and_never_trained() -> None:
    vae = VAE(11, **SIZES, **ODD)
    halves = (vae.net.encoder, vae.net.decoder)
    assert [(len(h.tokens), len(h.chunk), len(h.unused)) for h in halves] == [(1, 1, 1), (0, 0, 1)]
    chunks = torch.randint(11, (4, 3, 2))
    before, logits = vae.encode(chunks), vae.decode(torch.ones(3))
    unused = [p for half in halves for p in half.unused.parameters()]
    assert len(unused) == 2 * 4
    assert not any(p.requires_grad for p in unused)
    with torch.no_grad():
        for parameter in unused:
            parameter.fill_(float("nan"))
    assert torch.equal(vae.encode(chunks).mean, before.mean)
    assert torch.equal(vae.decode(torch.ones(3)), logits)
    vae.loss(chunks).per_unit.sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in vae.parameters())


def test_an_odd_layer_of_ours_is_run() -> None:
    vae = VAE(11, **SIZES, encoder_layers=3)
    assert (len(vae.net.encoder.tokens), len(vae.net.encoder.chunk), len(vae.net.encoder.unused)) == (1, 2, 0)
    chunks = torch.randint(11, (4, 3, 2))
    before = vae.encode(chunks).mean
    torch.nn.init.ones_(vae.net.encoder.chunk[1].mlp.down.weight)
    assert not torch.allclose(vae.encode(chunks).mean, before)


def test_dropped_tokens_are_read_as_the_mask_id() -> None:
    ours, theirs = VAE(11, **SIZES), VAE(11, **SIZES, mask_id=0)
    assert [len(vae.net.embedding.weight) for vae in (ours, theirs)] == [12, 11]
    data = torch.full((1000, 2), 5)
    for vae, mask in ((ours, 11), (theirs, 0)):
        vae.train()
        dropped = vae.net.drop_tokens(data, 0.15)
        assert set(dropped.unique().tolist()) == {5, mask}
        # 2000 draws at 0.15: sigma 0.008; 6 sigma are a false alarm in 2e-9 of runs
        assert abs((dropped == mask).double().mean().item() - 0.15) < 6 * (0.15 * 0.85 / 2000) ** 0.5
        vae.eval()
        assert torch.equal(vae.net.drop_tokens(data, 0.15), data)
    with pytest.raises(ValueError, match="vae: mask_id must be an id below 11, got 11; null"):
        VAE(11, **SIZES, mask_id=11)


def test_contract() -> None:
    check_autoencoder(VAE, **SIZES, mask_id=0, odd_layer="unused", encoder_layers=2)
