"""Made-up data stand in for real ones, whatever the model reads beside them."""

from __future__ import annotations

import pytest

from calmkit.autoencoders.patches import Patches
from calmkit.backbones.gru import GRUBackbone
from calmkit.conditioners.label import LabelConditioner
from calmkit.conditioners.prefix import PrefixConditioner
from calmkit.embedders.latents import LatentsEmbedder
from calmkit.heads.mixture import MixtureHead
from calmkit.interfaces import Conditioner
from calmkit.metrics.made_up import made_up_batch
from calmkit.model import CalmModel

H = 8


@pytest.mark.parametrize("conditioner", [None, LabelConditioner(H, 3), PrefixConditioner(H, (2, 5))])
def test_a_made_up_batch_trains_a_model_of_any_condition(conditioner: Conditioner | None) -> None:
    autoencoder = Patches((1, 4, 4), patch=2)
    head = MixtureHead(H, autoencoder.event, num_components=2, depth=1)
    embedder, backbone = LatentsEmbedder(H, autoencoder.event), GRUBackbone(hidden_dim=H)
    model = CalmModel(autoencoder, embedder, backbone, head, conditioner=conditioner)
    loss = model.loss(made_up_batch(autoencoder, 3, 4, "cpu")).per_unit
    assert loss.shape == (12,)
    loss.mean().backward()
    for parameter in () if conditioner is None else conditioner.parameters():
        assert parameter.grad is not None
