"""CalmModel with a transform, a conditioner and an order: what reaches what, and what counts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calmkit.autoencoders.image_vae import ImageVAE
from calmkit.autoencoders.patches import Patches
from calmkit.backbones.any_order import AnyOrderTransformer
from calmkit.backbones.gru import GRUBackbone
from calmkit.backbones.transformer import TransformerBackbone
from calmkit.conditioners.label import LabelConditioner
from calmkit.embedders.latents import LatentsEmbedder
from calmkit.heads.diffusion import DiffusionHead
from calmkit.heads.energy import EnergyHead
from calmkit.heads.mixture import MixtureHead
from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import (
    Autoencoder,
    Batch,
    Context,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    LatentTransform,
    Order,
    OrderStep,
    Plan,
    Posterior,
    SampleOptions,
)
from calmkit.model import CalmModel
from calmkit.orders.confidence import ConfidenceOrder
from calmkit.orders.left_to_right import LeftToRight
from calmkit.orders.random import RandomOrder
from calmkit.transforms.adaptor import AdaptorTransform
from calmkit.transforms.chain import Chain
from calmkit.transforms.normalise import NormaliseTransform

H, LABELS, ROWS = 8, 3, 6
ORDERS = {"causal": None, "left_to_right": LeftToRight, "random": RandomOrder, "confidence": ConfidenceOrder}
HEADS: dict[str, Any] = {"mixture": MixtureHead, "diffusion": DiffusionHead, "energy": EnergyHead}


def vae() -> ImageVAE:
    return ImageVAE((1, 8, 8), channels=4, multipliers=(1, 1), blocks=1, attention=False, latent_dim=4)


def images(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    data = torch.rand(ROWS, 1, 8, 8, generator=generator, dtype=torch.float64) * 2 - 1
    label = torch.arange(ROWS) % LABELS
    return Batch(data, torch.ones(ROWS, 16, dtype=torch.bool), condition={"label": label})


def chain(autoencoder: Autoencoder, learned: bool) -> Chain:
    normalise = NormaliseTransform(autoencoder.event, autoencoder.layout)
    normalise.fit([torch.randn(4, 16, autoencoder.event.shape[0])])
    made: list[LatentTransform] = [normalise]
    if learned:
        made.append(AdaptorTransform(autoencoder.event, autoencoder.layout, blocks=2))
    return Chain(autoencoder.event, autoencoder.layout, made)


def built(
    order: str = "random", head: GenerativeHead | None = None, *, learned: bool = True, drop: float = 0.2
) -> CalmModel:
    """All parts at once, with weights that are not small: an adaptor begins as the identity."""
    autoencoder = vae()
    transform = chain(autoencoder, learned)
    assert transform.layout is not None
    kind = ORDERS[order]
    made: Order | None = None if kind is None else kind()
    any_order = made is not None and made.reads == "any"
    backbone: Any = (
        AnyOrderTransformer(transform.layout, hidden_dim=H, depth=1, heads=2)
        if any_order
        else TransformerBackbone(hidden_dim=H, depth=1, heads=2)
    )
    model = CalmModel(
        autoencoder,
        LatentsEmbedder(H, transform.event),
        backbone,
        head or MixtureHead(H, transform.event, num_components=2, depth=1),
        transform=transform,
        conditioner=LabelConditioner(H, LABELS, drop=drop),
        order=made,
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_loss_is_finite_and_its_gradient_reaches_all_that_is_trained_and_never_the_autoencoder(
    order: str, head: str
) -> None:
    model = built(order, HEADS[head](H, EventSpec((4,)), depth=1)).train()
    loss = model.loss(images())
    assert bool(loss.per_unit.isfinite().all())
    loss.per_unit.mean().backward()
    for name in ("transform", "conditioner", "embedder", "backbone", "head"):
        found = [(n, p.grad) for n, p in getattr(model, name).named_parameters()]
        assert found, name
        assert not [n for n, gradient in found if gradient is None], name  # DDP waits for each
        assert any(bool((gradient != 0).any()) for _, gradient in found if gradient is not None), name
    assert all(p.grad is None and not p.requires_grad for p in model.autoencoder.parameters())
    assert not model.autoencoder.training


class Probe(GenerativeHead):
    """A loss of the target alone, or of the condition alone."""

    info = HeadInfo(sampling="one_step", half_precision=True)

    def __init__(self, of_target: bool) -> None:
        super().__init__()
        self.of_target = of_target

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return (target.mean if self.of_target else context.h).square().sum(-1)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        raise NotImplementedError


@pytest.mark.parametrize("of_target", [True, False])
@pytest.mark.parametrize("order", ["causal", "random"])
def test_an_adaptor_learns_through_the_target_and_through_what_the_backbone_reads(
    order: str, of_target: bool
) -> None:
    model = built(order, Probe(of_target)).train()
    model.loss(images()).per_unit.mean().backward()
    assert model.transform is not None
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in model.transform.parameters())


def test_a_frozen_transform_stays_in_eval_mode_and_is_saved_and_a_learned_one_is_trained() -> None:
    frozen, learned = built(learned=False).train(), built(learned=True).train()
    assert frozen.transform is not None
    assert learned.transform is not None
    assert not any(module.training for module in frozen.transform.modules())
    assert learned.transform.training
    assert all(p.requires_grad for p in learned.transform.parameters())
    assert not any(module.training for module in learned.eval().modules())
    other = built(learned=False)
    batch = images()
    assert not torch.allclose(other.encode(batch.data).mean, frozen.encode(batch.data).mean)
    state = frozen.state_dict()
    assert {"transform.transforms.0.center", "transform.transforms.0.scale"} <= state.keys()
    other.load_state_dict(state)
    assert torch.equal(other.encode(batch.data).mean, frozen.encode(batch.data).mean)


class Frozen(LatentTransform):
    """Has a parameter that is not trained."""

    keeps_gaussians = False

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__()
        self.event, self.layout = event, layout
        self.log_scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z * self.log_scale.exp(), (z.shape[-1] * self.log_scale).expand(z.shape[:-1])

    def inverse(self, z: Tensor) -> Tensor:
        return z / self.log_scale.exp()


class Learned(Frozen):
    """The same, trained."""

    learned = True


def scaled(cls: type[Frozen], head: GenerativeHead, side: int = 2) -> CalmModel:
    """Pixels, each a unit, scaled by e^0.7 before they are predicted from left to right."""
    autoencoder = Patches((1, side, side), patch=1)
    transform = cls(autoencoder.event, autoencoder.layout)
    model = CalmModel(
        autoencoder,
        LatentsEmbedder(H, autoencoder.event),
        GRUBackbone(hidden_dim=H),
        head,
        transform=transform,
    )
    for part in (model.embedder, model.backbone, head):
        for parameter in part.parameters():
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def test_a_transform_that_learns_nothing_has_no_gradient() -> None:
    head = MixtureHead(H, EventSpec((1,)), depth=1)
    assert not any(p.requires_grad for p in scaled(Frozen, head).transform.parameters())  # type: ignore[union-attr]
    assert all(p.requires_grad for p in scaled(Learned, head).transform.parameters())  # type: ignore[union-attr]


def test_the_volume_of_a_learned_transform_enters_the_loss_of_a_density_and_of_nothing_else() -> None:
    """Pixels times e^0.7: each unit's loss is 0.7 nats lower, else space could be shrunk for nothing."""
    data = torch.rand(3, 1, 2, 2) * 2 - 1
    batch = Batch(data, torch.ones(3, 4, dtype=torch.bool))
    dense = MixtureHead(H, EventSpec((1,)), num_components=2, depth=1)
    for cls, volume in ((Learned, 0.7), (Frozen, 0.0)):
        model = scaled(cls, dense)
        z = data.flatten(2).transpose(1, 2) * math.exp(0.7)
        context = model.context(data, batch.valid, z)
        expected = -dense.log_prob(context, z) - volume
        torch.testing.assert_close(model.loss(batch).per_unit, expected.flatten())
    other = RegressionHead(H, EventSpec((1,)), depth=1)
    model = scaled(Learned, other)
    context = model.context(data, batch.valid, z)
    torch.testing.assert_close(model.loss(batch).per_unit, other.loss(context, Posterior(z)).flatten())


def test_the_density_of_data_behind_a_learned_transform_sums_to_one() -> None:
    """Images of one pixel: the integral of exp(-loss) over its value, by the trapezoid rule."""
    model = scaled(Learned, MixtureHead(H, EventSpec((1,)), num_components=2, depth=1), side=1)
    value = torch.linspace(-60, 60, 24_001)
    batch = Batch(value.view(-1, 1, 1, 1), torch.ones(len(value), 1, dtype=torch.bool))
    with torch.no_grad():
        density = (-model.loss(batch).per_unit).exp()
    assert torch.trapezoid(density, value).item() == pytest.approx(1, abs=1e-6)


def test_where_no_gaussian_stays_one_encode_gives_the_transformed_mean_as_a_point() -> None:
    model, batch = built().eval(), images()
    assert model.transform is not None
    assert not model.transform.keeps_gaussians
    inner, found = model.autoencoder.encode(batch.data), model.encode(batch.data)
    assert inner.log_std is not None
    assert found.log_std is None
    torch.testing.assert_close(found.mean, model.transform(inner.mean)[0])
    assert torch.equal(model.encode(batch.data).mean, found.mean)  # nothing random
    torch.testing.assert_close(model.to_data(found.mean), model.autoencoder.to_data(inner.mean))
    torch.manual_seed(3)
    target, z, log_det = model.target(batch.data)  # here a draw goes through, with a gradient for the adaptor
    assert target.log_std is None
    assert torch.equal(target.mean, z)
    assert z.requires_grad
    torch.manual_seed(3)
    torch.testing.assert_close(z, model.transform(inner.sample(1)[0])[0])
    assert not torch.allclose(z, found.mean)
    assert log_det is not None
    torch.testing.assert_close(log_det, model.transform(inner.mean)[1])  # of constant volume
    gaussian = built(learned=False).eval()
    assert gaussian.encode(batch.data).log_std is not None


def test_the_null_condition_is_that_of_no_label_and_of_a_dropped_one() -> None:
    model, label = built(), {"label": torch.tensor([0, 1, 2])}
    null = model.prefix(3)
    assert null is not None
    assert null.shape == (3, 1, H)
    every = torch.ones(3, dtype=torch.bool)
    for other in (model.prefix(3, {}), model.prefix(3, label, every), model.prefix(3, None, ~every)):
        assert other is not None
        assert torch.equal(other, null)
    some = model.prefix(3, label, torch.tensor([False, True, False]))
    told = model.prefix(3, label)
    assert some is not None
    assert told is not None
    assert torch.equal(some[1], null[1])
    assert torch.equal(some[[0, 2]], told[[0, 2]])
    assert not torch.allclose(told, null)
    model.conditioner = None
    assert model.prefix(3, label) is None


def test_conditions_are_dropped_in_training_only_and_as_often_as_the_conditioner_says() -> None:
    """4,000 rows at 0.2: six standard deviations of their share are 0.038, a false alarm below 1e-8."""
    model, seen = built(drop=0.2), list[Tensor]()
    assert model.conditioner is not None
    model.conditioner.register_forward_pre_hook(lambda module, given: seen.append(given[1]))
    rows = 4000
    label = torch.zeros(rows, dtype=torch.long)
    batch = Batch(
        torch.zeros(rows, 1, 8, 8), torch.ones(rows, 16, dtype=torch.bool), condition={"label": label}
    )
    with torch.no_grad():
        model.train().loss(batch)
        model.eval().loss(batch)
        model.train().conditioner.drop = 0.0  # type: ignore[union-attr]
        model.loss(batch)
    shares = [drop.double().mean().item() for drop in seen]
    assert abs(shares[0] - 0.2) < 6 * math.sqrt(0.2 * 0.8 / rows)
    assert shares[1:] == [0.0, 0.0]


def test_a_label_that_is_always_dropped_says_nothing_in_training_and_all_in_evaluation() -> None:
    model, batch = built("causal"), images()
    assert model.conditioner is not None
    model.conditioner.drop = 1.0
    other = Batch(batch.data, batch.valid, condition={"label": (batch.condition["label"] + 1) % LABELS})

    def loss(batch: Batch) -> Tensor:
        torch.manual_seed(3)
        with torch.no_grad():
            return model.loss(batch).per_unit

    model.train()
    assert torch.equal(loss(batch), loss(other))
    model.eval()
    assert not torch.allclose(loss(batch), loss(other))


@pytest.mark.parametrize(
    "backbone", [GRUBackbone(hidden_dim=H), TransformerBackbone(hidden_dim=H, depth=2, heads=2)]
)
def test_a_causal_backbone_reads_a_prefix_as_units_in_front(backbone: Any) -> None:
    backbone = backbone.double().eval()
    autoencoder = Patches((1, 2, 2), patch=1)
    model = CalmModel(
        autoencoder,
        LatentsEmbedder(H, autoencoder.event),
        backbone,
        RegressionHead(H, autoencoder.event, depth=1),
        conditioner=LabelConditioner(H, LABELS, length=2),
    ).eval()
    data, label = torch.rand(2, 1, 2, 2), {"label": torch.tensor([2, 0])}
    prefix, x = model.prefix(2, label), model.embedder(None, model.encode(data).mean)
    assert prefix is not None
    valid = torch.ones(2, 6, dtype=torch.bool)
    h = model.context(data, condition=label).h
    torch.testing.assert_close(h, backbone(torch.cat([prefix, x], 1), valid).h[:, 2:])
    _, state = backbone.start(2, 6)  # and the same in steps, as rows are drawn
    first, state = backbone.step(prefix, valid[:, :2], state)
    rest, _ = backbone.step(x[:, :3], valid[:, :3], state)
    torch.testing.assert_close(h, torch.cat([first.h[:, -1:], rest.h], 1))
    other = model.context(data, condition={"label": torch.tensor([1, 1])}).h
    assert not torch.allclose(h[:, 0], other[:, 0])  # unit 0 reads the label


class Fixed(Order):
    """Units 0 and 3 of every row are known, 1 and 2 predicted."""

    reads = "any"
    known = torch.tensor([True, False, False, True])

    def plan(self, valid: Tensor) -> Plan:
        return Plan(self.known & valid, ~self.known & valid & torch.tensor([True, True, True, False]))

    def schedule(self, units: int) -> tuple[OrderStep, ...]:
        raise NotImplementedError

    def start(self, rows: int, units: int, *, known: Any = None, device: torch.device) -> Any:
        raise NotImplementedError

    def query(self, state: Any) -> Tensor:
        raise NotImplementedError

    def commit(self, state: Any, query: Tensor, score: Any = None) -> Any:
        raise NotImplementedError


def test_what_an_order_hides_is_predicted_from_what_it_leaves_and_from_the_label() -> None:
    autoencoder = Patches((1, 2, 2), patch=1)
    head = RegressionHead(H, autoencoder.event, depth=1)
    model = CalmModel(
        autoencoder,
        LatentsEmbedder(H, autoencoder.event),
        AnyOrderTransformer(autoencoder.layout, hidden_dim=H, depth=1, heads=2),
        head,
        conditioner=LabelConditioner(H, LABELS),
        order=Fixed(),
    ).eval()
    data, label = torch.rand(3, 1, 2, 2), {"label": torch.tensor([0, 1, 2])}
    wanted = torch.ones(3, 4, dtype=torch.bool)
    wanted[2, 1] = False  # what the data don't want predicted is not
    found = model.loss(Batch(data, torch.ones_like(wanted), wanted, label))
    assert found.keep.tolist() == [[False, True, True, False]] * 2 + [[False, False, True, False]]
    z, known = model.encode(data).mean, Fixed.known.expand(3, 4)
    h = model.conditions(model.embedder(None, z), torch.ones_like(known), known, model.prefix(3, label))
    torch.testing.assert_close(found.per_unit, head.loss(h, Posterior(z))[found.keep])
    other = data.clone()
    other[:, 0, 0, 1] = 7.0  # unit 1, which is hidden
    again = model.context(other, known=known, condition=label).h
    assert torch.equal(again, h.h)


def test_left_to_right_is_what_a_causal_model_does_without_an_order() -> None:
    model, batch, losses = built("left_to_right").eval(), images(), []
    for order in (model.order, None):
        model.order = order
        torch.manual_seed(1)
        losses.append(model.loss(batch).per_unit)
    assert torch.equal(*losses)
    assert len(losses[0]) == ROWS * 16


def test_values_are_decoded_where_the_autoencoder_knows_them() -> None:
    """Back through a scale of 2 and a centre of 3 by hand: z = 1 is decoded at 5."""
    model = built(learned=False)
    (normalise,) = model.transform.transforms  # type: ignore[union-attr]
    normalise.center.fill_(3.0)
    normalise.scale.fill_(2.0)
    z = torch.ones(2, 16, model.event.shape[0])
    assert torch.equal(model.decode(z), model.autoencoder.decode(5 * z))
