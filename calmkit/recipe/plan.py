"""plan: what a recipe costs before it runs: parameters, FLOPs, tokens, memory, disk.

The model is built on the meta device, so no weight is made and nothing is read or fetched. A part that does
not state its FLOPs (`calmkit.interfaces.flops`) is the exception: it alone is built for real and measured.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, Table 1. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from calmkit.interfaces import RowSampler, Sampler, StatesDraws, WeighingSampler
from calmkit.metrics.choice_flops import weighing_cost
from calmkit.metrics.flops import autoencoder_train_flops, count_flops
from calmkit.metrics.row_calls import row_calls
from calmkit.model import CalmModel
from calmkit.recipe.assemble import build_sampler, validate
from calmkit.recipe.counted import asked_flops, build_what_is_measured
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.fit_rows import units_fit
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import AutoencoderStage, LmStage, Recipe, TrainerSection
from calmkit.registry import Manager

BYTES = {"64-true": 8, "bf16-true": 2, "16-true": 2}  # of a weight; every other precision keeps float32
MOMENTS = 2  # of AdamW, for each trained weight
NOT_COUNTED = "what validations hold, and what kernels and collectives take for themselves"
CORPUS_NOT_COUNTED = "the tokenised corpus beyond its bytes per token, since only reading it tells its length"


@final
@dataclass(frozen=True)
class StagePlan:
    """One stage of training. Memory is that of each device: all of it, as DDP holds it.

    Attributes:
        steps: Of the optimiser; 0 where the stage takes over a finished autoencoder.
        devices: That share a step.
        rows_per_step: Over all devices and accumulated batches.
        elements_per_step: The same in what the kind of data counts by, such as tokens.
        train_flops: Part -> FLOPs of the whole stage.
        weights: Bytes of all weights, the frozen ones too.
        gradients: Bytes.
        moments: Bytes of AdamW's two.
    """

    steps: int
    devices: int
    rows_per_step: int
    elements_per_step: int
    train_flops: Mapping[str, int]
    weights: int
    gradients: int
    moments: int

    @property
    def elements(self) -> int:
        """Of the whole stage."""
        return self.steps * self.elements_per_step

    @property
    def checkpoint(self) -> int:
        """Bytes on disk: weights and moments; 0 where nothing is trained."""
        return self.weights + self.moments if self.steps else 0


@final
@dataclass(frozen=True)
class Plan:
    """What a recipe costs.

    Attributes:
        name: Of the recipe.
        element: What costs are told by, such as `token`.
        parameters_by_part: Part -> parameters.
        stages: `autoencoder` and `lm`, those there are.
        inference: Part -> FLOPs per element, with one draw per unit, at a context of a whole row, or with
            all draws that an order asks for; None where no formula can say it (an adaptive solver).
        sampler: Name of the recipe's sampler.
        draws_per_unit: Its draws, a mean over the units of a row; None where they depend on what is drawn.
        sampler_flops_per_element: FLOPs per element with that sampler; None where they are not known.
        model_bytes: Of the finished model on disk.
        bytes_per_element: Of the prepared data on disk; None where they are not counted.
    """

    name: str
    element: str
    parameters_by_part: Mapping[str, int]
    stages: Mapping[str, StagePlan]
    inference: Mapping[str, float | None]
    sampler: str
    draws_per_unit: int | float | None
    sampler_flops_per_element: float | None
    model_bytes: int
    bytes_per_element: int | None

    @property
    def parameters(self) -> int:
        """Those of stage 2, without the frozen autoencoder; the autoencoder's where it is trained alone."""
        first = self.parameters_by_part["autoencoder"]
        return sum(self.parameters_by_part.values()) - first if "lm" in self.stages else first

    @property
    def train_flops(self) -> int:
        """Of all stages."""
        return sum(sum(stage.train_flops.values()) for stage in self.stages.values())

    @property
    def run_bytes(self) -> int:
        """Most bytes of a run on disk: model, a checkpoint per stage, one more while it is replaced."""
        checkpoints = [stage.checkpoint for stage in self.stages.values()]
        return self.model_bytes + sum(checkpoints) + max(checkpoints)

    @property
    def inference_flops_per_element(self) -> float | None:
        """As `inference`: no guidance, no beams, and of each unit one draw."""
        return _total(self.inference)

    @property
    def not_counted(self) -> str:
        """What is left out of all that, in words."""
        return NOT_COUNTED if self.bytes_per_element is None else f"{NOT_COUNTED}; {CORPUS_NOT_COUNTED}"

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "name": self.name,
            "parameters": self.parameters,
            "train_flops": self.train_flops,
            f"inference_flops_per_{self.element}": self.inference_flops_per_element,
            "parameters_by_part": dict(self.parameters_by_part),
            f"inference_flops_per_{self.element}_by_part": dict(self.inference),
            "sampler": {
                "name": self.sampler,
                "draws_per_unit": self.draws_per_unit,
                f"inference_flops_per_{self.element}": self.sampler_flops_per_element,
            },
            "stages": {name: _stage_dict(stage, self.element) for name, stage in self.stages.items()},
            "disk": {
                "model_bytes": self.model_bytes,
                "run_bytes": self.run_bytes,
                f"corpus_bytes_per_{self.element}": self.bytes_per_element,
            },
            "not_counted": self.not_counted,
        }


def plan(recipe: Recipe, manager: Manager) -> Plan:
    """What a recipe costs.

    Args:
        recipe: From `load_recipe`.
        manager: Where parts are looked up.

    Raises:
        RecipeError: If the recipe can't be trained (CK133, CK140 to CK149); CK146 also for a tokenizer that
            must be fetched to know its size, since `tokenizer.vocab_size` does not state it.
    """
    model = validate(recipe, manager)
    kind = kind_of(recipe, manager)
    known = kind.known_sizes(recipe, manager)
    build_what_is_measured(model, recipe, manager, known)
    uncounted = [*units_fit(recipe, manager, model)]  # of a recipe without stage 2, which may be trained
    if uncounted:
        raise RecipeError(uncounted)
    units = kind.num_units(recipe, model.autoencoder) if model.layout is None else math.prod(model.layout)
    each = kind.elements_per_row(recipe) / units
    one = count_flops(model, units)
    asked = asked_flops(recipe, manager, model, units)
    draws, total = _sampled(model, units, build_sampler(recipe, manager))
    size, vocab_size = BYTES.get(recipe.trainer.precision, 4), known.get("vocab_size")
    return Plan(
        name=recipe.name,
        element=kind.words.element,
        parameters_by_part={name: _count(part) for name, part in model.named_children()},
        stages=_stages(
            recipe, model, dict(one.training) | asked, kind.num_units(recipe, model.autoencoder), units * each
        ),
        inference={k: None if n is None else n / each for k, n in one.inference.items()},
        sampler=recipe.sampler.name,
        draws_per_unit=draws,
        sampler_flops_per_element=None if total is None else total / each,
        model_bytes=size * _count(model if recipe.stages.lm else model.autoencoder),
        bytes_per_element=None if vocab_size is None else 2 if vocab_size <= 2**16 else 4,
    )


def _sampled(
    model: CalmModel, units: int, sampler: Sampler | RowSampler
) -> tuple[int | float | None, int | None]:
    """Draws per unit, and FLOPs per unit, with a sampler; None where they depend on what is drawn."""
    if isinstance(sampler, RowSampler):
        drawn = row_calls(model, units, sampler).draws / units
        return drawn, count_flops(model, units, 1, None, sampler).inference_per_unit
    if isinstance(sampler, WeighingSampler):
        return weighing_cost(model, units, sampler)
    if not isinstance(sampler, StatesDraws):
        return None, None
    draws = sampler.draws_per_unit()
    return draws, count_flops(model, units, draws, sampler.options).inference_per_unit


def count_devices(trainer: TrainerSection) -> int:
    """Devices that share a step: as the recipe says; for `auto` and -1 those of this machine."""
    if trainer.devices in ("auto", "-1"):
        there = trainer.accelerator != "cpu" and torch.accelerator.is_available()
        per_node = torch.accelerator.device_count() if there else 1
    else:
        listed = [device for device in trainer.devices.split(",") if device]
        per_node = len(listed) if "," in trainer.devices else int(trainer.devices)
    return per_node * trainer.num_nodes


def _stages(
    recipe: Recipe, model: CalmModel, flops: Mapping[str, int], coded: int, row: float
) -> dict[str, StagePlan]:
    """Of rows that hold `row` elements, in `coded` units of the autoencoder."""
    stages: dict[str, StagePlan] = {}
    first, second = recipe.stages.autoencoder, recipe.stages.lm
    if first is not None:
        per_row = 0 if first.init_from else autoencoder_train_flops(model.autoencoder, coded)
        stages["autoencoder"] = _stage(recipe, first, {"autoencoder": per_row}, [model.autoencoder], [], row)
    if second is not None:
        parts, frozen = dict(model.named_children()), ("autoencoder", *second.freeze)
        trained = [part for name, part in parts.items() if name not in frozen]
        fixed = [part for name, part in parts.items() if name in frozen]
        stages["lm"] = _stage(recipe, second, flops, trained, fixed, row)
    return stages


def _stage(
    recipe: Recipe,
    stage: AutoencoderStage | LmStage,
    per_row: Mapping[str, int],
    trained: list[nn.Module],
    frozen: list[nn.Module],
    row: float,
) -> StagePlan:
    devices = count_devices(recipe.trainer)
    rows = stage.batch_size * recipe.trainer.accumulate * devices
    steps = 0 if isinstance(stage, AutoencoderStage) and stage.init_from else stage.max_steps
    size = BYTES.get(recipe.trainer.precision, 4)
    learned, fixed = (size * sum(map(_count, parts)) for parts in (trained, frozen))
    return StagePlan(
        steps=steps,
        devices=devices,
        rows_per_step=rows,
        elements_per_step=round(rows * row),
        train_flops={name: flops * rows * steps for name, flops in per_row.items()},
        weights=learned + fixed,
        gradients=learned,
        moments=MOMENTS * learned,
    )


def _stage_dict(stage: StagePlan, element: str) -> dict[str, Any]:
    return {
        "steps": stage.steps,
        "devices": stage.devices,
        "rows_per_step": stage.rows_per_step,
        f"{element}s_per_step": stage.elements_per_step,
        f"{element}s": stage.elements,
        "train_flops": sum(stage.train_flops.values()),
        "train_flops_by_part": dict(stage.train_flops),
        "memory_per_device": {
            "weights": stage.weights,
            "gradients": stage.gradients,
            "moments": stage.moments,
        },
        "checkpoint_bytes": stage.checkpoint,
    }


def _count(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def _total(flops: Mapping[str, float | None]) -> float | None:
    known = [value for value in flops.values() if value is not None]
    return sum(known) if len(known) == len(flops) else None
