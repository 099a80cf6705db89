"""averaged: an exponential moving average of the weights of stage 2, which is what is measured and kept.

Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992, section 2.
https://doi.org/10.1137/0330046. As in MAR: Li et al., 2024, appendix B. https://arxiv.org/abs/2406.11838
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import lightning.pytorch as pl
import torch
from torch import Tensor

from calmkit.training.sharding import whole
from calmkit.training.stages import StageModule


@contextmanager
def averaged(decay: float | None, module: StageModule) -> Iterator[Sequence[pl.Callback]]:
    """Callbacks that keep the average while a stage is fitted; behind the block the module holds it.

    Args:
        decay: Of the average per step; None: nothing is averaged.
        module: Whose trained weights are.
    """
    if decay is None:
        yield ()
        return
    average = WeightAverage(decay)
    yield (average,)
    average.take(module)


@final
class WeightAverage(pl.Callback):
    """The average, in validation in the place of the weights, in training beside them.

    Early on the decay is lower, (1 + n) / (10 + n) after n steps, so that an average of few steps is no
    memory of the start. `calmkit.training.state` keeps it in the snapshots of the stage.

    Args:
        decay: Of a long run.
    """

    def __init__(self, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.kept: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] = {}

    def take(self, module: pl.LightningModule) -> None:
        """Put the average into a module, for good."""
        with torch.no_grad():
            for name, parameter in _trained(module):
                if name in self.kept:
                    kept = self.kept[name]
                    parameter.copy_(kept if type(kept) is type(parameter.data) else whole(kept))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After every step of the optimiser."""
        del outputs, batch, batch_idx
        if trainer.global_step == self.steps:  # a batch that was only accumulated
            return
        self.steps = trainer.global_step
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for name, parameter in _trained(pl_module):
                value = parameter.detach()
                value = value.to(torch.promote_types(value.dtype, torch.float32))
                if name not in self.kept:
                    self.kept[name] = value.clone()
                self.kept[name] = self.kept[name].to(value.device).lerp(value, 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The average is what is measured."""
        del trainer
        if self.kept:
            self._trained = {name: value.detach().clone() for name, value in _trained(pl_module)}
            self.take(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training goes on with its own weights."""
        del trainer
        self._give_back(pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """What is kept of a stage that fails in a validation are the weights that were trained."""
        del trainer, exception
        self._give_back(pl_module)

    def _give_back(self, module: pl.LightningModule) -> None:
        with torch.no_grad():
            for name, parameter in _trained(module):
                if name in self._trained:
                    parameter.copy_(self._trained[name])
        self._trained = {}


def _trained(module: pl.LightningModule) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, value) for name, value in module.named_parameters() if value.requires_grad)
