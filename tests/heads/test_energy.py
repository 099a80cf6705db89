"""The energy head: its start, its network, its noise and what it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from calmkit.heads.energy import EnergyHead
from calmkit.heads.noise_mlp import NoiseBlock
from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions


def make_head(**options: Any) -> EnergyHead:
    return EnergyHead(
        6, EventSpec((3,)), **{"depth": 2, "width": 8, "noise_dim": 5, "num_targets": 10, **options}
    )


def make_live_head(**options: Any) -> EnergyHead:
    """A head whose last layer has left 0, so that draws differ."""
    head = make_head(**options)
    torch.nn.init.normal_(head.network.out.weight)
    return head


def test_the_last_layer_starts_as_wide_as_asked() -> None:
    """4 x 256 weights: their standard deviation is within 12 % of 0.3 but for one seed in 10^7."""
    head = EnergyHead(6, EventSpec((4,)), width=256, depth=1, noise_dim=4, init_std=0.3)
    assert head.network.out.weight.std().item() == pytest.approx(0.3, rel=0.12)
    with pytest.raises(ValueError, match="init_std must be at least 0"):
        EnergyHead(6, EventSpec((4,)), init_std=-0.1)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_a_fresh_head_draws_zero_and_has_finite_gradients(exponent: float) -> None:
    """All draws coincide, so the loss is 2 |mean|^a, and only the last layer learns in the first step."""
    head, context = make_head(exponent=exponent), Context(torch.randn(4, 6))
    assert (head.sample(context, 7) == 0).all()
    mean = torch.randn(4, 3)
    loss = head.loss(context, Posterior(mean))
    torch.testing.assert_close(loss, 2 * mean.norm(dim=-1) ** exponent)
    loss.sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert bool(parameter.grad.any()) == name.startswith("network.out.")


def test_the_split_layer_equals_the_concatenation() -> None:
    """As the official code writes it: one Linear on (LayerNorm(x), condition), for each draw again."""
    block, x, condition = NoiseBlock(8), torch.randn(5, 4, 8), torch.randn(4, 8)
    u = torch.cat([block.norm(x), condition.expand(5, 4, 8)], -1)
    gate, up = block.gate_up(F.silu(block.middle(F.silu(block.join(u))))).chunk(2, -1)
    torch.testing.assert_close(block(x, condition), x + block.down(F.silu(gate) * up))


def test_block_weights_as_counted_in_the_source() -> None:
    """6 W^2 weights: 2 W^2 + W^2 + 2 W^2 + W^2."""
    assert sum(p.numel() for p in NoiseBlock(8).parameters() if p.ndim == 2) == 6 * 8**2


def test_width_follows_the_condition() -> None:
    head = EnergyHead(6, EventSpec((3,)))
    assert (head.num_draws, head.num_targets, head.exponent) == (8, 100, 1.0)
    assert head.network.noise_in.weight.shape == (6, 64)
    assert len(head.network.blocks) == 4


def test_units_of_any_shape_in_train_and_eval() -> None:
    head, h = make_live_head(), torch.randn(2, 5, 6)
    mean, log_std = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    results = []
    for training in (True, False):
        torch.manual_seed(3)
        results.append(head.train(training).loss(Context(h), Posterior(mean, log_std)))
    torch.manual_seed(3)
    flat = head.loss(Context(h.flatten(0, 1)), Posterior(mean.flatten(0, 1), log_std.flatten(0, 1)))
    assert results[0].shape == (2, 5)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0].flatten(), flat)
    assert head.sample(Context(h), 4).shape == (4, 2, 5, 3)
    assert head.sample(Context(h[0, 0]), 4).shape == (4, 3)
    assert head.loss(Context(h[:0]), Posterior(mean[:0], log_std[:0])).shape == (0, 5)


def test_temperature_scales_the_noise() -> None:
    head, context = make_live_head(), Context(torch.randn(4, 6))
    seen: list[Tensor] = []
    head.network.noise_in.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    draws = []
    for temperature in (None, 1.0, 0.25):
        torch.manual_seed(1)
        draws.append(head.sample(context, 3, SampleOptions(temperature=temperature)))
    torch.testing.assert_close(seen[2], 0.25 * seen[0])
    assert torch.equal(draws[0], draws[1])
    assert seen[0].abs().max() <= 0.5
    assert seen[0].abs().max() > 0.39  # 60 uniform numbers all below: 0.78^60 = 3e-7
    cold = head.sample(context, 3, SampleOptions(temperature=1e-9))
    torch.testing.assert_close(cold, cold[:1].expand(3, 4, 3), rtol=0, atol=1e-6)


def test_generator_is_honoured_and_others_are_refused() -> None:
    head, context = make_live_head(), Context(torch.randn(4, 6))
    state = torch.get_rng_state()
    draws = [
        head.sample(context, 2, SampleOptions(generator=torch.Generator().manual_seed(seed)))
        for seed in (5, 5, 6)
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    with pytest.raises(ValueError, match="num_steps"):
        head.sample(context, 2, SampleOptions(num_steps=4))


def test_autocast_keeps_the_loss_in_float32() -> None:
    head, context, target = (
        make_live_head().float(),
        Context(torch.randn(4, 6).float()),
        Posterior(torch.randn(4, 3).float()),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(1)
        loss = head.loss(context, target)
    torch.manual_seed(1)
    exact = head.loss(context, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.05, atol=0.05)  # the network has 8 bits, and 6 layers
    assert not torch.equal(loss, exact)
    loss.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_bfloat16_noise_keeps_more_than_256_levels() -> None:
    head = make_live_head().bfloat16()
    seen: list[Tensor] = []
    head.network.noise_in.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    h = torch.randn(200, 6).bfloat16()
    assert head.sample(Context(h), 4).dtype == torch.bfloat16
    assert seen[0].dtype == torch.bfloat16
    # 4000 numbers drawn in bfloat16 itself would give 256 values; drawn wide and rounded they give 1103, with
    # a standard deviation of 15 over 200 seeds
    assert len(seen[0].unique()) > 600
    loss = head.loss(Context(h), Posterior(torch.randn(200, 3).bfloat16(), torch.randn(200, 3).bfloat16()))
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("log_std", [None, torch.randn(4, 3, generator=torch.Generator().manual_seed(2))])
def test_e7_repulsion_is_a_factor_on_the_self_term(log_std: Tensor | None) -> None:
    """The loss is linear in it, and at 1, the default, it is CALM's."""
    head, context, mean = make_live_head(), Context(torch.randn(4, 6)), torch.randn(4, 3)
    target = Posterior(mean, None if log_std is None else log_std.double())

    def loss(repulsion: float | None = None) -> Tensor:
        head.repulsion = head.repulsion if repulsion is None else repulsion
        torch.manual_seed(1)
        return head.loss(context, target)

    usual, whole, none, half = loss(), loss(1.0), loss(0.0), loss(0.5)
    assert torch.equal(usual, whole)
    assert (none > whole).all()
    torch.testing.assert_close(half, (whole + none) / 2)
    assert make_head(repulsion=0.99).repulsion == 0.99


def test_learns_a_gaussian() -> None:
    """A trained head has the mean and the spread of its posterior N(2, 0.5^2): squared error would not."""
    head = EnergyHead(2, EventSpec((1,)), width=16, depth=1, noise_dim=4, num_targets=16)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=250)
    context = Context(torch.ones(64, 2))
    target = Posterior(torch.full((64, 1), 2.0), torch.full((64, 1), 0.5).log())
    for _ in range(250):
        optimizer.zero_grad()
        head.loss(context, target).mean().backward()
        optimizer.step()
        decay.step()
    draws = head.sample(context, 100)
    # Over 40 seeds the mean was off by -0.007 and the spread by -0.036, with standard deviations of 0.038 and
    # 0.0145: the bounds lie 6 of those away, which a normal estimate passes once in 5e8.
    assert draws.mean().item() == pytest.approx(2, abs=0.24)
    assert draws.std().item() == pytest.approx(0.5, abs=0.125)


@pytest.mark.parametrize(
    "options",
    [
        {"exponent": 0.0},
        {"exponent": 2.0},
        {"repulsion": 1.01},
        {"repulsion": -0.01},
        {"num_draws": 1},
        {"num_targets": 0},
        {"noise_dim": 0},
        {"depth": 0},
        {"width": 0},
    ],
)
def test_impossible_settings_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"energy: {next(iter(options))} .* would do"):
        make_head(**options)


def test_e5_exponent_two_is_refused() -> None:
    """It would be blind to the spread of the draws."""
    with pytest.raises(ValueError, match=r"energy: exponent must lie in \(0, 2\), got 2.0; 1.0 would do"):
        make_head(exponent=2.0)


def test_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="one latent vector"):
        EnergyHead(6, EventSpec((4,), vocab_size=257))
