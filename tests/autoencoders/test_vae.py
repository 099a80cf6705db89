from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from calmkit.autoencoders.vae import LOG_STD_RANGE, VAE
from calmkit.nn import chunk_mlp


def small(**settings: Any) -> VAE:
    return VAE(11, **{"chunk_size": 3, "latent_dim": 5, "hidden_dim": 8, **settings})


def chunks(rows: int = 2, units: int = 4) -> Tensor:
    return torch.randint(11, (rows, units, 3))


class LargestTensor(TorchDispatchMode):
    """Records the most elements of any tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


def set_encoder(vae: VAE, mean: float, log_std: float) -> None:
    """Make the encoder say the same for every chunk."""
    out = vae.net.encoder.out
    torch.nn.init.zeros_(out.weight)
    with torch.no_grad():
        out.bias.copy_(torch.tensor([mean] * 5 + [log_std] * 5))


def test_v1_loss_by_hand() -> None:
    """Zero embeddings give uniform logits: 3 ln 11 nats per chunk; KL(N(1, .5^2)) = .81814718, 5 times."""
    vae = small(kl_weight=0.1)
    set_encoder(vae, 1.0, torch.tensor(0.5).log().item())
    torch.nn.init.zeros_(vae.net.embedding.weight)
    out = vae.loss(chunks())
    assert out.per_unit.shape == (2, 4)
    reconstruction, kl = 3 * 2.39789527, 5 * 0.81814718
    expected = torch.full((2, 4), reconstruction + 0.1 * kl)
    torch.testing.assert_close(out.per_unit, expected, atol=1e-7, rtol=0)
    assert out.terms["reconstruction"].item() == pytest.approx(reconstruction, abs=1e-7)
    assert out.terms["kl"].item() == pytest.approx(kl, abs=1e-7)
    assert out.terms["std"].item() == pytest.approx(0.5)
    assert out.terms["active_dims"].item() == 0


def test_v1_kl_is_clamped_per_dimension() -> None:
    """q = N((.1, 1), (.9^2, .5^2)): KL (.01536052, .81814718); with the first at its floor, 1.31814718."""
    vae = VAE(11, chunk_size=3, latent_dim=2, hidden_dim=8)
    torch.nn.init.zeros_(vae.net.encoder.out.weight)
    with torch.no_grad():
        vae.net.encoder.out.bias.copy_(torch.tensor([0.1, 1.0, math.log(0.9), math.log(0.5)]))
    terms = vae.loss(chunks()).terms
    assert terms["kl"].item() == pytest.approx(0.01536052 + 0.81814718, abs=1e-8)
    assert terms["kl_clipped"].item() == pytest.approx(1.31814718, abs=5e-9)


def test_v1_kl_floor_holds_per_dimension_and_chunk() -> None:
    """KL(N(.1, .9^2)) = .01536 in every dimension: the floor .5 counts instead, and no gradient flows."""
    vae = small(kl_weight=1.0)
    set_encoder(vae, 0.1, torch.tensor(0.9).log().item())
    terms = vae.loss(chunks()).terms
    assert terms["kl"].item() == pytest.approx(5 * 0.01536052, abs=1e-7)
    assert terms["kl_clipped"].item() == pytest.approx(5 * 0.5)

    torch.nn.init.zeros_(vae.net.decoder.into.weight)  # z no longer reaches the reconstruction
    bias = vae.net.encoder.out.bias
    (below,) = torch.autograd.grad(vae.loss(chunks()).per_unit.mean(), bias)
    assert below.eq(0).all()
    set_encoder(vae, 1.0, torch.tensor(0.5).log().item())
    (above,) = torch.autograd.grad(vae.loss(chunks()).per_unit.mean(), bias)
    # d KL / d mean = mean = 1; d KL / d log_std = std^2 - 1 = -.75
    torch.testing.assert_close(above, torch.tensor([1.0] * 5 + [-0.75] * 5))


def test_floor_comes_before_any_averaging_and_eval_mode_draws_z_too() -> None:
    vae, data = small(kl_weight=1.0).eval(), chunks()
    with torch.no_grad():
        vae.net.encoder.out.weight.mul_(10)
    kl = vae.encode(data).kl()
    assert kl.lt(0.5).any()
    assert kl.gt(0.5).any()

    def loss() -> Tensor:
        torch.manual_seed(3)
        return vae.loss(data).per_unit

    torch.manual_seed(3)
    z = vae.encode(data).sample()[0]
    expected = chunk_mlp.chunk_cross_entropy(vae.decode(z), data) + kl.clamp(min=0.5).sum(-1)
    torch.testing.assert_close(loss(), expected)


def test_one_parameter_embeds_and_projects() -> None:
    vae = small()
    assert sum(tuple(p.shape) == (12, 8) for p in vae.parameters()) == 1
    assert sum(11 in p.shape for p in vae.parameters()) == 0
    z = torch.randn(2, 5)
    before = vae.decode(z)
    with torch.no_grad():
        vae.net.embedding.weight[4] *= 2
    torch.testing.assert_close(vae.decode(z)[..., 4], 2 * before[..., 4])


def test_mask_id_is_read_but_never_predicted() -> None:
    vae = small(token_dropout=0.999999)
    with torch.no_grad():
        vae.net.embedding.weight[11] = 100 * vae.net.embedding.weight[3]  # would win every argmax
    z = torch.randn(50, 5)
    assert vae.decode(z).shape == (50, 3, 11)
    assert vae.to_data(z).max() < 11
    vae.loss(chunks()).per_unit.mean().backward()
    gradient = vae.net.embedding.weight.grad
    assert gradient is not None
    assert gradient[11].abs().sum() > 0  # all ids dropped: the encoder read the mask row
    dropped = vae.net.drop_tokens(chunks(), 0.999999)
    assert dropped.eq(11).all()


def test_dropped_share() -> None:
    """30000 ids at p = .3: standard error .0026; 6 of them fail with rate 2e-9."""
    data = torch.randint(11, (100, 100, 3))
    dropped = small().net.drop_tokens(data, 0.3)
    assert dropped.eq(11).double().mean().item() == pytest.approx(0.3, abs=6 * 0.0026)
    assert dropped[dropped.ne(11)].equal(data[dropped.ne(11)])


def test_every_layer_runs_odd_counts_too() -> None:
    """Official code cuts 3 // 2 twice and leaves a layer without gradient."""
    vae = small(encoder_layers=3, decoder_layers=1)
    assert len(vae.net.encoder.tokens) == 1
    assert len(vae.net.encoder.chunk) == 2
    assert len(vae.net.decoder.tokens) == 0
    assert len(vae.net.decoder.chunk) == 1
    vae.loss(chunks()).per_unit.mean().backward()
    still = [name for name, p in vae.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert still == []


def test_encode_is_the_same_in_train_and_eval_mode() -> None:
    vae, data = small(), chunks()
    train, evaluation = vae.train().encode(data), vae.eval().encode(data)
    assert train.mean.equal(evaluation.mean)
    assert train.log_std is not None
    assert evaluation.log_std is not None
    assert train.log_std.equal(evaluation.log_std)


def test_train_and_eval_share_the_formula() -> None:
    """Without dropout the mode changes nothing; with it, eval mode equals a model without."""
    data, plain = chunks(), small(token_dropout=0.0, latent_dropout=0.0)
    dropping = small()
    dropping.load_state_dict(plain.state_dict())

    def loss(vae: VAE) -> Tensor:
        torch.manual_seed(3)
        return vae.loss(data).per_unit

    assert loss(plain.train()).equal(loss(plain.eval()))
    assert loss(dropping.eval()).equal(loss(plain))
    assert not loss(dropping.train()).equal(loss(plain))


def test_chunks_are_independent_and_order_inside_matters() -> None:
    vae, data = small().eval(), chunks(1, 4)
    alone = vae.encode(data[:, 2:3]).mean
    torch.testing.assert_close(vae.encode(data).mean[:, 2:3], alone)
    swapped = vae.encode(torch.tensor([[1, 2, 3], [2, 1, 3]])).mean
    assert not torch.allclose(swapped[0], swapped[1])


def test_log_std_stays_in_range() -> None:
    vae = small()
    for wild, bound in ((-1e4, LOG_STD_RANGE[0]), (1e4, LOG_STD_RANGE[1])):
        set_encoder(vae, 0.0, wild)
        log_std = vae.encode(chunks()).log_std
        assert log_std is not None
        assert log_std.eq(bound).all()
        assert vae.loss(chunks()).per_unit.isfinite().all()


def test_to_data_is_the_argmax_of_decode_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit's widest tensor has 3 * 20 numbers, so 600 let ten units pass: 42 units go in five blocks."""
    vae = small()
    z = torch.randn(2, 21, 5)
    expected = vae.decode(z).argmax(-1)
    monkeypatch.setattr(chunk_mlp, "BLOCK_ELEMENTS", 600)
    with LargestTensor() as seen:
        found = vae.to_data(z)
    assert found.equal(expected)
    assert seen.elements <= 600
    assert vae.to_data(z[0, 0]).equal(expected[0, 0])
    assert vae.to_data(z[:0]).shape == (0, 21, 3)


def test_real_vocabulary_stays_below_the_real_bound() -> None:
    """1500 draws of 4 tokens over 4096 ids are 2.5e7 logits, 1.5 bounds; none may be made whole."""
    vae = VAE(4096, chunk_size=4, latent_dim=2, hidden_dim=4).float()
    with LargestTensor() as seen:
        vae.to_data(torch.randn(1500, 2, dtype=torch.float32))
    assert seen.elements <= chunk_mlp.BLOCK_ELEMENTS == 2**24


def test_autocast_keeps_posterior_and_loss_in_the_weights_dtype() -> None:
    """Targets of stage 2 are computed by bf16 products but not rounded to 8 bits themselves."""
    vae, data = small().float().eval(), chunks()
    with torch.autocast("cpu", torch.bfloat16):
        posterior, per_unit = vae.encode(data), vae.loss(data).per_unit
    assert posterior.mean.dtype == per_unit.dtype == torch.float32
    torch.testing.assert_close(posterior.mean, vae.encode(data).mean, rtol=0.05, atol=2e-3)


def test_reconstruction_is_a_sum_of_cross_entropies() -> None:
    logits, data = torch.randn(2, 4, 3, 11), chunks()
    expected = -logits.log_softmax(-1).gather(-1, data[..., None]).squeeze(-1).sum(-1)
    torch.testing.assert_close(chunk_mlp.chunk_cross_entropy(logits, data), expected)
    half = chunk_mlp.chunk_cross_entropy(logits.bfloat16(), data)
    assert half.dtype == torch.float32
    torch.testing.assert_close(
        half,
        F.cross_entropy(logits.bfloat16().float().flatten(0, -2), data.flatten(), reduction="none")
        .view(2, 4, 3)
        .sum(-1),
    )


def test_initial_weights_follow_the_official_law() -> None:
    """N(0, .02^2): 65536 weights: standard error .02 / sqrt(2 * 65536) = 5.5e-5; 6 fail with rate 2e-9."""
    weight = VAE(255, chunk_size=4, latent_dim=8, hidden_dim=256).net.embedding.weight
    assert weight.std().item() == pytest.approx(0.02, abs=6 * 5.5e-5)
    assert small().net.encoder.squeeze.bias.eq(0).all()


def test_paper_size() -> None:
    """75.83 M parameters at V = 128257 (calculated from the paper's sizes), and one mask row of 512."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in VAE(128257).parameters())
    assert parameters - 512 == 75_832_064
