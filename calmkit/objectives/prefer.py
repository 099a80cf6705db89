"""prefer: a model is moved towards draws with a higher reward, without a likelihood.

Of the model that training begins with, p_ref, and a reward r(x) of a unit, the law

    p(x | context)  ~  p_ref(x | context) exp(r(x) / beta)

is the one that has the highest mean of r - beta KL(p || p_ref). Its draws are had from those of p_ref: n
candidates for each context, each with the weight softmax(r / beta) among them, are the targets of the head's
own loss, so that any head can learn and nobody needs log p_ref. With n candidates the weights are
self-normalised: what is learnt lies between p_ref (n = 1) and that law (n without bound).

Source: the law: Rafailov et al., Direct Preference Optimization, 2023, Eq. 4
(https://arxiv.org/abs/2305.18290). Learning from samples weighted by exp(reward): Peters and Schaal,
Reinforcement Learning by Reward-weighted Regression, 2007 (https://doi.org/10.1145/1273496.1273590).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Batch, Measure, MeasureInfo, Number, Objective, UnitLoss
from calmkit.nn.settings import require_at_least
from calmkit.objectives.drawn import as_data, draws_of, placed

MEASURED_DRAWS = 4  # of a unit, for the mean reward on held-out data


@final
class PreferObjective(Objective):
    """The loss of the head on draws of the model that training begins with, weighted by their reward.

    Args:
        reward: Name of a reward of the kind of data (docs/objectives.md).
        beta: Of one unit of reward: the smaller, the further from the reference.
        num_candidates: n, draws of the reference for each unit and step; at least 2.
        reference: The folder of a finished run; null: that of `stages.lm.init_from`.
    """

    runs = ("reference",)
    begins_with = "reference"
    numbers = ("reward",)
    decodes = True

    def __init__(
        self, *, reward: str = "", beta: float = 1.0, num_candidates: int = 16, reference: str | None = None
    ) -> None:
        require_at_least("prefer", 2, num_candidates=num_candidates)
        if not 0 < beta < math.inf:
            raise ValueError(f"prefer: beta must be above 0 and finite, got {beta}; 1.0 would do.")
        self.reward, self.beta, self.draws, self.reference = reward, beta, num_candidates, reference

    def loss(self, model: Any, batch: Batch) -> UnitLoss:
        """One value for each unit that counts, in the head's own unit."""
        keep = model.counted(batch)
        if not keep.any():
            return model.loss(batch)
        reference = self.models["reference"]
        drawn = draws_of(reference, batch, keep, self.draws, None)
        return model.loss(batch, placed(drawn, keep, self.weights(reference, batch, keep, drawn)))

    def weights(
        self, reference: Any, batch: Batch, keep: Bool[Tensor, "B L"], drawn: Tensor
    ) -> Float[Tensor, "num N"]:
        """softmax(r / beta) among the candidates of each unit."""
        assert self.judge is not None
        return (self.judge(as_data(reference, batch, keep, drawn)).float() / self.beta).softmax(0)

    @torch.no_grad()
    def measured(self, model: Any, batch: Batch) -> Mapping[str, Float[Tensor, " N"]]:
        """The mean reward of a few draws of the model at each unit."""
        keep = model.counted(batch)
        if self.judge is None or not keep.any():
            return {}
        drawn = draws_of(model, batch, keep, MEASURED_DRAWS, None)
        return {"reward": self.judge(as_data(model, batch, keep, drawn)).float().mean(0)}


@final
class RewardMeasure(Measure):
    """The reward of draws on held-out data, of models that were trained for one."""

    info = MeasureInfo(
        Number("reward", better="higher", meaning="Mean reward of a draw, given the true units before it.")
    )


@hookimpl
def calmkit_objectives() -> dict[str, type[Objective]]:
    """The parts of this module."""
    return {"prefer": PreferObjective}


@hookimpl
def calmkit_metrics() -> dict[str, type[Measure]]:
    """Register these."""
    return {"reward": RewardMeasure}
