from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from calmkit.heads.consistency import ConsistencyHead, end_of_path, network_and_target, shortened
from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions
from calmkit.nn import adaln

EVENT = EventSpec((3,))
MEAN, STD = 1.5, 0.4


def head(**options: object) -> ConsistencyHead:
    return ConsistencyHead(8, EVENT, **{"depth": 1, "width": 16, **options})


def trained(net: ConsistencyHead) -> ConsistencyHead:
    """Weights as after training: nothing is zero."""
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def spread(angle: Tensor) -> Tensor:
    """Standard deviation of z_t for a latent N(MEAN, STD^2)."""
    return (angle.cos() ** 2 * STD**2 + angle.sin() ** 2).sqrt()


def exact(z_t: Tensor, angle: Tensor) -> Tensor:
    """F of the exact consistency function, f = MEAN + STD / spread (z_t - cos(a) MEAN)."""
    angle = angle[..., None]
    end = MEAN + STD / spread(angle) * (z_t - angle.cos() * MEAN)
    return (angle.cos() * z_t - end) / angle.sin()


def angles(*shape: int) -> Tensor:
    """As the head draws them."""
    return (-1 + 1.4 * torch.randn(shape)).exp().atan()


def test_at_data_the_end_of_the_path_is_the_point_itself_whatever_the_network() -> None:
    net, z = trained(head()), torch.randn(2, 7, 3)
    c = torch.randn(7, 16)
    assert torch.equal(end_of_path(lambda z, a: net.net(z, a, c), z, torch.zeros(1, 1)), z)
    moved = end_of_path(lambda z, a: net.net(z, a, c), z, torch.full((1, 1), 0.1))
    assert not torch.allclose(moved, z, atol=1e-3)


def test_the_exact_function_is_left_as_it_is() -> None:
    """Along the true flow, whose velocity at z_t is that of one latent and one noise, no change is seen."""
    a = angles(4, 50)
    z_t = torch.randn(4, 50, 2)
    wide, slope = a[..., None], (a.sin() * a.cos() * (1 - STD**2) / spread(a) ** 2)[..., None]
    velocity = -wide.sin() * MEAN + slope * (z_t - wide.cos() * MEAN)  # d z_t / d a of the flow
    z, noise = wide.cos() * z_t - wide.sin() * velocity, wide.sin() * z_t + wide.cos() * velocity
    given, target = network_and_target(exact, z, noise, a)
    torch.testing.assert_close(given, target, rtol=0, atol=1e-10)
    moved, off = network_and_target(lambda z, a: exact(z, a) + 0.1, z, noise, a)
    assert (moved - off).abs().max() > 0.05


def test_samples_leave_the_exact_function_as_it_is_on_average() -> None:
    """The change of 400,000 samples is orthogonal to 1 and to z_t: 6 standard errors, false alarm 4e-9."""
    z, noise, a = MEAN + STD * torch.randn(4, 100_000, 1), torch.randn(4, 100_000, 1), angles(4, 100_000)
    given, target = network_and_target(exact, z, noise, a)
    z_t = a.cos()[..., None] * z + a.sin()[..., None] * noise
    for weight in (torch.ones_like(z_t), z_t):
        change = ((target - given) * weight).flatten()
        assert change.std() > 0.1  # that of one sample is not 0
        assert abs(change.mean()) < 6 * change.std() / len(change) ** 0.5


def test_the_change_is_that_of_small_steps_along_the_path() -> None:
    """g = cos(a) df/da by central differences, with f as draws use it: the sign and every factor."""
    net, c = trained(head()), torch.randn(7, 16)
    z, noise, a = torch.randn(2, 7, 3), torch.randn(2, 7, 3), angles(2, 7)

    def network(z_t: Tensor, angle: Tensor) -> Tensor:
        return net.net(z_t, angle, c)

    def end(angle: Tensor) -> Tensor:
        z_t = angle.cos()[..., None] * z + angle.sin()[..., None] * noise
        return end_of_path(network, z_t, angle)

    given, target = network_and_target(network, z, noise, a)
    assert not target.requires_grad
    step = 1e-5
    slope = (end(a + step) - end(a - step)) / (2 * step)
    torch.testing.assert_close(target - given, a.cos()[..., None] * slope, rtol=1e-5, atol=1e-8)


def test_the_change_by_hand() -> None:
    """z = 1, noise = 2, a = pi/4, F = z_t a: z_t = 3 / sqrt(2), dz_t/da = 1 / sqrt(2), F = 1.66608,
    dF/da = 0.70711 * 0.78540 + 2.12132 = 2.67668, and
    g = 0.5 (0.70711 - 1.66608) - 0.5 (2.12132 + 2.67668) = -2.87849.
    """
    given, target = network_and_target(
        lambda z, a: z * a[..., None],
        torch.ones(1, 1, 1),
        torch.full((1, 1, 1), 2.0),
        torch.full((1, 1), math.pi / 4),
    )
    assert float(given.detach()) == pytest.approx(1.66608, abs=1e-5)
    assert float(target - given) == pytest.approx(-2.87849, abs=1e-5)


def test_the_loss_has_the_gradient_of_the_shortened_change_and_a_value_that_falls() -> None:
    c, change = 0.1, torch.tensor([[3.0, -4.0], [0.003, 0.004], [0.0, 0.1]])
    given = torch.randn(3, 2, requires_grad=True)
    length = (given - (given.detach() + change)).norm(dim=-1)[None]
    (found,) = torch.autograd.grad(shortened(length, c).sum(), given)
    papers = given - given.detach() - change / (change.norm(dim=-1, keepdim=True) + c)
    (expected,) = torch.autograd.grad(papers.square().sum(), given)
    torch.testing.assert_close(found, expected)
    values = shortened(torch.tensor([[0.0, 0.01, 1.0, 5.0]]), c)[0].tolist()
    assert values[0] == 0
    assert values == sorted(values)


def test_no_change_has_a_finite_gradient() -> None:
    """A network that is exact has errors of length 0, where a norm has no derivative."""
    given = torch.ones(1, 1, 3, requires_grad=True)
    shortened((given - torch.ones(1, 1, 3)).norm(dim=-1), 0.1).sum().backward()
    assert given.grad is not None
    assert given.grad.isfinite().all()


def test_a_draw_is_one_call_at_the_angle_of_noise() -> None:
    net, calls = trained(head()), []
    net.net.register_forward_hook(lambda _, given, __: calls.append(float(given[1])))
    h = torch.randn(2, 4, 8)
    noise = torch.randn(5, 2, 4, 3, generator=torch.Generator().manual_seed(3))
    for temperature in (None, 0.25):
        options = SampleOptions(temperature=temperature, generator=torch.Generator().manual_seed(3))
        z = net.sample(Context(h), 5, options)
        start = noise.reshape(5, 8, 3) * (temperature or 1)
        with torch.no_grad():
            f = net.net(start, torch.full((1, 1), math.pi / 2), net.net.condition(h.flatten(0, 1)))
        torch.testing.assert_close(z, -f.reshape(5, 2, 4, 3))
    assert calls == [math.pi / 2] * 4  # one for each draw of five, and one for each check


def test_draws_in_blocks_are_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    net, h = trained(head()), torch.randn(3, 8)

    def draw() -> Tensor:
        return net.sample(Context(h), 5, SampleOptions(generator=torch.Generator().manual_seed(1)))

    whole = draw()
    monkeypatch.setattr(adaln, "MAX_ROWS", 8)  # two draws of three units at a time
    torch.testing.assert_close(draw(), whole)


def test_refusals() -> None:
    for name in ("depth", "width", "repeats"):
        with pytest.raises(ValueError, match=f"consistency: {name} must be at least 1, got 0"):
            head(**{name: 0})
    for name in ("tangent_offset", "time_std"):
        for value in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"consistency: {name} must be above 0 and finite, got"):
                head(**{name: value})
    with pytest.raises(ValueError, match="consistency: event must be one latent vector"):
        ConsistencyHead(8, EventSpec((4,), 256))
    with pytest.raises(ValueError, match="does not honour the sample options"):
        head().sample(Context(torch.zeros(1, 8)), 1, SampleOptions(num_steps=2))


def test_autocast_stays_near_float32() -> None:
    net, h = trained(head()).float(), torch.randn(64, 8).float()
    target, losses = Posterior(torch.randn(64, 3).float()), []
    for half in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses.append(net.loss(Context(h), target))
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0.05)
