from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from calmkit.autoencoders.sigma_vae import SigmaVAE


def small(**settings: Any) -> SigmaVAE:
    return SigmaVAE(11, **{"chunk_size": 3, "latent_dim": 5, "hidden_dim": 8, **settings})


def constant_means(model: SigmaVAE, value: float) -> None:
    torch.nn.init.zeros_(model.net.encoder.out.weight)
    torch.nn.init.constant_(model.net.encoder.out.bias, value)


def test_posterior_by_hand() -> None:
    """Means of .4 and sigma .3: E x^2 = .25, so after training on it z has mean .8 and width .6."""
    model, data = small(sigma=0.3), torch.randint(11, (2, 4, 3))
    constant_means(model, 0.4)
    for _ in range(300):  # the scale forgets its start as .9^300 = 2e-14
        model.loss(data)
    posterior = model.encode(data)
    assert posterior.log_std is not None
    torch.testing.assert_close(posterior.mean, torch.full((2, 4, 5), 0.8))
    torch.testing.assert_close(posterior.log_std.exp(), torch.full((2, 4, 5), 0.6))


def test_scale_is_learned_in_train_mode_only_saved_and_undone_by_decode() -> None:
    model, data = small(), torch.randint(11, (2, 4, 3))
    constant_means(model, 3.0)
    model.eval().loss(data)
    assert model.scale.item() == 0.75
    model.train().loss(data)
    assert model.scale.item() == pytest.approx(0.9 * 0.75 + 0.1 * math.hypot(3.0, 0.75))
    twin = small()
    twin.load_state_dict(model.state_dict())
    assert twin.encode(data).mean.equal(model.encode(data).mean)
    torch.nn.init.normal_(
        model.net.decoder.into.bias, std=0.02
    )  # without it the scale of z cancels in a norm
    x = torch.randn(60, 5)
    assert not model.net.predict(x).equal(model.net.predict(x / model.scale))
    torch.testing.assert_close(model.decode(x / model.scale), model.net.logits(x))
    assert model.to_data(x / model.scale).equal(model.net.predict(x))


def test_loss_does_not_depend_on_the_scale() -> None:
    model, data = small(), torch.randint(11, (2, 4, 3))

    def loss() -> torch.Tensor:
        torch.manual_seed(3)
        return model.loss(data).per_unit

    first = loss()
    model.scale.fill_(7.0)
    assert loss().equal(first)


def test_loss_by_hand() -> None:
    """Zero embeddings: 3 ln 11 nats; means of 2 in 5 dimensions: KL without its constant 5 * 2^2 / 2 = 10."""
    model = small(kl_weight=0.1)
    torch.nn.init.zeros_(model.net.embedding.weight)
    constant_means(model, 2.0)
    out = model.loss(torch.randint(11, (2, 4, 3)))
    torch.testing.assert_close(out.per_unit, torch.full((2, 4), 7.19368582 + 0.1 * 10), atol=1e-7, rtol=0)
    assert out.terms["kl"].item() == pytest.approx(10)
    assert out.terms["rms"].item() == pytest.approx(2)


def test_kl_term_is_the_kl_up_to_a_constant() -> None:
    """KL(N(m, s^2)) - KL(N(0, s^2)) = m^2 / 2 for every s."""
    data = torch.randint(11, (2, 4, 3))
    model = small(sigma=0.6)
    model.scale.fill_(1.0)
    posterior = model.encode(data)
    constant = 5 * (0.5 * (0.6**2 - 1) - math.log(0.6))
    assert model.loss(data).terms["kl"].item() == pytest.approx(
        posterior.kl().sum(-1).mean().item() - constant
    )


def test_widths_of_training_are_one_per_unit() -> None:
    """With zero means the decoder sees width * noise; dimensions of a unit share the width, units do not."""
    model = small(latent_dim=4, sigma=0.75)
    torch.nn.init.zeros_(model.net.encoder.out.weight)
    seen: list[torch.Tensor] = []
    model.net.decoder.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    terms = model.loss(torch.randint(11, (40, 1000, 3))).terms
    (z,) = seen
    # 40000 widths |N(0, .9375^2)|: mean .748, std .5651, standard error .0028; 6 of them fail with rate 2e-9
    assert terms["std"].item() == pytest.approx(0.9375 * math.sqrt(2 / math.pi), abs=6 * 0.0028)
    # E|z1 z2| / .9375^2 = E w^2 (E|e|)^2 = 2 / pi where dimensions share the width, else (2 / pi)^2. Terms
    # have variance 3 - .405: standard error .0081, 6 of them fail with rate 2e-9.
    together = (z[..., 0] * z[..., 1]).abs().mean().item() / 0.9375**2
    assert together == pytest.approx(2 / math.pi, abs=6 * 0.0081)
    # neighbouring units have widths of their own: (2 / pi)^2, variance 1 - .164 per pair
    apart = (z[:, ::2, 0] * z[:, 1::2, 0]).abs().mean().item() / 0.9375**2
    assert apart == pytest.approx((2 / math.pi) ** 2, abs=6 * math.sqrt(0.836 / 20000))


def test_encode_is_the_same_in_train_and_eval_mode_and_takes_no_randomness() -> None:
    model, data = small(token_dropout=0.5), torch.randint(11, (2, 4, 3))
    state = torch.get_rng_state()
    assert model.train().encode(data).mean.equal(model.eval().encode(data).mean)
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize("settings", [{"sigma": 0.0}, {"kl_weight": -1.0}, {"latent_dropout": -0.1}])
def test_refuses_impossible_settings_by_name(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f"sigma_vae: {name} .*got .*would do"):
        small(**settings)
