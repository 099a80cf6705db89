"""The regression head: squared error, and the average it leads to."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import Context, EventSpec, Posterior, SampleOptions


def constant_head(value: list[float]) -> RegressionHead:
    """A head that predicts the same for every context."""
    head = RegressionHead(4, EventSpec((len(value),)), depth=1)
    torch.nn.init.zeros_(head.network.write.weight)
    head.network.write.bias.data = torch.tensor(value)
    return head


def test_loss_by_hand() -> None:
    """Prediction (1, 2), means (0, 0) and (4, 6): 1 + 4 and 9 + 16; the posterior's width does not matter."""
    head, context = constant_head([1.0, 2.0]), Context(torch.randn(2, 4))
    mean = torch.tensor([[0.0, 0.0], [4.0, 6.0]])
    torch.testing.assert_close(head.loss(context, Posterior(mean)), torch.tensor([5.0, 25.0]))
    torch.testing.assert_close(
        head.loss(context, Posterior(mean, torch.ones(2, 2))), torch.tensor([5.0, 25.0])
    )


def test_the_best_answer_to_two_truths_lies_between_them() -> None:
    """Truths -1 and 1: the loss is least at 0, where it is their variance, 1, and the gradient is 0."""
    head, context = constant_head([0.0]), Context(torch.randn(4).expand(2, 4))
    target = Posterior(torch.tensor([[-1.0], [1.0]]))
    loss = head.loss(context, target).mean()
    loss.backward()
    assert loss.item() == pytest.approx(1.0)
    assert head.network.write.bias.grad is not None
    assert head.network.write.bias.grad.item() == pytest.approx(0.0)
    for other in (-0.5, 0.5):
        assert constant_head([other]).loss(context, target).mean().item() == pytest.approx(
            1.25
        )  # (0.25 + 2.25) / 2


def test_all_draws_are_the_prediction() -> None:
    head, context = RegressionHead(4, EventSpec((3,)), depth=2), Context(torch.randn(2, 5, 4))
    draws = head.sample(context, 3)
    assert draws.shape == (3, 2, 5, 3)
    assert torch.equal(draws[0], draws[2])
    torch.testing.assert_close(head.loss(context, Posterior(draws[1])), torch.zeros(2, 5))
    assert len(draws[0].flatten().unique()) == 30  # but it does read the context


def test_temperature_is_refused() -> None:
    head = constant_head([0.0])
    assert head.info.temperature == "none"
    with pytest.raises(ValueError, match="temperature"):
        head.sample(Context(torch.randn(4)), 1, SampleOptions(temperature=0.5))


def test_half_precision_sums_in_float32() -> None:
    """512 dimensions, each 1 off: 512 exactly; and 257 of them, which bfloat16 would round to 256."""
    for dim in (512, 257):
        head = constant_head([1.0] * dim).bfloat16()
        loss = head.loss(Context(torch.zeros(1, 4).bfloat16()), Posterior(torch.zeros(1, dim).bfloat16()))
        assert loss.dtype == torch.float32
        assert loss.item() == dim


@pytest.mark.parametrize("options", [{"depth": 0}, {"width": 0}])
def test_impossible_settings_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"regression: {next(iter(options))} .* would do"):
        RegressionHead(4, EventSpec((3,)), **options)


def test_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="one latent vector"):
        RegressionHead(6, EventSpec((4,), vocab_size=257))
