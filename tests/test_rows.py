"""Rows along an order against loops, brute force and spies that know nothing of how rows are drawn."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import calmkit.rows
from calmkit.autoencoders.patches import Patches
from calmkit.backbones.any_order import AnyOrderTransformer
from calmkit.backbones.gru import GRUBackbone
from calmkit.backbones.transformer import TransformerBackbone
from calmkit.conditioners.label import LabelConditioner
from calmkit.embedders.latents import LatentsEmbedder
from calmkit.head_calls import guided_draws, head_draws
from calmkit.heads.diffusion import DiffusionHead
from calmkit.heads.energy import EnergyHead
from calmkit.heads.mixture import MixtureHead
from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import (
    Context,
    DensityHead,
    EventSpec,
    GenerativeHead,
    Guidance,
    HeadInfo,
    Order,
    OrderStep,
    Posterior,
    RowSampler,
    SampleOptions,
)
from calmkit.model import CalmModel
from calmkit.orders.confidence import ConfidenceOrder
from calmkit.orders.random import RandomOrder
from calmkit.rows import draw_rows
from calmkit.samplers.beam import BeamSampler
from calmkit.samplers.rows import RowsSampler

H, LABELS = 8, 3
SHAPE = (1, 4, 4)  # four units of four values


def built(backbone: str, head: GenerativeHead, order: Order | None = None, shape: Any = SHAPE) -> CalmModel:
    """A small model with weights that are not small, so that a wrong condition would show."""
    autoencoder = Patches(shape, patch=2 if shape == SHAPE else 1)
    backbones = {
        "gru": lambda: GRUBackbone(hidden_dim=H),
        "transformer": lambda: TransformerBackbone(hidden_dim=H, depth=2, heads=2),
        "any_order": lambda: AnyOrderTransformer(autoencoder.layout, hidden_dim=H, depth=1, heads=2),
    }
    conditioner = LabelConditioner(H, LABELS)
    embedder = LatentsEmbedder(H, autoencoder.event)
    model = CalmModel(
        autoencoder, embedder, backbones[backbone](), head, conditioner=conditioner, order=order
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.eval()


def heads() -> dict[str, GenerativeHead]:
    """One for each place where guidance is taken."""
    event = EventSpec((4,))
    return {
        "density": MixtureHead(H, event, num_components=2, depth=1),
        "output": DiffusionHead(H, event, depth=1, num_steps=3),
        "condition": EnergyHead(H, event, depth=1),
    }


def labels(*numbers: int) -> dict[str, Tensor]:
    return {"label": torch.tensor(numbers)}


def loop(model: CalmModel, condition: dict[str, Tensor], seed: int, weights: Any = None) -> Tensor:
    """Each unit from the whole row read anew, nothing carried from step to step."""
    rows, units = len(condition["label"]), 4
    z = torch.zeros(rows, units, *model.event.shape)
    valid = torch.ones(rows, units, dtype=torch.bool)
    torch.manual_seed(seed)
    with torch.no_grad():
        for unit in range(units):
            x = model.embedder(None, z)
            with_it = model.conditions(x, valid, None, model.prefix(rows, condition))[:, unit]
            if weights is None:
                z[:, unit] = head_draws(model.head, with_it)[0]
                continue
            null = model.conditions(x, valid, None, model.prefix(rows))[:, unit]
            terms = ((with_it, weights[unit]), (null, 1 - weights[unit]))
            z[:, unit] = guided_draws(model.head, terms)[0]
    return z


@pytest.mark.parametrize("head", ["density", "output", "condition"])
@pytest.mark.parametrize("backbone", ["gru", "transformer"])
def test_causal_rows_are_those_of_a_loop_that_reads_every_row_anew(backbone: str, head: str) -> None:
    model = built(backbone, heads()[head])
    asked = labels(0, 1, 2, 0, 1)
    drawn = draw_rows(model, RowsSampler(), 5, condition=asked, seed=7)
    torch.testing.assert_close(drawn.z, loop(model, asked, 7), rtol=1e-9, atol=1e-9)
    assert torch.equal(drawn.data, model.to_data(drawn.z))
    assert drawn.steps == 4
    torch.testing.assert_close(  # without a condition: the null one, for all
        draw_rows(model, RowsSampler(), 5, seed=7).z,
        draw_rows(model, RowsSampler(), 5, condition={}, seed=7).z,
    )
    assert not torch.allclose(drawn.z, draw_rows(model, RowsSampler(), 5, seed=7).z)


@pytest.mark.parametrize("head", ["density", "output", "condition"])
def test_guided_rows_push_away_from_the_null_condition_by_the_weight_of_each_unit(head: str) -> None:
    model = built("gru", heads()[head])
    asked = labels(0, 1, 2, 0, 1)
    moves = {"constant": [1.2] * 4, "rising": [1.05, 1.1, 1.15, 1.2], "falling": [1.2, 1.15, 1.1, 1.05]}
    for schedule, weights in moves.items():
        sampler = RowsSampler(guidance=1.2, guidance_schedule=schedule)  # type: ignore[arg-type]
        drawn = draw_rows(model, sampler, 5, condition=asked, seed=3)
        torch.testing.assert_close(drawn.z, loop(model, asked, 3, weights), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(drawn.z, loop(model, asked, 3))


@pytest.mark.parametrize("head", ["density", "output", "condition"])
@pytest.mark.parametrize("backbone", ["gru", "any_order"])
def test_guidance_of_weight_1_is_no_guidance_bit_for_bit(
    backbone: str, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the draws nor the rows that pass the model: the null condition is never read."""
    model = built(backbone, heads()[head], RandomOrder(steps=2) if backbone == "any_order" else None)
    asked = labels(0, 1, 2)
    plain = draw_rows(model, RowsSampler(), 3, condition=asked, seed=5)
    seen: list[int] = []
    prefix = model.prefix

    def spied(rows: int, *given: Any) -> Any:
        seen.append(len(given))
        return prefix(rows, *given)

    monkeypatch.setattr(model, "prefix", spied)
    one = RowsSampler(guidance=1.0, guidance_schedule="falling")
    assert torch.equal(draw_rows(model, one, 3, condition=asked, seed=5).z, plain.z)
    assert seen == [1]  # with its condition, once
    draw_rows(model, RowsSampler(guidance=1.1), 3, condition=asked, seed=5)
    assert seen == [1, 1, 0]


@pytest.mark.parametrize(
    ("order", "known"),  # after each step
    [
        (
            RandomOrder(steps=8),
            [1, 2, 3, 5, 8, 10, 13, 16],
        ),  # hidden: floor(16 cos(pi k / 16))
        (ConfidenceOrder(steps=4), [2, 5, 10, 16]),  # all are drawn in every step, and few are kept
        (RandomOrder(steps=1), [16]),
        (None, list(range(1, 17))),
    ],
)
def test_a_rising_weight_goes_by_what_is_known_after_a_step_and_a_falling_one_by_what_was_before(
    order: Order | None, known: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In MAR's sample_tokens (LTH14/mar@fe470ac) the weight is 1 + (w - 1)(L - hidden after the step) / L."""
    head = MixtureHead(H, EventSpec((1,)), num_components=1, depth=1, limit_guidance=True)
    model, seen = built("gru" if order is None else "any_order", head, order, shape=(1, 2, 8)), list[float]()

    def spied(head: Any, guided: Any, *given: Any) -> Tensor:
        seen.append(guided[0][1])
        return guided_draws(head, guided, *given)

    monkeypatch.setattr(calmkit.rows, "guided_draws", spied)
    shares = {"rising": known, "falling": [16 - before for before in [0, *known[:-1]]]}
    for schedule, share in shares.items():
        seen.clear()
        sampler = RowsSampler(guidance=1.5, guidance_schedule=schedule)  # type: ignore[arg-type]
        draw_rows(model, sampler, 2, condition=labels(0, 1))
        assert seen == pytest.approx([1 + 0.5 * count / 16 for count in share])


def test_an_order_whose_schedule_leaves_units_out_is_named() -> None:
    class Short(Recorded):
        def schedule(self, units: int) -> tuple[OrderStep, ...]:
            return self.inner.schedule(units)[:-1]

    model = built("any_order", heads()["density"], Short(RandomOrder()))
    with pytest.raises(ValueError, match="Short: units are left when its schedule of 4 is through"):
        draw_rows(model, RowsSampler(), 2, condition=labels(0, 1))


def test_guidance_needs_a_condition_and_rows_a_layout() -> None:
    model = built("gru", heads()["density"])
    for given in (None, {}):
        with pytest.raises(ValueError, match=r"guidance 2 needs a condition, and none was given; weight 1"):
            draw_rows(model, RowsSampler(guidance=2.0), 2, condition=given)
    model.conditioner = None
    with pytest.raises(ValueError, match=r"guidance 2 needs a condition"):
        draw_rows(model, RowsSampler(guidance=2.0), 2, condition=labels(0, 1))
    with pytest.raises(ValueError, match=r"in any order, and no order is given"):
        draw_rows(built("any_order", heads()["density"]), RowsSampler(), 2)


class Recorded(Order):
    """An order that remembers what was kept, at what score."""

    reads = "any"

    def __init__(self, inner: Order) -> None:
        self.inner, self.needs_density = inner, inner.needs_density  # type: ignore[misc]
        self.kept: list[Tensor] = []
        self.scores: list[Any] = []

    def plan(self, valid: Tensor) -> Any:
        return self.inner.plan(valid)

    def schedule(self, units: int) -> tuple[OrderStep, ...]:
        return self.inner.schedule(units)

    def start(self, rows: int, units: int, *, known: Any = None, device: torch.device) -> Any:
        self.kept, self.scores = [], []
        return self.inner.start(rows, units, known=known, device=device)

    def query(self, state: Any) -> Tensor:
        return self.inner.query(state)

    def commit(self, state: Any, query: Tensor, score: Any = None) -> Any:
        keep, state = self.inner.commit(state, query, score)
        self.kept.append(query[keep].view(len(query), -1))
        self.scores.append(score)
        return keep, state


@pytest.mark.parametrize("order", [RandomOrder(), RandomOrder(steps=3), ConfidenceOrder(steps=2)])
def test_every_unit_is_drawn_once_and_stays_as_it_was_drawn(order: Order) -> None:
    recorded = Recorded(order)
    model = built("any_order", heads()["density"], recorded)
    drawn = draw_rows(model, RowsSampler(), 5, condition=labels(0, 1, 2, 0, 1), seed=2)
    units = torch.cat(recorded.kept, 1)
    assert units.sort(1).values.tolist() == [[0, 1, 2, 3]] * 5
    assert drawn.steps == len(recorded.kept) == order.num_steps(4)
    assert bool((drawn.z != 0).all())
    again = draw_rows(model, RowsSampler(), 5, condition=labels(0, 1, 2, 0, 1), seed=2)
    assert torch.equal(again.z, drawn.z)
    other = draw_rows(model, RowsSampler(), 5, condition=labels(0, 1, 2, 0, 1), seed=4)
    assert not torch.equal(other.z, drawn.z)


def test_rows_in_any_order_read_what_is_known_and_nothing_else() -> None:
    """A head that gives its condition back: each unit must be the condition given those drawn before."""
    recorded = Recorded(RandomOrder())
    model = built("any_order", Echo(H, EventSpec((4,))), recorded)
    asked = labels(0, 1, 2)
    z = draw_rows(model, RowsSampler(), 3, condition=asked, seed=2).z
    known, row = torch.zeros(3, 4, dtype=torch.bool), torch.arange(3)
    with torch.no_grad():
        for kept in recorded.kept:
            x = model.embedder(None, torch.where(known.unsqueeze(-1), z, 100.0))
            h = model.conditions(x, torch.ones_like(known), known, model.prefix(3, asked)).h
            torch.testing.assert_close(z[row, kept[:, 0]], h[row, kept[:, 0], :4])
            known[row, kept[:, 0]] = True


class Echo(GenerativeHead):
    """Gives its condition back."""

    info = HeadInfo(sampling="one_step")

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__()
        self.size = event.shape[0]

    def loss(self, context: Context, target: Posterior) -> Tensor:
        raise NotImplementedError

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return context.h[..., : self.size].expand(num, *context.h.shape[:-1], self.size)


@pytest.mark.parametrize("backbone", ["gru", "any_order"])
def test_many_rows_are_drawn_in_parts_each_with_its_condition(
    backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = RandomOrder(steps=4) if backbone == "any_order" else None
    model = built(backbone, heads()["density"], order)
    asked, told = labels(0, 1, 2, 2, 1, 0, 2), list[int]()
    few = draw_rows(model, RowsSampler(), 3, condition=labels(0, 1, 2), seed=3)
    monkeypatch.setattr(calmkit.rows, "ROWS_AT_ONCE", 3)
    many = draw_rows(model, RowsSampler(), 7, condition=asked, seed=3, progress=told.append)
    assert told == [3, 6, 7]
    assert (len(many.z), len(many.data)) == (7, 7)
    assert torch.equal(many.z[:3], few.z)  # whoever else is drawn behind them
    assert not torch.equal(many.z[3:6], few.z)  # and the stream goes on
    if order is None:  # a row that nothing random shapes is that of its label, in whatever part it stands
        still = built(backbone, Echo(H, EventSpec((4,))))
        z = draw_rows(still, RowsSampler(), 7, condition=asked).z
        torch.testing.assert_close(z[[3, 6]], z[[2, 2]])
        torch.testing.assert_close(z[[4, 5]], z[[1, 0]])
        assert not torch.allclose(z[0], z[1])


class ThreeValues(DensityHead):
    """p(-1), p(0), p(1) by a linear layer; draws are all three in turn, so that a fan of 3 has each once."""

    info = HeadInfo(sampling="one_step")
    values = torch.tensor([[-1.0], [0.0], [1.0]])

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.logits = nn.Linear(hidden_dim, 3)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return -self.log_prob(context, target.mean)

    def log_prob(self, context: Context, z: Tensor) -> Tensor:
        law = self.logits(context.h).log_softmax(-1)
        return law.gather(-1, (z + 1).long()).squeeze(-1)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        drawn = self.values[torch.arange(num) % 3].to(context.h.dtype)  # [num, 1]
        return drawn.view(num, *[1] * (context.h.ndim - 1), 1).expand(num, *context.h.shape[:-1], 1)


def total(model: CalmModel, rows: Tensor, label: int) -> Tensor:
    """Log density of whole rows `[R, L, 1]`, each read at once."""
    given = torch.full((len(rows),), label)
    valid = torch.ones(rows.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        x = model.embedder(None, rows)
        context = model.conditions(x, valid, None, model.prefix(len(rows), {"label": given}))
        return model.log_prob(context, rows).sum(1)


def test_a_wide_beam_finds_the_likeliest_of_all_rows_by_brute_force() -> None:
    every = torch.tensor(list(product([-1.0, 0.0, 1.0], repeat=4)), dtype=torch.float64).unsqueeze(-1)
    missed = 0
    for seed in range(6):
        torch.manual_seed(seed)
        model = built("gru", ThreeValues(H), shape=(1, 2, 2))
        found = draw_rows(model, BeamSampler(beams=27, fan=3), 3, condition=labels(0, 1, 2)).z
        greedy = draw_rows(model, BeamSampler(beams=1, fan=3), 3, condition=labels(0, 1, 2)).z
        for label in range(LABELS):
            best = every[total(model, every, label).argmax()]
            assert torch.equal(found[label], best)
            missed += not torch.equal(greedy[label], best)
    assert missed > 0  # else the best draw of each unit would do, and nothing was searched


def test_one_beam_with_a_fan_takes_the_likeliest_draw_of_each_unit() -> None:
    model = built("gru", ThreeValues(H), shape=(1, 2, 2))
    z = draw_rows(model, BeamSampler(beams=1, fan=3), 1, condition=labels(1)).z
    for unit in range(4):
        others = z.repeat(3, 1, 1)
        others[:, unit] = ThreeValues.values
        others[:, unit + 1 :] = 0.0
        valid = torch.ones(3, 4, dtype=torch.bool)
        x = model.embedder(None, others)
        context = model.conditions(x, valid, None, model.prefix(3, labels(1, 1, 1)))[:, unit]
        best = model.log_prob(context, others[:, unit]).argmax()
        assert z[0, unit] == ThreeValues.values[best]


class Guest(RowSampler):
    """Beams with a weight, which nothing of calmkit asks for."""

    def __init__(self, guidance: float = 1.0) -> None:
        self.options, self.guidance, self.beams, self.fan = SampleOptions(), Guidance(guidance), 2, 2


def test_beams_that_no_density_ranks_or_no_causal_backbone_steps_are_refused() -> None:
    cure = r"; beams 1 and fan 1 would do"
    with pytest.raises(ValueError, match=r"a head that knows its density, and EnergyHead is none" + cure):
        draw_rows(built("gru", heads()["condition"]), BeamSampler(), 1)
    model = built("any_order", heads()["density"], RandomOrder())
    with pytest.raises(ValueError, match=r"a causal backbone, and AnyOrderTransformer is none" + cure):
        draw_rows(model, BeamSampler(), 1)
    with pytest.raises(ValueError, match=r"beams are not guided, got guidance 2; 1 would do"):
        draw_rows(built("gru", heads()["density"]), Guest(2.0), 1, condition=labels(0))


class Kept(DensityHead):
    """Remembers what its inner head drew."""

    info = MixtureHead.info

    def __init__(self, inner: MixtureHead) -> None:
        super().__init__()
        self.inner, self.drawn = inner, list[Tensor]()

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return self.inner.loss(context, target)

    def log_prob(self, context: Context, z: Tensor) -> Tensor:
        return self.inner.log_prob(context, z)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        self.drawn.append(self.inner.sample(context, num, options))
        return self.drawn[-1]


def test_the_confidence_order_keeps_the_draws_of_the_highest_log_density() -> None:
    head = Kept(MixtureHead(H, EventSpec((4,)), num_components=2, depth=1))
    order = Recorded(ConfidenceOrder(steps=2, choice_temperature=0.0))
    model = built("any_order", head, order)
    asked = labels(0, 1, 2, 0, 1)
    z = draw_rows(model, RowsSampler(), 5, condition=asked, seed=6).z
    assert [drawn.shape[:3] for drawn in head.drawn] == [(1, 5, 4), (1, 5, len(order.scores[1][0]))]
    nothing = torch.zeros(5, 4, dtype=torch.bool)
    with torch.no_grad():  # step 1: all units, from the label alone
        x = model.embedder(None, torch.zeros(5, 4, 4))
        context = model.conditions(x, ~nothing, nothing, model.prefix(5, asked))
        density = model.log_prob(context, head.drawn[0][0])
    torch.testing.assert_close(order.scores[0], density)
    count = order.kept[0].shape[1]
    best = density.topk(count, 1).indices
    assert torch.equal(order.kept[0].sort(1).values, best.sort(1).values)
    row = torch.arange(5).unsqueeze(1)
    assert torch.equal(z[row, order.kept[0]], head.drawn[0][0][row, order.kept[0]])


def test_a_guided_sharpened_draw_is_scored_by_the_density_of_its_condition_alone() -> None:
    drawn, head = list[Tensor](), MixtureHead(H, EventSpec((4,)), depth=1, limit_guidance=True)
    inner = head.sample_guided
    head.sample_guided = lambda *given: drawn.append(inner(*given)) or drawn[-1]  # type: ignore[method-assign]
    order, asked = Recorded(ConfidenceOrder(steps=2)), labels(0, 1, 2)
    model = built("any_order", head, order)
    draw_rows(model, RowsSampler(guidance=1.5, temperature=0.5), 3, condition=asked, seed=6)
    nothing = torch.zeros(3, 4, dtype=torch.bool)
    with torch.no_grad():  # step 1: all units, from the label alone
        context = model.conditions(
            model.embedder(None, torch.zeros(3, 4, 4)), ~nothing, nothing, model.prefix(3, asked)
        )
        torch.testing.assert_close(order.scores[0], model.log_prob(context, drawn[0][0]))


def test_a_row_in_half_precision_is_near_that_of_single_precision() -> None:
    torch.set_default_dtype(torch.float32)
    for backbone, order in (("transformer", None), ("any_order", RandomOrder(steps=2))):
        model = built(backbone, RegressionHead(H, EventSpec((4,)), depth=1), order)
        drawn = {
            precision: draw_rows(model, RowsSampler(), 2, condition=labels(0, 1), precision=precision).z
            for precision in ("auto", "32", "bf16")
        }
        assert torch.equal(drawn["auto"], drawn["32"])
        assert not torch.equal(drawn["bf16"].float(), drawn["32"])
        scale = drawn["32"].abs().max().item()
        torch.testing.assert_close(drawn["bf16"].float(), drawn["32"], rtol=0, atol=0.1 * scale)
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


class Broken(Echo):
    """Draws, and then fails."""

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        torch.rand(3)
        raise RuntimeError("no draw")


def test_torchs_generator_is_given_back_whatever_happens() -> None:
    before = torch.get_rng_state()
    draw_rows(built_apart("gru"), RowsSampler(), 2, seed=9)
    assert torch.equal(torch.get_rng_state(), before)
    draw_rows(built_apart("any_order"), RowsSampler(), 2, seed=9)
    assert torch.equal(torch.get_rng_state(), before)
    broken = built_apart("gru")
    broken.head = Broken(H, EventSpec((4,)))
    with pytest.raises(RuntimeError, match="no draw"):
        draw_rows(broken, RowsSampler(), 2, seed=9)
    assert torch.equal(torch.get_rng_state(), before)


def built_apart(backbone: str) -> CalmModel:
    """A model whose making uses no random number of the caller."""
    with torch.random.fork_rng(devices=[]):
        return built(backbone, heads()["density"], RandomOrder() if backbone == "any_order" else None)
