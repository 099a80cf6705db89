"""The strata head: its codes, their weights, their temperature, and what it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calmkit.head_calls import head_weighted_draws
from calmkit.heads.mixture import MixtureHead
from calmkit.heads.strata import StrataHead
from calmkit.heads.strata_score import gaussian_two_group_loss, two_group_loss
from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions, WeightedHead
from calmkit.recipe.assemble import validate
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import load_recipe
from calmkit.registry import make_manager

P = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def make_head(**options: Any) -> StrataHead:
    small = {"num_codes": 3, "width": 8, "noise_dim": 5, "num_targets": 10, "init_std": 0.5}
    return StrataHead(6, EventSpec((2,)), **{**small, **options})


def of_weights(p: Tensor = P) -> StrataHead:
    """A head of the given weights, whatever h."""
    head = make_head(num_codes=len(p))
    assert head.weigh is not None
    head.weigh.bias.data = p.log() + 0.7  # what is added to all of them must not matter
    return head


def inputs_of(head: StrataHead) -> tuple[list[Tensor], list[Tensor]]:
    """Where the noise and the codes that go into the network will be found."""
    noise: list[Tensor] = []
    codes: list[Tensor] = []
    head.network.noise_in.register_forward_pre_hook(lambda _, inputs: noise.append(inputs[0]))
    head.network.codes.register_forward_pre_hook(lambda _, inputs: codes.append(inputs[0]))
    return noise, codes


def test_training_draws_every_code_once_in_each_group_with_noise_of_its_own() -> None:
    head = of_weights()
    (noise, codes), context = inputs_of(head), Context(torch.randn(4, 6))
    head.loss(context, Posterior(torch.randn(4, 2)))
    assert (codes[0] == torch.tensor([0, 1, 2, 0, 1, 2]).unsqueeze(1)).all()
    assert noise[0].shape == (6, 4, 5)
    assert noise[0].abs().max() <= 0.5
    assert len(noise[0].unique()) == noise[0].numel()


@pytest.mark.parametrize("spread", [True, False])
def test_the_loss_is_the_two_group_score_of_its_own_draws_and_weights(spread: bool) -> None:
    head, h, mean, log_std = make_head(), torch.randn(2, 2, 6), torch.randn(2, 2, 2), torch.zeros(2, 2, 2)
    assert head.weigh is not None
    torch.nn.init.normal_(head.weigh.weight)
    noise, codes = inputs_of(head)
    torch.manual_seed(5)
    loss = head.loss(Context(h), Posterior(mean, log_std if spread else None))
    flat = h.flatten(0, 1)
    draws = head.network(noise[0], flat, codes[0]).unflatten(0, (2, 3))
    weights = torch.softmax(flat @ head.weigh.weight.T, -1)
    torch.manual_seed(5)
    torch.rand(6, 4, 5)  # what the draws took
    of_targets = torch.randn(10, 2)
    if spread:
        flat_mean, flat_std = mean.flatten(0, 1), log_std.flatten(0, 1)
        expected = gaussian_two_group_loss(draws, weights, flat_mean, flat_std, of_targets)
    else:
        expected = two_group_loss(draws, weights, mean.flatten(0, 1).unsqueeze(0))
    torch.testing.assert_close(loss, expected.reshape(2, 2))


def test_a_fresh_head_weighs_all_codes_alike_and_its_last_layer_is_as_wide_as_asked() -> None:
    """4 x 256 weights: their standard deviation is within 12 % of 0.02 but for one seed in 10^7."""
    head = StrataHead(6, EventSpec((4,)), width=256, depth=1)
    assert (head.num_codes, head.num_targets, head.exponent) == (32, 100, 1.0)
    assert head.network.out.weight.std().item() == pytest.approx(0.02, rel=0.12)
    log_weights, _ = head.weighted_draws(Context(torch.randn(5, 6)))
    torch.testing.assert_close(log_weights.exp(), torch.full((5, 32), 1 / 32))


def test_from_a_start_at_zero_all_codes_draw_zero_and_the_last_layer_learns() -> None:
    head, context = make_head(init_std=0.0), Context(torch.randn(4, 6))
    assert (head.weighted_draws(context)[1] == 0).all()
    mean = torch.randn(4, 2)
    loss = head.loss(context, Posterior(mean))
    torch.testing.assert_close(loss, 2 * mean.norm(dim=-1))
    loss.sum().backward()
    assert head.network.out.weight.grad is not None
    assert head.network.out.weight.grad.any()


def test_codes_come_as_often_as_they_weigh() -> None:
    """20,000 draws stray by 0.02 with a chance of at most 6 exp(-2 * 20,000 * 0.02^2) < 10^-6 (Hoeffding)."""
    head = of_weights()
    _, codes = inputs_of(head)
    head.sample(Context(torch.randn(2, 6)), 10_000)
    counts = torch.bincount(codes[0].flatten(), minlength=3)
    torch.testing.assert_close(counts / 20_000, P, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (0.5, [25 / 38, 9 / 38, 4 / 38]),  # the square, 0.25 : 0.09 : 0.04
        (2.0, [0.415446, 0.321803, 0.262751]),  # the root, 0.707107 : 0.547723 : 0.447214
        (1.0, [0.5, 0.3, 0.2]),
        (1e-6, [1.0, 0.0, 0.0]),
    ],
)
def test_temperature_raises_the_weights_to_a_power_and_leaves_the_noise(
    temperature: float, expected: list[float]
) -> None:
    """Known, p^(1/T), and drawn: the bound is that of the test above."""
    head, options = of_weights(), SampleOptions(temperature=temperature)
    (noise, codes), context = inputs_of(head), Context(torch.randn(6))
    log_weights, _ = head.weighted_draws(context, options)
    torch.testing.assert_close(log_weights.exp(), torch.tensor(expected), rtol=0, atol=1e-6)
    head.sample(context, 20_000, options)
    counts = torch.bincount(codes[1].flatten(), minlength=3)
    torch.testing.assert_close(counts / 20_000, torch.tensor(expected), rtol=0, atol=0.02)
    # 10,000 uniform numbers or more all below 0.49: 0.98^10,000 < 10^-87
    assert 0.49 < noise[1].abs().max() <= 0.5


def test_weighted_draws_are_a_draw_of_each_code_in_its_place() -> None:
    head, h = of_weights(), torch.randn(2, 3, 6)
    noise, codes = inputs_of(head)
    log_weights, values = head.weighted_draws(Context(h))
    assert (log_weights.shape, values.shape) == ((2, 3, 3), (3, 2, 3, 2))
    assert (codes[0] == torch.arange(3).unsqueeze(1)).all()
    alone = head.network(noise[0], h.flatten(0, 1), codes[0])
    torch.testing.assert_close(values, alone.reshape(3, 2, 3, 2))
    torch.testing.assert_close(log_weights[1, 2].exp(), P)


def test_uniform_weights_have_no_temperature() -> None:
    """To any power they are uniform, so whoever asks for one is told, when a recipe is composed already."""
    head, context = make_head(weights="uniform"), Context(torch.randn(4, 6))
    assert head.weigh is None
    torch.testing.assert_close(head.weighted_draws(context)[0].exp(), torch.full((4, 3), 1 / 3))
    for draw in (head.sample, head.weighted_draws):
        with pytest.raises(ValueError, match=r"does not honour the sample options \['temperature'\]"):
            draw(context, options=SampleOptions(temperature=0.5))
    assert "temperature" in StrataHead.info.options  # the class is as it was
    manager = make_manager(guests=[])
    asked = ["head.weights=uniform", "sampler={name: direct, head_temperature: 0.5}"]
    with pytest.raises(RecipeError, match=r"CK143.*'strata', which has no temperature of its own"):
        validate(load_recipe("tiny/strata", asked, manager), manager)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"num_codes": 0}, "num_codes must be at least 1, got 0"),
        ({"exponent": 2.0}, r"exponent must lie in \(0, 2\), got 2.0"),
        ({"init_std": -0.1}, "init_std must be from 0 on and finite, got -0.1"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"strata: {words}"):
        make_head(**wrong)


class AtClusters(nn.Module):
    """Instead of the network: codes 0 and 1 draw 3, code 2 draws -3, whatever noise and condition are."""

    noise_dim = 1

    def forward(self, noise: Tensor, h: Tensor, code: Tensor) -> Tensor:
        return torch.tensor([3.0, 3.0, -3.0])[code].unsqueeze(-1)


def test_learned_weights_find_the_law_of_two_clusters() -> None:
    """Of ten units under each of two conditions 8 and 3 lie at 3, the others at -3: where all draws lie on
    the clusters, 6 (2 (1 - sum p q) - 2 sum (...)) is smallest at the weights 0.8 and 0.3.
    """
    head = of_weights()
    head.network = AtClusters()  # type: ignore[assignment]
    assert head.weigh is not None
    which, rank = torch.arange(20) // 10, torch.arange(20) % 10
    target = Posterior(torch.where(rank < torch.tensor([8, 3])[which], 3.0, -3.0).unsqueeze(-1))
    context = Context(torch.eye(2, 6)[which])
    optimizer = torch.optim.Adam(head.weigh.parameters(), lr=0.2)
    for _ in range(80):
        optimizer.zero_grad()
        head.loss(context, target).mean().backward()
        optimizer.step()
    log_weights, _ = head.weighted_draws(Context(torch.eye(2, 6)))
    right = log_weights.exp()[:, :2].sum(-1)
    torch.testing.assert_close(right, torch.tensor([0.8, 0.3]), rtol=0, atol=0.01)


def test_a_mixture_gives_its_components_by_their_weights() -> None:
    """Temperature narrows the values and leaves the weights, as it does to a draw."""
    head: WeightedHead = MixtureHead(6, EventSpec((2,)), num_components=3, depth=1)
    context = Context(torch.randn(2, 4, 6))
    log_weights, loc, scale = head._mixture(context)  # type: ignore[operator]
    for temperature in (None, 0.25):
        options = SampleOptions(temperature, generator=torch.Generator().manual_seed(3))
        given, values = head_weighted_draws(head, context, options)
        noise = torch.randn(2, 4, 3, 2, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(given, log_weights)
        torch.testing.assert_close(values, (loc + (temperature or 1) * scale * noise).movedim(2, 0))
