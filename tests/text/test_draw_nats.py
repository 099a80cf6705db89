"""Draw nats by hand, the contract of measures, and that better draws cost fewer nats."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from calmkit.interfaces import HeldOut
from calmkit.testing import check_measure
from calmkit.testing.measures import units_by_hand
from calmkit.text.metrics.draw_nats import DrawNats


def held(drawn: Tensor, data: Tensor) -> HeldOut:
    latents = torch.zeros(*drawn.shape[:2], 1)
    whole = units_by_hand(latents, latents[0])
    return replace(whole, data=data, draw=lambda num: (drawn, latents))


def nats(drawn: Tensor, data: Tensor, outcomes: int) -> float:
    measure = DrawNats(num_draws=len(drawn), outcomes=outcomes)
    metric = measure.metric()
    measure.update(metric, held(drawn, data))
    return float(metric.compute()[""])


def test_nats_by_hand() -> None:
    """Four draws of two units of two tokens, six outcomes, so each share is over 4 + 3: the first unit came
    up three times, 3.5 / 7 = 1/2, the second never, 0.5 / 7; half of each, for two tokens.
    """
    data = torch.tensor([[1, 2], [3, 3]])
    drawn = torch.tensor([[[1, 2], [3, 1]], [[1, 2], [1, 3]], [[1, 2], [0, 0]], [[1, 1], [2, 3]]])
    wanted = (math.log(2) + math.log(14)) / 2 / 2
    assert nats(drawn, data, 6) == pytest.approx(wanted, abs=1e-6)


def test_shares_of_all_outcomes_sum_to_one() -> None:
    """Four outcomes of one token: the exponentials of minus the nats of each as the truth."""
    drawn = torch.randint(0, 4, (9, 1, 1))
    shares = [math.exp(-nats(drawn, torch.tensor([[one]]), 4)) for one in range(4)]
    assert sum(shares) == pytest.approx(1, abs=1e-6)


def test_draws_from_the_truth_cost_fewer_nats_than_uniform_and_than_sure_ones() -> None:
    """2,000 units from (1/2, 1/4, 1/8, 1/8), 64 draws: the truth's 1.21 nats, 1.39 for uniform draws, 2.1 for
    those that know one letter alone. Spread of the difference by unit under 0.6, so under 0.02 of the mean:
    false once in more than 10,000.
    """
    torch.manual_seed(0)
    law = torch.tensor([0.5, 0.25, 0.125, 0.125])
    data = torch.multinomial(law, 2000, replacement=True).unsqueeze(1)
    truth = torch.multinomial(law, 64 * 2000, replacement=True).view(64, 2000, 1)
    uniform, sure = torch.randint(0, 4, (64, 2000, 1)), torch.zeros(64, 2000, 1, dtype=torch.long)
    found = [nats(drawn, data, 4) for drawn in (truth, uniform, sure)]
    assert found[0] + 0.08 < found[1] < found[2]


def test_it_keeps_the_contract_of_measures() -> None:
    check_measure("draw_nats", num_draws=32)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="num_draws"):
        DrawNats(num_draws=0)
    with pytest.raises(ValueError, match="outcomes"):
        DrawNats(outcomes=1)
