from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from calmkit.autoencoders.past_vae import PastVAE
from calmkit.autoencoders.vae import VAE
from calmkit.interfaces import Past

V, K = 11, 3


def small(**settings: Any) -> PastVAE:
    return PastVAE(V, **{"chunk_size": K, "latent_dim": 5, "hidden_dim": 8, **settings})


def rows(units: int = 4) -> tuple[Tensor, Past]:
    """Two rows, and what stands before each unit of them."""
    data = torch.randint(V, (2, units, K))
    return data, Past.of_rows(data, torch.ones(2, units, dtype=torch.bool), 1)[:, :-1]


def test_without_what_the_past_says_it_is_vae() -> None:
    """The vector of the past is added; at 0 nothing of `vae` is changed, its loss included."""
    model, vae = small().eval(), VAE(V, chunk_size=K, latent_dim=5, hidden_dim=8).eval()
    model.net.load_state_dict(vae.net.state_dict())
    data, past = rows()
    z = torch.randn(2, 4, 5)
    assert not torch.allclose(model.decode(z, past), vae.decode(z))
    torch.nn.init.zeros_(model.reader.out.weight)
    torch.nn.init.zeros_(model.reader.out.bias)
    assert model.decode(z, past).equal(vae.decode(z))
    assert model.to_data(z, past).equal(vae.to_data(z))
    assert model.encode(data).mean.equal(vae.encode(data).mean)
    losses = []
    for one in (model, vae):
        torch.manual_seed(2)
        losses.append(one.loss(data))
    assert losses[0].per_unit.equal(losses[1].per_unit)
    assert losses[0].terms.keys() == losses[1].terms.keys()


def trained(model: PastVAE | VAE) -> Tensor:
    """Rows in which each chunk is the one before plus 1, of which the first is any; `model` learns them."""
    first = torch.cartesian_prod(torch.arange(5), torch.arange(5)).unsqueeze(1)  # [25, 1, 2]
    data = (first + torch.arange(6).view(1, 6, 1)) % 5
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(data).per_unit.mean().backward()
        optimizer.step()
    model.eval()
    return data


def test_what_z_has_no_room_for_comes_from_the_past_alone() -> None:
    """A KL of weight 10 leaves z nothing to say, and 25 chunks are equally frequent: whatever is guessed of
    them by z is right for a token in 5. The chunk before says the chunk.
    """
    sizes: dict[str, Any] = {"chunk_size": 2, "latent_dim": 1, "hidden_dim": 16, "kl_weight": 10.0}
    sizes |= {"kl_floor": 0.0, "encoder_layers": 0, "decoder_layers": 0, "token_dropout": 0.0}
    model, vae = PastVAE(5, past_dropout=0.0, **sizes), VAE(5, **sizes)
    data = trained(model)
    past = Past.of_rows(data, torch.ones(25, 6, dtype=torch.bool), 1)[:, :-1]
    z = model.encode(data).mean
    assert model.to_data(z, past)[:, 1:].equal(data[:, 1:])
    assert (model.to_data(z) == data).double().mean().item() < 0.5
    trained(vae)
    assert (vae.to_data(vae.encode(data).mean) == data).double().mean().item() < 0.5


def test_past_dropout_acts_in_train_mode_and_on_the_past_alone() -> None:
    """At nearly 1 the decoder reads nothing but masks, as it does where no chunk stands before."""
    data, _ = rows()
    model = small(past_dropout=1 - 1e-9, token_dropout=0.0, latent_dropout=0.0)
    torch.manual_seed(3)
    dropped = model.train().loss(data).per_unit
    torch.manual_seed(3)
    alone = model.eval().loss(data).per_unit
    assert dropped[:, 0].equal(alone[:, 0])
    assert not dropped[:, 1:].equal(alone[:, 1:])
    z = model.encode(data)
    torch.manual_seed(3)
    blind = -model.decode(z.sample(1)[0]).log_softmax(-1).gather(-1, data.unsqueeze(-1)).sum((-2, -1))
    kl = z.kl().clamp(min=0.5).sum(-1)
    assert_close(dropped, blind + 1e-3 * kl)


def test_every_chunk_of_a_longer_past_is_read_at_its_place() -> None:
    data, _ = rows(units=6)
    model, z = small(past=3), torch.randn(2, 6, 5)
    past = Past.of_rows(data, torch.ones(2, 6, dtype=torch.bool), 3)[:, :-1]
    before = model.decode(z, past)
    for unit in range(6):
        changed = data.clone()
        changed[:, unit] = (changed[:, unit] + 1) % V
        after = model.decode(z, Past.of_rows(changed, torch.ones(2, 6, dtype=torch.bool), 3)[:, :-1])
        differs = (before != after).flatten(2).any(-1).any(0)
        assert differs.tolist() == [unit < other <= unit + 3 for other in range(6)]


@pytest.mark.parametrize("settings", [{"past": 0}, {"past_dropout": 1.0}, {"kl_weight": -1.0}])
def test_refuses_impossible_settings_by_name(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f"past_vae: {name} .*got .*would do"):
        small(**settings)
