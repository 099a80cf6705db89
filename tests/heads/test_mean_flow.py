from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from calmkit.heads.average_velocity import average_and_target, mean_flow_errors, two_times, weighted
from calmkit.heads.flow import flow_loss
from calmkit.heads.mean_flow import MeanFlowHead
from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions
from calmkit.nn import adaln

EVENT = EventSpec((3,))
MEAN, STD = 1.5, 0.4


def head(**options: object) -> MeanFlowHead:
    return MeanFlowHead(8, EVENT, **{"depth": 1, "width": 16, **options})


def trained(net: MeanFlowHead) -> MeanFlowHead:
    """Weights as after training: nothing is zero."""
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def spread(t: Tensor) -> Tensor:
    """Standard deviation of z_t for a latent N(MEAN, STD^2)."""
    return (t**2 * STD**2 + (1 - t) ** 2).sqrt()


def velocity(z_t: Tensor, t: Tensor) -> Tensor:
    """The exact field of that latent."""
    t = t[..., None]
    return MEAN + (t * STD**2 - (1 - t)) / spread(t) ** 2 * (z_t - t * MEAN)


def average(z_t: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """Its exact average: the flow carries z_t to r MEAN + spread(r) / spread(t) (z_t - t MEAN)."""
    t, r = t[..., None], r[..., None]
    still = r == t
    end = r * MEAN + spread(r) / spread(t) * (z_t - t * MEAN)
    jump = (end - z_t) / torch.where(still, 1.0, r - t)
    return torch.where(still, velocity(z_t, t[..., 0]), jump)


@pytest.mark.parametrize("direction", ["sample", "network"])
def test_the_exact_average_velocity_keeps_the_identity(direction: str) -> None:
    t, r = two_times(torch.zeros(4, 50, 2), jumps=4, mean=0.0, std=1.0)
    z_t = torch.randn(4, 50, 2)
    given, target = average_and_target(average, z_t, t, r, velocity(z_t, t), direction)
    torch.testing.assert_close(given, target, rtol=0, atol=1e-12)
    # one that is 5 % too long does not
    longer, off = average_and_target(
        lambda z, t, r: 1.05 * average(z, t, r), z_t, t, r, velocity(z_t, t), direction
    )
    assert (longer - off).abs().max() > 0.05


def test_samples_agree_with_the_exact_average_on_average() -> None:
    """The error of 400,000 samples is orthogonal to 1 and to z_t: 6 standard errors, false alarm 4e-9."""
    z, noise = MEAN + STD * torch.randn(4, 100_000, 1), torch.randn(4, 100_000, 1)
    t, r = two_times(z, jumps=4, mean=0.0, std=1.0)
    z_t = (1 - t[..., None]) * noise + t[..., None] * z
    given, target = average_and_target(average, z_t, t, r, z - noise, "sample")
    for weight in (torch.ones_like(z_t), z_t):
        error = ((given - target) * weight).flatten()
        assert error.std() > 0.1  # a sample's velocity is no field's
        assert abs(error.mean()) < 6 * error.std() / len(error) ** 0.5


def test_the_identity_by_hand() -> None:
    """u = z t r at z = 2, t = 0.25, r = 0.75, v = 3: du/dt = 3 * 0.25 * 0.75 + 2 * 0.75 = 2.0625, and the
    target is 3 + 0.5 * 2.0625 = 4.03125; u = 0.375. In the network's own direction, v' = u(z, t, t) = 0.125,
    du/dt = 0.125 * 0.25 * 0.75 + 1.5 = 1.5234375 and the target is 3.76171875.
    """
    z, t, r, v = torch.full((1, 1, 1), 2.0), torch.tensor([[0.25]]), torch.tensor([[0.75]]), torch.tensor(3.0)

    def u(z: Tensor, t: Tensor, r: Tensor) -> Tensor:
        return z * (t * r)[..., None]

    v = v.expand(1, 1, 1)
    found = [average_and_target(u, z, t, r, v, way) for way in ("sample", "network")]
    assert [(float(a), float(b)) for a, b in found] == [(0.375, 4.03125), (0.375, 3.76171875)]


@pytest.mark.parametrize("direction", ["sample", "network"])
def test_at_r_equal_t_the_target_is_the_velocity_bit_for_bit(direction: str) -> None:
    net, c = trained(head()), torch.randn(7, 16)
    z_t, t, v = torch.randn(2, 7, 3), torch.rand(2, 7), torch.randn(2, 7, 3)
    _, target = average_and_target(lambda z, t, r: net.net(z, t, c), z_t, t, t, v, direction)
    assert torch.equal(target, v)


def test_without_jumps_the_loss_is_that_of_flow() -> None:
    net, c, z = trained(head()), torch.randn(7, 16), torch.randn(4, 7, 3)
    torch.manual_seed(1)
    flow = flow_loss(lambda z_t, t: net.net(z_t, t, c), z)
    torch.manual_seed(1)
    noise, t = torch.randn_like(z), torch.rand(4, 7)  # what flow_loss draws, in its order
    torch.manual_seed(1)
    errors = mean_flow_errors(lambda z_t, t, r: net.net(z_t, t, c), z, t, t, jumps=0)
    assert noise.shape == z.shape
    torch.testing.assert_close(errors.mean(0) / 3, flow, rtol=1e-14, atol=0)
    torch.manual_seed(1)
    jumping = mean_flow_errors(lambda z_t, t, r: net.net(z_t, t, c), z, t, t, jumps=2, direction="sample")
    assert torch.equal(jumping, errors)  # a jump of no length changes no bit


def test_times_are_ordered_logit_normal_and_equal_behind_the_jumps() -> None:
    t, r = two_times(torch.zeros(8, 5000, 2), jumps=3, mean=0.4, std=1.0)
    assert (t[:3] < r[:3]).all()
    assert torch.equal(t[3:], r[3:])
    logits = torch.stack([t[:3], r[:3]]).logit()  # both of a pair: the order cannot move their mean
    # 30,000 independent normals: 6 standard errors are a false alarm in 2e-9 of runs
    assert abs(logits.mean() - 0.4) < 6 / 30_000**0.5
    assert abs(logits.var() - 1) < 6 * (2 / 30_000) ** 0.5


@pytest.mark.parametrize("offset", [1e-3, 1.0])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_weighted_error_has_the_paper_s_gradient_and_a_value_that_falls(
    power: float, offset: float
) -> None:
    errors = torch.tensor([[0.0, 1e-4, 0.5, 40.0]], requires_grad=True)
    (found,) = torch.autograd.grad(weighted(errors, power, offset).sum(), errors)
    papers = errors / (errors.detach() + offset) ** power
    (expected,) = torch.autograd.grad(papers.sum(), errors)
    torch.testing.assert_close(found, expected)
    values = weighted(errors, power, offset)[0].tolist()
    assert values[0] == 0
    assert values == sorted(values)
    if power == 0:
        assert torch.equal(weighted(errors, power, offset), errors)


def test_a_draw_is_one_call_from_noise_by_the_whole_average() -> None:
    net, calls = trained(head()), []
    net.net.register_forward_hook(lambda _, given, __: calls.append(given[1].tolist()))
    h = torch.randn(2, 4, 8)
    noise = torch.randn(5, 8, 3, generator=torch.Generator().manual_seed(3))
    span = net.span_embed(torch.ones(1))
    for temperature in (None, 0.25):
        options = SampleOptions(temperature=temperature, generator=torch.Generator().manual_seed(3))
        z = net.sample(Context(h), 5, options)
        start = noise * (temperature or 1)
        with torch.no_grad():
            u = net.net(start, torch.zeros(1, 1), net.net.condition(h.flatten(0, 1)) + span)
        torch.testing.assert_close(z, (start + u).reshape(5, 2, 4, 3))
    assert calls == [[[0.0]]] * 4  # one for each draw of five, and one for each check


def test_draws_in_blocks_are_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    net, h = trained(head()), torch.randn(3, 8)

    def draw() -> Tensor:
        return net.sample(Context(h), 5, SampleOptions(generator=torch.Generator().manual_seed(1)))

    whole = draw()
    monkeypatch.setattr(adaln, "MAX_ROWS", 8)  # two draws of three units at a time
    torch.testing.assert_close(draw(), whole)


def test_refusals() -> None:
    for name in ("depth", "width", "repeats", "jumps"):
        with pytest.raises(ValueError, match=f"mean_flow: {name} must be at least 1, got 0"):
            head(**{name: 0})
    with pytest.raises(ValueError, match="mean_flow: jumps must be at most repeats, 2, got 3"):
        head(repeats=2, jumps=3)
    for power in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"mean_flow: weight_power must lie in \[0, 1\], got"):
            head(weight_power=power)
    for name in ("weight_offset", "time_std"):
        for value in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"mean_flow: {name} must be above 0 and finite, got"):
                head(**{name: value})
    with pytest.raises(ValueError, match="mean_flow: event must be one latent vector"):
        MeanFlowHead(8, EventSpec((4,), 256))
    with pytest.raises(ValueError, match="does not honour the sample options"):
        head().sample(Context(torch.zeros(1, 8)), 1, SampleOptions(num_steps=2))


@pytest.mark.parametrize("direction", ["sample", "network"])
def test_autocast_stays_near_float32(direction: str) -> None:
    net, h = trained(head(direction=direction)).float(), torch.randn(64, 8).float()
    target, losses = Posterior(torch.randn(64, 3).float()), []
    for half in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses.append(net.loss(Context(h), target))
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0.05)
