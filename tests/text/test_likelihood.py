"""Likelihood: the exact one is cross-entropy, the bound is above what a grid integrates, sums by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from calmkit.autoencoders.deterministic import DeterministicAutoencoder
from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.autoencoders.vae import VAE
from calmkit.backbones.gru import GRUBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.heads.energy import EnergyHead
from calmkit.heads.local_ar import LocalARHead
from calmkit.heads.mixture import MixtureHead
from calmkit.interfaces import Autoencoder, Batch, Context, GenerativeHead, Posterior
from calmkit.model import CalmModel
from calmkit.text.metrics import likelihood
from calmkit.text.metrics.likelihood import (
    WIDTHS,
    Likelihood,
    average_inside,
    likelihood_kind,
    posterior_log_prob,
    token_bound,
    unit_nats,
    widened,
)
from calmkit.text.units import chunk_size_of
from calmkit.transforms.chain import Chain
from calmkit.transforms.normalise import NormaliseTransform

VOCAB = 5


def make_model(autoencoder: Autoencoder, head: type[GenerativeHead], predict_first: bool = True) -> CalmModel:
    backbone = GRUBackbone(hidden_dim=8, depth=1)
    event = autoencoder.event
    embedder = TokensEmbedder(8, event, autoencoder.chunk_size, VOCAB)
    parts = (autoencoder, embedder, backbone, head(8, event))
    model = CalmModel(*parts, predict_first=predict_first).eval()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn_like(p)
    return model


def rows(chunk_size: int) -> tuple[Tensor, Tensor]:
    """Two rows of six units, the last two of the second not real."""
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[1, 4:] = False
    return torch.randint(VOCAB, (2, 6, chunk_size)), valid


def scores(model: CalmModel, chunks: Tensor, valid: Tensor, num_draws: int = 1) -> dict[str, Tensor]:
    kind = likelihood_kind(model)
    assert kind is not None
    metric = Likelihood(kind, chunk_size_of(model))
    metric.update(*unit_nats(model, chunks, valid, kind, num_draws))
    return metric.compute()


def test_a_density_at_its_mean_by_hand() -> None:
    """Two dimensions with deviations 1 and e: -log(2 pi) - 1; one deviation off in the second: 1/2 less."""
    posterior = Posterior(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 1.0]]))
    at = torch.tensor([[1.0, 2.0]])
    assert float(posterior_log_prob(at, posterior)) == pytest.approx(-math.log(2 * math.pi) - 1)
    at = torch.tensor([[1.0, 2.0 + math.e]])
    assert float(posterior_log_prob(at, posterior)) == pytest.approx(-math.log(2 * math.pi) - 1.5)
    ids = Posterior(torch.tensor([[3, 1]]))
    assert posterior_log_prob(ids.mean, ids).tolist() == [0.0]


def test_the_bound_is_tight_for_every_draw_of_the_true_posterior() -> None:
    """z ~ N(0, 1), x | z ~ N(z, 3): x ~ N(0, 4) and z | x ~ N(x / 4, 3 / 4), so at x = 2 the bound is
    -log N(2; 0, 4) = 1/2 log(8 pi) + 1/2, whatever the draw."""
    x, z = 2.0, torch.randn(100, 1)

    def log_normal(value: Tensor, mean: float | Tensor, variance: float) -> Tensor:
        return -0.5 * (value - mean) ** 2 / variance - 0.5 * math.log(2 * math.pi * variance)

    posterior = Posterior(torch.full((100, 1), x / 4), torch.full((100, 1), 0.5 * math.log(0.75)))
    reconstruction = -log_normal(torch.tensor(x), z, 3.0)[:, 0]
    bound = token_bound(reconstruction, log_normal(z, 0.0, 1.0)[:, 0], posterior_log_prob(z, posterior))
    torch.testing.assert_close(bound, torch.full((100,), 0.5 * math.log(8 * math.pi) + 0.5))


@pytest.mark.parametrize("chunk_size", [1, 2])
@pytest.mark.parametrize("predict_first", [True, False])
def test_over_ids_it_is_the_loss_of_the_units_that_count(chunk_size: int, predict_first: bool) -> None:
    model = make_model(TokenChunks(VOCAB, chunk_size=chunk_size), LocalARHead, predict_first)
    chunks, valid = rows(chunk_size)
    result = scores(model, chunks, valid)
    per_unit = model.loss(Batch(chunks, valid)).per_unit
    assert len(per_unit) == (10 if predict_first else 8)
    torch.testing.assert_close(result["nll_per_token"], per_unit.mean().detach() / chunk_size)
    torch.testing.assert_close(result["bits_per_token"] * math.log(2), result["nll_per_token"])


def test_softmax_is_cross_entropy() -> None:
    """From the logits alone: h at a place, one matrix, log of the share of the true token."""
    model = make_model(TokenChunks(VOCAB, chunk_size=1), LocalARHead)
    assert isinstance(model.head, LocalARHead)
    chunks, valid = rows(1)
    logits = model.context(chunks).h @ model.head.to_logits.weight.T  # [2, 6, V]
    expected = float(F.cross_entropy(logits[valid], chunks[valid][:, 0]).detach())
    assert float(scores(model, chunks, valid)["nll_per_token"]) == pytest.approx(expected, rel=1e-6)


def test_a_uniform_model_pays_log_v() -> None:
    model = make_model(TokenChunks(VOCAB, chunk_size=2), LocalARHead)
    assert isinstance(model.head, LocalARHead)
    torch.nn.init.zeros_(model.head.to_logits.weight)
    result = scores(model, *rows(2))
    assert float(result["nll_per_token"]) == pytest.approx(math.log(VOCAB))
    assert float(result["nll_per_token_se"]) == pytest.approx(0, abs=1e-7)


def test_the_bound_stands_above_the_integral_by_the_divergence_of_the_posteriors() -> None:
    """One latent dimension, so a grid integrates p(chunk) = int p(chunk | z) p(z) dz and
    KL(q(z | chunk) || p(z | chunk)), which is what the bound exceeds it by."""
    model = make_model(VAE(VOCAB, chunk_size=2, latent_dim=1, hidden_dim=8), MixtureHead)
    assert isinstance(model.head, MixtureHead)
    assert likelihood_kind(model) == "bound"
    chunks, valid = rows(2)
    context, target = model.context(chunks, valid), model.encode(chunks)
    grid = torch.linspace(-30, 30, 24001)
    step = float(grid[1] - grid[0])
    exact, gap = [], []
    with torch.no_grad():
        reading = model.autoencoder.decode(grid[:, None]).log_softmax(-1)  # [G, K, V]
        for row, unit in valid.nonzero().tolist():
            here = Context(context.h[row, unit].expand(len(grid), -1))
            prior = model.head.log_prob(here, grid[:, None])
            ids = chunks[row, unit]
            joint = prior + reading[:, 0, ids[0]] + reading[:, 1, ids[1]]
            evidence = (joint.logsumexp(0) + math.log(step)).item()
            known = posterior_log_prob(grid[:, None], target[row, unit])
            exact.append(-evidence)
            gap.append(float((known.exp() * (known - joint + evidence)).sum() * step))
    assert min(gap) > 1e-3  # else the test could not tell a bound from the value
    expected = torch.tensor(exact) + torch.tensor(gap)

    def bounds(num_draws: int, times: int) -> Tensor:
        """Estimates `[times, 10 units, 4 widths]`, all of the same two rows."""
        again = (chunks.repeat(times, 1, 1), valid.repeat(times, 1))
        return unit_nats(model, *again, "bound", num_draws)[0][:, 1:].view(times, -1, len(WIDTHS))

    one = bounds(1, 4000)
    error = one[..., 0].std(0) / 4000**0.5
    # 10 units, two-sided: 6 standard errors are passed once in 5e7 (10 x 2e-9), skewness aside.
    assert ((one[..., 0].mean(0) - expected).abs() < 6 * error + 1e-5).all()
    for many in (one, bounds(8, 500)):  # every width and number of draws stays above the integral
        slack = 6 * many.std(0) / len(many) ** 0.5
        assert (many.mean(0) > torch.tensor(exact)[:, None] - slack).all()


def test_averaging_inside_the_logarithm_by_hand() -> None:
    """Bounds of log 2 and log 4: -log((1/2 + 1/4) / 2) = log(8/3), below their mean of log(sqrt 8)."""
    bounds = torch.tensor([2.0, 4.0]).log().unsqueeze(1)
    assert float(average_inside(bounds)) == pytest.approx(math.log(8 / 3))
    assert float(average_inside(bounds)) < math.log(8) / 2
    torch.testing.assert_close(average_inside(bounds[:1]), bounds[0])


def test_a_wider_posterior_by_hand() -> None:
    posterior = Posterior(torch.tensor([1.0]), torch.tensor([0.5]))
    wide = widened(posterior, math.e)
    assert wide.log_std is not None
    assert (float(wide.mean), float(wide.log_std)) == (1.0, 1.5)
    ids = Posterior(torch.tensor([3]))
    assert widened(ids, 2.0) is ids


def test_the_latent_nats_are_those_of_posterior_draws() -> None:
    model = make_model(VAE(VOCAB, chunk_size=2, latent_dim=3, hidden_dim=8), MixtureHead)
    chunks, valid = rows(2)
    torch.manual_seed(3)
    four, _ = unit_nats(model, chunks, valid, "bound", 4)
    torch.manual_seed(3)
    noise = torch.randn(4, *chunks.shape[:2], 3)
    target, context = model.encode(chunks), model.context(chunks, valid)
    assert target.log_std is not None
    assert isinstance(model.head, MixtureHead)
    z = target.mean + noise * target.log_std.exp()
    latent = torch.stack([-model.head.log_prob(context, one) for one in z]).mean(0)
    torch.testing.assert_close(four[:, 0], latent[valid].detach())


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(VAE(VOCAB, chunk_size=2, latent_dim=3, hidden_dim=8), MixtureHead)
    chunks, valid = rows(2)
    torch.manual_seed(3)
    whole, _ = unit_nats(model, chunks, valid, "bound", 2)
    monkeypatch.setattr(likelihood, "UNITS_PER_BLOCK", 3)
    torch.manual_seed(3)
    torch.testing.assert_close(unit_nats(model, chunks, valid, "bound", 2)[0], whole)


def test_who_knows_what() -> None:
    vae = VAE(VOCAB, chunk_size=2, latent_dim=3, hidden_dim=8)
    point = DeterministicAutoencoder(VOCAB, chunk_size=2, latent_dim=3, hidden_dim=8)
    assert likelihood_kind(make_model(vae, EnergyHead)) is None
    assert likelihood_kind(make_model(TokenChunks(VOCAB, chunk_size=2), LocalARHead)) == "exact"
    assert likelihood_kind(make_model(point, MixtureHead)) == "latent"
    result = scores(make_model(point, MixtureHead), *rows(2))
    assert set(result) == {"latent_nll"}


def test_numbers_by_hand() -> None:
    """Rows of 2 and 1 units of K=2 tokens; the second width is lowest: (1 + 3 + 5) nats over 6 tokens, and
    latents (2 + 0 + 4) over 3 units. Residuals of the rows: 4/2 - 2 * 1.5 = -1 and 5/2 - 1.5 = 1, so
    se^2 = 2 * (1 + 1) / 9."""
    nats = torch.tensor([[2.0, 9.0, 1.0, 9.0, 9.0], [0.0, 9.0, 3.0, 1.0, 9.0], [4.0, 9.0, 5.0, 9.0, 9.0]])
    metric = Likelihood("bound", 2)
    metric.update(nats, torch.tensor([0, 0, 1]))
    result = {name: float(value) for name, value in metric.compute().items()}
    assert result == pytest.approx(
        {"nll_bound_per_token": 1.5, "nll_bound_per_token_se": 2 / 3, "nll_bound_width": 2, "latent_nll": 2}
    )
    exact, parts = nats[:, 2:3], Likelihood("exact", 2)
    parts.update(exact[:2], torch.tensor([0, 0]))
    parts.update(exact[:0], torch.tensor([], dtype=torch.long))  # a batch without a real unit
    parts.update(exact[2:], torch.tensor([0]))  # rows of two updates are different rows
    assert float(parts.compute()["nll_per_token"]) == 1.5
    assert float(parts.compute()["nll_per_token_se"]) == pytest.approx(2 / 3)


def test_nothing_seen_is_refused() -> None:
    metric = Likelihood("exact", 1)
    metric.update(torch.zeros(0, 1), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ValueError, match="saw no unit"):
        metric.compute()


def test_what_the_decoder_pays_is_read_where_the_autoencoder_knows_the_values() -> None:
    """Behind a normalising transform values are decoded on the autoencoder's own scale: z at 2 z + 3."""
    vae = VAE(VOCAB, chunk_size=2, latent_dim=2, hidden_dim=8)
    model = make_model(vae, MixtureHead)
    normalise = NormaliseTransform(vae.event, None)
    normalise.center.fill_(3.0)
    normalise.scale.fill_(2.0)
    normalise.fitted.fill_(True)
    model.transform = Chain(vae.event, None, [normalise])
    chunks, valid = rows(2)
    z = torch.randn(2, 6, 2)
    paid = likelihood._reconstruction(model, z, chunks, valid)
    logits = vae.decode(2 * z + 3)
    by_token = F.cross_entropy(logits.flatten(0, 2), chunks.flatten(), reduction="none")
    torch.testing.assert_close(paid, by_token.view(2, 6, 2).sum(-1)[valid])
