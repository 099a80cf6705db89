from __future__ import annotations

import math

import torch

from calmkit.metrics.sampler_use import SamplerUse


def test_counts_by_hand() -> None:
    use = SamplerUse()
    use.add(torch.tensor([50, 50, 0]), torch.tensor([2.0, 1.0, math.nan]))  # the third row had ended
    use.add(torch.tensor([50, 200, 0]), torch.tensor([2.0, math.nan, math.nan]))
    assert (use.units, use.draws, use.max_draws, use.draws_per_unit) == (4, 350, 200, 87.5)
    assert use.level == (2 + 1 + 2) / 3
    assert use.level_shares == {2.0: 0.5, 1.0: 0.25}
    assert list(use.level_shares) == [2.0, 1.0]
    assert use.fallback_share == 0.25
    assert use.sentence() == (
        "4 units, 87.5 draws each; level 2: 2 units, level 1: 1 unit; "
        "1 unit fell back: the law asked for was not reached"
    )


def test_before_the_first_unit_nothing_is_claimed() -> None:
    use = SamplerUse()
    assert use.units == 0
    assert use.level is None
    assert use.level_shares == {}
    assert math.isnan(use.draws_per_unit)
    assert math.isnan(use.fallback_share)


def test_a_fallback_has_no_level() -> None:
    use = SamplerUse()
    use.add(torch.tensor([7]), torch.tensor([math.nan]))
    assert use.level is None
    assert use.sentence() == "1 unit, 7.0 draws each; 1 unit fell back: the law asked for was not reached"
