from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from calmkit.autoencoders.deterministic import DeterministicAutoencoder


def small(**settings: Any) -> DeterministicAutoencoder:
    return DeterministicAutoencoder(11, **{"chunk_size": 3, "latent_dim": 5, "hidden_dim": 8, **settings})


def chunks() -> Tensor:
    return torch.randint(11, (2, 4, 3))


def test_posterior_is_a_point_of_unit_mean_square() -> None:
    posterior = small().encode(chunks())
    assert posterior.log_std is None
    # RMSNorm's epsilon is 1e-6; an untrained output has a mean square of about (.02 * sqrt(8))^2 = .003
    torch.testing.assert_close(posterior.mean.square().mean(-1), torch.ones(2, 4), rtol=1e-2, atol=0)


def test_scale_of_the_encoder_does_not_matter_but_without_unit_rms_it_does() -> None:
    data = chunks()
    for unit_rms, factor in ((True, 1.0), (False, 10.0)):
        model = small(unit_rms=unit_rms)
        before = model.encode(data).mean
        with torch.no_grad():
            model.net.encoder.out.weight.mul_(10)
        torch.testing.assert_close(model.encode(data).mean, factor * before, rtol=1e-2, atol=0)


def test_loss_by_hand() -> None:
    """Zero embeddings give uniform logits: 3 ln 11 nats per chunk, and nothing else is in the loss."""
    model = small()
    torch.nn.init.zeros_(model.net.embedding.weight)
    out = model.loss(chunks())
    torch.testing.assert_close(out.per_unit, torch.full((2, 4), 7.19368582), atol=1e-7, rtol=0)


def test_loss_is_deterministic_by_default_and_dropouts_act_in_train_mode_only() -> None:
    data, plain = chunks(), small()
    assert plain.train().loss(data).per_unit.equal(plain.eval().loss(data).per_unit)
    for dropout in ("token_dropout", "latent_dropout"):
        dropping = small(**{dropout: 0.9})
        dropping.load_state_dict(plain.state_dict())
        assert dropping.eval().loss(data).per_unit.equal(plain.loss(data).per_unit)
        assert not dropping.train().loss(data).per_unit.equal(plain.loss(data).per_unit)
        assert dropping.encode(data).mean.equal(plain.encode(data).mean)


def test_a_few_steps_learn_the_copy() -> None:
    """Ten chunks are told apart: accuracy 1 after 60 steps, where chance is 1 in 11."""
    model, data = small(latent_dim=8, hidden_dim=16), torch.randint(11, (1, 10, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(data).per_unit.mean().backward()
        optimizer.step()
    assert model.to_data(model.encode(data).mean).equal(data)


@pytest.mark.parametrize(
    "settings",
    [{"latent_dim": 1}, {"token_dropout": 1.0}, {"hidden_dim": 0}, {"encoder_layers": -1}, {"chunk_size": 0}],
)
def test_refuses_impossible_settings_by_name(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f"deterministic: {name} .*got .*would do"):
        small(**settings)
