"""MadeUpStep: a step of a stage as training takes it, on rows that are made up, with or without numbers.

It is what plans are made by and what they are held to: on tensors without numbers its memory is planned, on
real ones it is measured and timed. As Lightning's loop does it, the gradients of the step before are dropped
only when the first forward pass is through.

Source: Lightning, `lightning.pytorch.loops.optimization.automatic.Closure`.
https://github.com/Lightning-AI/pytorch-lightning
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import final

import torch
from torch import Tensor, nn

from calmkit.interfaces import DataKind
from calmkit.metrics.made_up import made_up_batch, made_up_data
from calmkit.model import CalmModel
from calmkit.recipe.schema import AutoencoderStage, LmStage, Recipe
from calmkit.training.layers import trained_layers

FIRST, SECOND = "autoencoder", "lm"
FORWARD, BACKWARD, OPTIMISER = "forward", "backward", "optimiser"
HALF = {"bf16": torch.bfloat16, "16": torch.float16}
DTYPES = {"64": torch.float64, "32": torch.float32, **HALF}


def stages_trained(recipe: Recipe) -> dict[str, AutoencoderStage | LmStage]:
    """The stages in which a recipe takes steps."""
    first, second = recipe.stages.autoencoder, recipe.stages.lm
    found: dict[str, AutoencoderStage | LmStage] = {}
    if first is not None and not first.init_from:
        found[FIRST] = first
    if second is not None:
        found[SECOND] = second
    return found


def weights_dtype(precision: str) -> torch.dtype:
    """What weights are kept in, of a precision as in a recipe, but not `auto`."""
    numbers, _, how = precision.partition("-")
    return torch.float32 if how == "mixed" else DTYPES[numbers]


def units_of(model: CalmModel, recipe: Recipe, kind: DataKind) -> int:
    """L of the model's units in a row."""
    return kind.num_units(recipe, model.autoencoder) if model.layout is None else math.prod(model.layout)


@final
class MadeUpStep:
    """Steps of one stage.

    Args:
        model: In the type that weights are kept in. Taken over: its weights move, and in stage 1 its
            autoencoder is trained.
        recipe: Of the model.
        stage: `autoencoder` or `lm`.
        units: L of the rows, in units of what the stage trains.
        device: Of the model.
        precision: As in a recipe, but not `auto`.
        foreach: Whether the optimiser takes all weights at once, as torch does on a GPU.
        last_only: Of accumulated batches only the last is taken: memory is highest in it.

    Attributes:
        trained: What the stage trains.
        parameters: Those that take a gradient.
        average: Name -> the moving average of a weight, as `calmkit.training.ema` keeps it.
        label: Called with a word for each phase of a step.
    """

    def __init__(
        self,
        model: CalmModel,
        recipe: Recipe,
        stage: str,
        units: int,
        *,
        device: torch.device,
        precision: str,
        foreach: bool,
        last_only: bool = False,
    ) -> None:
        numbers, _, how = precision.partition("-")
        self.trainer, self.stage = recipe.trainer, stage
        self.accumulate = recipe.trainer.accumulate
        self.first_batch = self.accumulate - 1 if last_only else 0
        settings = recipe.stages.autoencoder if stage == FIRST else recipe.stages.lm
        assert settings is not None
        self.clip, self.foreach = settings.optimizer.clip, foreach
        self.dtype, self.lower = weights_dtype(precision), HALF[numbers] if how == "mixed" else None
        self.device = device
        self.trained: nn.Module = model
        rows = settings.batch_size
        with self._default():
            if stage == FIRST:
                autoencoder = model.autoencoder.requires_grad_(True)
                data = made_up_data(autoencoder, rows, units, device)
                self.trained = autoencoder
                self._loss: Callable[[], Tensor] = lambda: autoencoder.loss(data).per_unit.mean()
            else:
                batch = made_up_batch(model.autoencoder, rows, units, device)
                self._loss = lambda: model.loss(batch).per_unit.mean()
        self.trained.train()
        self.parameters = {n: p for n, p in self.trained.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=1e-5, foreach=foreach)
        self.average: dict[str, Tensor] = {}
        self.label: Callable[[str], None] = lambda word: None

    def prime(self) -> None:
        """Gradients, moments and the average as a step before would have left them."""
        for parameter in self.parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        self._optimise()

    def take(self) -> None:
        """One step of the optimiser, all accumulated batches of it."""
        recompute = self.trainer.activation_checkpointing and self.stage == SECOND
        with trained_layers(self.trained, recompute=recompute, compiled=False), self._default():
            for batch in range(self.first_batch, self.accumulate):
                self.label(FORWARD)
                with self._autocast():
                    loss = self._loss() / self.accumulate
                if batch == 0:
                    self.optimizer.zero_grad()
                self.label(BACKWARD)
                loss.backward()
                del loss
        self.label(OPTIMISER)
        self._optimise()

    def drop(self) -> None:
        """Drop the gradients and the average, which the next step makes again."""
        self.optimizer.zero_grad()
        self.average = {}

    def _optimise(self) -> None:
        limit = math.inf if self.clip is None else self.clip
        nn.utils.clip_grad_norm_(self.parameters.values(), limit, foreach=self.foreach)
        self.optimizer.step()
        if self.trainer.ema is not None and self.stage == SECOND:
            self._move_average(self.trainer.ema)

    @torch.no_grad()
    def _move_average(self, decay: float) -> None:
        for name, parameter in self.parameters.items():
            value = parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))
            if name not in self.average:
                self.average[name] = value.clone()
            self.average[name] = self.average[name].lerp(value, 1 - decay)

    def _autocast(self) -> AbstractContextManager[object]:
        return nullcontext() if self.lower is None else torch.autocast(self.device.type, self.lower)

    @contextmanager
    def _default(self) -> Iterator[None]:
        """New tensors are of the weights' type, as under Lightning's `-true` precisions."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
