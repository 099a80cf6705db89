"""The two stages as Lightning modules: the autoencoder alone, then everything on top of it, frozen.

Both average a per-unit loss in their last line, clip the gradient, and refuse a step whose gradient is not
finite, so the weights are always the last good ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import partial
from typing import Any, final

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torchmetrics import MeanMetric

from calmkit.generation import SeededRandomness
from calmkit.head_calls import tell_progress
from calmkit.interfaces import Autoencoder, Batch, Objective, Scores
from calmkit.model import CalmModel
from calmkit.objectives.data import DataObjective
from calmkit.recipe.schema import Optimizer
from calmkit.training.agreed import Agreed, Asks
from calmkit.training.errors import TrainingDiverged
from calmkit.training.explosion import LossWatch
from calmkit.training.measuring import Measuring
from calmkit.training.own_numbers import OwnNumbers
from calmkit.training.schedule import learning_rate_factor
from calmkit.training.sharding import ShardedStrategy, gather, scatter, shard, whole
from calmkit.training.stopping import INTERRUPTED, REQUEUE

RANK_STRIDE = 7919  # between the seeds of two processes, so that their streams differ at every batch


class StageModule(pl.LightningModule, ABC):
    """What both stages share: the optimiser, and the refusal of a step that is not finite.

    Attributes:
        keeping: What asks the processes to save or to stop; None where nobody does.
        agreed: What they agreed upon in the step that is being taken.
        watch: Says which loss is out of all proportion.
    """

    keeping: Asks | None = None
    agreed = Agreed()

    def __init__(self, optimizer: Optimizer, max_steps: int, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.optimizer_settings = optimizer
        self.max_steps = max_steps
        self.last_loss = float("nan")
        self.watch = LossWatch(None)

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """What a checkpoint holds the tensors of."""

    @final
    def put(self, module: nn.Module) -> None:
        """Put another module in the place of the one that was trained."""
        (name,) = (name for name, child in self.named_children() if child is self.trained)
        setattr(self, name, module)

    @final
    def configure_model(self) -> None:
        """Deal the weights out, where the strategy does that."""
        mesh = getattr(self, "_device_mesh", None)  # Lightning's name
        if isinstance(self.trainer.strategy, ShardedStrategy) and mesh is not None:
            shard(self.trained, mesh)

    @final
    def on_validation_start(self) -> None:
        """Scores draw in ways of their own: every process needs all weights."""
        gather(self.trained)

    def on_validation_epoch_end(self) -> None:
        """Log over all processes."""
        self.log_scores()
        scatter(self.trained)

    def log_scores(self) -> None:
        """Log the scores of a validation, where there are any."""

    @final
    def on_train_start(self) -> None:
        """Give every process noise of its own; the first keeps the stream of a run alone."""
        if self.global_rank:
            pl.seed_everything(self.seed + RANK_STRIDE * self.global_rank, verbose=False)

    @final
    def configure_optimizers(self) -> Any:
        """AdamW; weight decay on matrices only."""
        settings = self.optimizer_settings
        trained = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=1e-8)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: learning_rate_factor(step, settings.warmup_steps, self.max_steps, settings.schedule),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @final
    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm, and refuse a step whose norm is not finite."""
        del gradient_clip_val, gradient_clip_algorithm, optimizer  # the recipe's optimiser section says it
        parameters = [p for p in self.parameters() if p.grad is not None]
        clip = self.optimizer_settings.clip
        norm = whole(nn.utils.clip_grad_norm_(parameters, float("inf") if clip is None else clip))
        precision = self.trainer.precision_plugin
        if isinstance(precision, MixedPrecision) and precision.scaler is not None:
            return  # half precision overflows now and then; its scaler skips the step and scales less
        if not torch.isfinite(norm):
            self.refuse("gradient", float(norm))

    @final
    def refuse(self, what: str, value: float) -> None:
        """Stop before the step is taken.

        Raises:
            TrainingDiverged: Always.
        """
        raise TrainingDiverged(
            f"The {what} became {value} at step {self.global_step} of {self.max_steps} (last finite loss "
            f"{self.last_loss:.4g}). The step was not taken. A lower learning rate (now "
            f"{self.optimizer_settings.lr:g}), a longer warm-up or "
            "trainer.precision=32-true would be the first things to try."
        )

    def _refuse_explosion(self, loss: float) -> None:
        last = self.watch.losses
        raise TrainingDiverged(
            f"The loss rose to {loss:.4g} at step {self.global_step} of {self.max_steps}; the last "
            f"{len(last)} were {min(last):.4g} to {max(last):.4g}, and trainer.explosion lets it rise to "
            f"{self.watch.limit():.4g} (null: to anything). The step was not taken."
        )

    @final
    def checked(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The mean over all processes, to be logged, if it is finite; so all of them stop, or none.

        What the processes are asked to do travels along: they save and stop behind the same step.
        """
        asked = (False, False, False) if self.keeping is None else self.keeping.asks()
        told = torch.cat([loss.detach().reshape(1), loss.new_tensor(asked)])
        told = self.trainer.strategy.reduce(told, reduce_op="mean")
        assert isinstance(told, Tensor)
        value, requeue, interrupt, save = told.tolist()
        stop = INTERRUPTED if interrupt else REQUEUE if requeue else 0
        self.agreed = Agreed(self.agreed.stop or stop, self.agreed.save or bool(save))
        if not math.isfinite(value):
            self.refuse("loss", value)
        if value > self.watch.limit():
            self._refuse_explosion(value)
        self.watch.add(value)
        self.last_loss = value
        return told[0]


@final
class AutoencoderModule(StageModule):
    """Stage 1: the autoencoder by its own loss; judged by what it reconstructs.

    Args:
        autoencoder: Trained.
        scores: Of its kind of data.
        optimizer: Settings.
        max_steps: Of the stage.
        seed: Of the run.
    """

    def __init__(
        self, autoencoder: Autoencoder, scores: Scores, optimizer: Optimizer, max_steps: int, seed: int
    ) -> None:
        super().__init__(optimizer, max_steps, seed)
        self.autoencoder = autoencoder
        self.scores = scores

    @property
    def trained(self) -> nn.Module:
        """The autoencoder."""
        return self.autoencoder

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean loss of the real units, nats per unit."""
        del batch_idx
        out = self.autoencoder.loss(batch.data)
        loss = out.per_unit[batch.valid].mean()
        self.log("autoencoder/train/loss", self.checked(loss))
        self.log_dict({f"autoencoder/train/{name}": v for name, v in out.terms.items()}, sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """What comes back from a posterior draw."""
        with SeededRandomness(self.seed + RANK_STRIDE * self.global_rank + batch_idx, self.device).borrowed():
            self.scores.update(self.autoencoder, batch)

    def log_scores(self) -> None:
        """Log over all processes."""
        self.log_dict({f"autoencoder/val/{name}": value for name, value in self.scores.compute().items()})
        self.scores.reset()


@final
class ModelModule(StageModule):
    """Stage 2: everything on top of the autoencoder, which is frozen. Judged by the head's loss, and by the
    scores of its kind of data.

    Args:
        model: Trained.
        scores: Of its kind of data.
        optimizer: Settings.
        max_steps: Of the stage.
        seed: Of the run.
        prefix: In front of the names of its scores.
        beside: Measures that are taken at every validation too; None: none are.
        objective: What a step makes smaller; None: the loss of the head on the data.
    """

    def __init__(
        self,
        model: CalmModel,
        scores: Scores,
        optimizer: Optimizer,
        max_steps: int,
        *,
        seed: int,
        prefix: str = "lm/val",
        beside: Measuring | None = None,
        objective: Objective | None = None,
    ) -> None:
        super().__init__(optimizer, max_steps, seed)
        self.model = model
        self.scores = scores
        self.prefix = prefix
        self.beside = beside
        self.val_loss = MeanMetric()
        self.objective = DataObjective() if objective is None else objective
        self.numbers = OwnNumbers(self.objective.numbers)

    @property
    def trained(self) -> nn.Module:
        """The model, its frozen autoencoder too."""
        return self.model

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean loss of the units that count, as far as training is."""
        del batch_idx
        tell_progress(self.model.head, self.global_step / self.max_steps)
        loss = self.objective.loss(self.model, batch).per_unit.mean()
        self.log("lm/train/loss", self.checked(loss))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and scores of a batch as at the end, on randomness of their own: training's is not touched."""
        tell_progress(self.model.head, 1.0)
        seed = self.seed + RANK_STRIDE * self.global_rank + batch_idx
        with SeededRandomness(seed, self.device).borrowed():
            per_unit = self.model.loss(batch).per_unit
            self.scores.update(self.model, batch)
            self.numbers.update(self.objective, self.model, batch)
        self.val_loss.update(per_unit)
        if self.beside is not None:
            self.beside.update(self.model, batch, seed, self.device)

    def log_scores(self) -> None:
        """Log over all processes."""
        scores = {"loss": self.val_loss.compute(), **self.scores.compute(), **self.numbers.compute()}
        if self.beside is not None:
            reduce = partial(self.trainer.strategy.reduce, reduce_op="sum")
            scores = {**self.beside.finish(reduce, self.device), **scores}  # whose names come first
        self.log_dict({f"{self.prefix}/{name}": value.float() for name, value in scores.items()})
        self.val_loss.reset()
        self.scores.reset()
        self.numbers.reset()
