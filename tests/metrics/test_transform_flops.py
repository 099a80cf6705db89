"""What transforms cost: what they say, three times where they learn; what they don't say is counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calmkit.autoencoders.patches import Patches
from calmkit.backbones.gru import GRUBackbone
from calmkit.embedders.latents import LatentsEmbedder
from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import EventSpec, LatentTransform, StatesCodingFlops
from calmkit.metrics.flops import count_flops, states_flops
from calmkit.model import CalmModel
from calmkit.recipe.load import load_recipe
from calmkit.recipe.plan import plan
from calmkit.registry import Part, make_manager
from calmkit.transforms.adaptor import AdaptorTransform
from calmkit.transforms.chain import Chain
from calmkit.transforms.normalise import NormaliseTransform
from calmkit.transforms.patchify import PatchifyTransform

EVENT, GRID = EventSpec((4,)), (4, 4)  # 16 units of 4 dimensions


class Rotated(LatentTransform):
    """Nobody's formula: a guest, a matrix that never changes, and none before it is fitted."""

    keeps_gaussians = False

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__()
        self.event, self.layout = event, layout
        self.by = nn.Parameter(torch.eye(event.shape[0]))
        self.fitted = False

    def fit(self, batches: Any) -> None:
        self.fitted = any(len(z) for z in batches)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if not self.fitted:
            raise RuntimeError("Rotated is not fitted.")
        return z @ self.by, z.new_zeros(z.shape[:-1])

    def inverse(self, z: Tensor) -> Tensor:
        return z @ self.by.T


class Turned(Rotated):
    """The same, trained."""

    learned = True


def model_with(*transforms: LatentTransform) -> CalmModel:
    """Learned or not, behind patches, which cost nothing."""
    chain = Chain(EVENT, GRID, transforms)
    return CalmModel(
        Patches((1, 8, 8), patch=2),
        LatentsEmbedder(8, chain.event),
        GRUBackbone(hidden_dim=8),
        RegressionHead(8, chain.event, depth=1),
        transform=chain,
    )


def test_an_adaptor_costs_three_passes_in_training_and_one_back_for_each_row_that_is_drawn() -> None:
    """By hand: 2 blocks of width 6 between halves of 2, 3 x 3 kernels at 16 places."""
    model = model_with(NormaliseTransform(EVENT, GRID), AdaptorTransform(EVENT, GRID, blocks=2, width=6))
    row = 2 * 16 * 2 * 9 * (2 * 6 + 6 * 6 + 6 * 2)
    found = count_flops(model, 16)
    assert found.training["transform"] == 3 * row
    assert found.inference["transform"] == row // 16
    assert found.inference_per_unit == sum(n for n in found.inference.values() if n is not None)
    assert count_flops(model, 16, draws=3).inference["transform"] == 3 * (row // 16)


def test_a_transform_that_multiplies_no_matrix_is_free_and_without_one_there_is_no_such_part() -> None:
    found = count_flops(model_with(NormaliseTransform(EVENT, GRID), PatchifyTransform(EVENT, GRID)), 4)
    assert (found.training["transform"], found.inference["transform"]) == (0, 0)
    model = model_with()
    model.transform = None
    found = count_flops(model, 16)
    assert "transform" not in found.training
    assert "transform" not in found.inference


def test_behind_patchify_it_is_the_new_units_that_are_transformed() -> None:
    wide = EventSpec((16,))
    adaptor = AdaptorTransform(wide, (2, 2), blocks=1, width=6)
    found = count_flops(model_with(PatchifyTransform(EVENT, GRID), adaptor), 4)
    row = 2 * 4 * 9 * (8 * 6 + 6 * 6 + 6 * 8)
    assert found.training["transform"] == 3 * row
    assert found.inference["transform"] == row // 4


@pytest.mark.parametrize(("cls", "passes"), [(Rotated, 1), (Turned, 3)])
def test_a_guest_that_states_nothing_is_measured_and_left_as_it_was(cls: type[Rotated], passes: int) -> None:
    guest = cls(EVENT, GRID)
    found = count_flops(model_with(guest), 16)
    assert found.training["transform"] == passes * 2 * 16 * 4 * 4
    assert found.inference["transform"] == 2 * 4 * 4
    assert not guest.fitted
    assert not states_flops(Chain(EVENT, GRID, [guest]))
    assert states_flops(Chain(EVENT, GRID, [AdaptorTransform(EVENT, GRID)]))


def test_every_built_in_transform_states_its_cost() -> None:
    parts = make_manager(guests=[]).parts["transforms"].values()
    assert all(states_flops(part.cls(EVENT, GRID)) for part in parts)


class CostlyPatches(Patches, StatesCodingFlops):  # type: ignore[misc]
    """As if a patch cost something."""

    def encode_flops(self) -> int:
        return 10

    def decode_flops(self) -> int:
        return 7


def test_a_unit_that_patchify_made_is_decoded_as_all_those_it_was_made_of() -> None:
    model = model_with(PatchifyTransform(EVENT, GRID))
    model.autoencoder = CostlyPatches((1, 8, 8), patch=2)
    found = count_flops(model, 4)
    assert found.training["autoencoder"] == 16 * 10
    assert found.inference["autoencoder"] == 4 * 7


def test_a_plan_counts_transforms_and_trains_the_autoencoder_on_its_own_units() -> None:
    manager = make_manager(guests=[])
    manager.parts["transforms"]["turned"] = Part("transforms", "turned", Turned, "guests")

    def counted(transforms: str) -> Any:
        return plan(load_recipe("tiny/givt_causal", [f"transforms={transforms}"], manager), manager)

    plain, adapted = counted("[normalise]"), counted("[normalise,adaptor]")
    told = adapted.stages["lm"].train_flops
    rest = {part: n for part, n in told.items() if part != "transform"}
    assert rest == {part: n for part, n in plain.stages["lm"].train_flops.items() if part != "transform"}
    assert told["transform"] > 0
    assert adapted.inference_flops_per_element == pytest.approx(
        plain.inference_flops_per_element + adapted.inference["transform"]
    )
    patched = counted("[normalise,{name: patchify, patch: 2}]")
    assert patched.stages["autoencoder"].train_flops == plain.stages["autoencoder"].train_flops
    state = torch.get_rng_state()
    assert counted("[turned]").inference["transform"] > 0  # built for real
    assert torch.equal(torch.get_rng_state(), state)
