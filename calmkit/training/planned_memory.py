"""plan_memory: the most memory that a step of each stage takes, by part and by what it is for.

A whole step runs on tensors without numbers (`torch._subclasses.FakeTensorMode`): forward, backward and the
optimiser, under the recipe's precision, with every storage counted while it lives. Weights of a step that
deals them out (fsdp2), and what ddp adds, are arithmetic on top of it.

Sources: PyTorch, "Fake tensor". https://docs.pytorch.org/docs/stable/torch.compiler_fake_tensor.html
Rajbhandari et al., ZeRO, 2020, section 3 (what is kept for each weight). https://arxiv.org/abs/1910.02054
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, final

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from calmkit.interfaces import NotTrainable, Plan
from calmkit.metrics.live_memory import Label, LiveMemory
from calmkit.model import CalmModel
from calmkit.recipe.assemble import validate
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.training.gpu_rules import GpuRules
from calmkit.training.layers import backbone_layers
from calmkit.training.made_up_step import FIRST, FORWARD, MadeUpStep, stages_trained, units_of, weights_dtype

WEIGHTS, GRADIENTS, MOMENTS, AVERAGE = "weights", "gradients", "moments", "average"
ACTIVATIONS, WORKING = "activations", "working"
CPU = torch.device("cpu")
ENOUGH = 2**16
"""Units of a row that tell the share of those that are predicted."""
MESSAGE = 300  # characters of an error
ASKED = 100_000  # times at most; behind it is a loop that waits for another answer
ORDER_PLANS = 8  # of which the one that predicts most is taken


@final
@dataclass(frozen=True)
class StageMemory:
    """What lives in one process of one stage, phase by phase, when most does.

    Attributes:
        phases: `forward`, `backward`, `optimiser` -> (kind, part) -> bytes. The part is empty for what
            belongs to none: the backward pass's and the optimiser's working memory, rows, losses.
        layer: Bytes of the weights of the largest layer of the backbone.
        layers: Of all of them.
    """

    phases: Mapping[str, Mapping[Label, int]]
    layer: int
    layers: int

    @property
    def during(self) -> str:
        """The phase in which most lives."""
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def at_peak(self) -> Mapping[Label, int]:
        """(kind, part) -> bytes, then."""
        return self.phases[self.during]

    @property
    def peak(self) -> int:
        """Bytes, then."""
        return sum(self.at_peak.values())


@final
@dataclass(frozen=True)
class PlannedMemory:
    """What lives in a step of each stage.

    Attributes:
        gpu: Whether CUDA's rules were taken, or the CPU's.
        precision: Of the step.
        stages: Those that take steps.
        unknown: Stage -> why it could not be run without numbers.
    """

    gpu: bool
    precision: str
    stages: Mapping[str, StageMemory]
    unknown: Mapping[str, str]


def plan_memory(recipe: Recipe, manager: Manager, *, gpu: bool, precision: str) -> PlannedMemory:
    """What lives in a step of each stage, on one device alone, in eager mode.

    Args:
        recipe: What is trained.
        manager: Where parts are looked up.
        gpu: Whether the step is taken by CUDA's rules or by the CPU's.
        precision: As in a recipe, but not `auto`.

    Raises:
        RecipeError: If the recipe can't be trained.
    """
    found: dict[str, StageMemory] = {}
    unknown: dict[str, str] = {}
    for stage in stages_trained(recipe):
        model = validate(recipe, manager).to(weights_dtype(precision))
        try:
            found[stage] = _stage(model, recipe, manager, stage, gpu, precision)
        except NotTrainable:
            continue
        except Exception as error:  # a guest may ask its tensors for numbers, in any way
            unknown[stage] = " ".join(f"{type(error).__name__}: {error}".split())[:MESSAGE]
    return PlannedMemory(gpu, precision, found, unknown)


def _stage(
    model: CalmModel, recipe: Recipe, manager: Manager, stage: str, gpu: bool, precision: str
) -> StageMemory:
    units, share = _rows(model, recipe, manager, stage)
    memory, recompute = LiveMemory(), recipe.trainer.activation_checkpointing
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        memory,
        _Answers(share),  # the last one in is asked first
        GpuRules() if gpu else nullcontext(),
    ):
        _without_numbers(model.autoencoder if stage == FIRST else model)
        step = MadeUpStep(
            model,
            recipe,
            stage,
            units,
            device=CPU,
            precision=precision,
            foreach=gpu,
            last_only=True,
        )
        for layer in backbone_layers(step.trained) if gpu and recompute else ():
            _ruled(layer)
        return _measured(step, model, memory)


def _rows(model: CalmModel, recipe: Recipe, manager: Manager, stage: str) -> tuple[int, float]:
    """L of a stage's rows, and the share of its units that are predicted."""
    kind = kind_of(recipe, manager)
    if stage == FIRST:
        return kind.num_units(recipe, model.autoencoder), 1.0
    units, lm = units_of(model, recipe, kind), recipe.stages.lm
    assert lm is not None
    order, some = model.order, min(units, ENOUGH)  # real tensors, so that a row of any length may be planned
    if order is None or order.reads != "any":
        return units, float(model.predict(torch.ones(1, some, dtype=torch.bool)).float().mean())
    valid = torch.ones(lm.batch_size, some, dtype=torch.bool)
    with torch.random.fork_rng(devices=[]):
        shares = [float(order.plan(valid).predict.float().mean()) for _ in range(ORDER_PLANS)]
    model.order = _Planned()  # type: ignore[assignment]
    return units, max(shares)


class _Planned:
    """In the place of an order, whose draws may ask for numbers: masks of which only the shape counts."""

    reads = "any"

    def plan(self, valid: Tensor) -> Plan:
        return Plan(known=valid, predict=valid)


def _measured(step: MadeUpStep, model: CalmModel, memory: LiveMemory) -> StageMemory:
    """A step behind another one, whose gradients, moments and average are there."""
    parts = {part: name for name, part in model.named_children()}
    held = [*step.trained.parameters(), *step.trained.buffers()]
    owners = {id(p): name for part, name in parts.items() for p in [*part.parameters(), *part.buffers()]}
    trained = {name: owners[id(p)] for name, p in step.parameters.items()}
    step.prime()
    for tensor in held:
        memory.own(tensor, (WEIGHTS, owners.get(id(tensor), "")))
    for name, p in step.parameters.items():
        _own(memory, p.grad, (GRADIENTS, trained[name]))
        for value in step.optimizer.state[p].values():
            _own(memory, value, (MOMENTS, trained[name]))
        _own(memory, step.average.get(name), (AVERAGE, trained[name]))
        p.register_post_accumulate_grad_hook(partial(_own_gradient, memory, (GRADIENTS, trained[name])))
    for part, name in parts.items():
        _labelled(part, memory, (ACTIVATIONS, name))

    def label(phase: str) -> None:
        memory.phase = phase
        memory.label = (ACTIVATIONS, "") if phase == FORWARD else (WORKING, "")

    step.label = label
    memory.forget_peaks()
    step.take()
    layers = [sum(map(_bytes, layer.parameters())) for layer in backbone_layers(step.trained)]
    return StageMemory(memory.peaks, max(layers, default=0), sum(layers))


def _ruled(layer: nn.Module) -> None:
    """By CUDA's rules also where the backward pass computes it again: a mode of functions ends before."""
    forward = layer.forward

    def again(*args: Any, **kwargs: Any) -> Any:
        with GpuRules():
            return forward(*args, **kwargs)

    layer.forward = again


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _own_gradient(memory: LiveMemory, label: Label, parameter: Tensor) -> None:
    _own(memory, parameter.grad, label)


def _own(memory: LiveMemory, value: Any, label: Label) -> None:
    if isinstance(value, Tensor):
        memory.own(value, label)


def _labelled(part: nn.Module, memory: LiveMemory, label: Label) -> None:
    """What a part's public methods make is its own, but for what it hands to others."""

    def wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            with memory.labelled(label):
                return method(*args, **kwargs)

        return call

    for name, _ in inspect.getmembers(type(part), inspect.isfunction):
        if not name.startswith("_") and (name == "forward" or name not in dir(nn.Module)):
            part.__dict__[name] = wrapped(getattr(part, name))


def _without_numbers(model: nn.Module) -> None:
    """Tensors of the mode that is entered in the place of a model's own; shared ones stay shared."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                if id(p) not in made:
                    empty = torch.empty(p.shape, dtype=p.dtype)
                    made[id(p)] = nn.Parameter(empty, requires_grad=p.requires_grad)
                module._parameters[name] = made[id(p)]  # type: ignore[assignment]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                made.setdefault(id(buffer), torch.empty(buffer.shape, dtype=buffer.dtype))
                module._buffers[name] = made[id(buffer)]


@final
class _Answers(TorchDispatchMode):
    """Answers what asks tensors without numbers for some: all are, none is, 1, a share of a mask.

    Rows of a plan are whole, so `valid.all()` is true and nothing unusual is in `any()`; how many units are
    predicted is known from outside.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.asked = share, 0
        self._any: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        if func is torch.ops.prim.device.default:  # by far the most frequent
            return CPU
        if func is torch.ops.aten._local_scalar_dense.default:
            return self._answer(*args)
        if func is torch.ops.aten.index.Tensor:
            value, (mask, *others) = args
            if mask is not None and mask.dtype == torch.bool and not others:
                chosen = max(1, round(self.share * mask.numel()))
                return value.new_empty((chosen, *value.shape[mask.ndim :]))
        given = func(*args, **(kwargs or {}))
        if func.overloadpacket is torch.ops.aten.any:
            self._any[id(given)] = given
        return given

    def _answer(self, asked: Tensor) -> bool | int | float:
        self.asked += 1
        if self.asked > ASKED:
            raise RuntimeError("a loop goes on until its numbers change, and there are none.")
        if asked.dtype == torch.bool:
            return id(asked) not in self._any
        return 1.0 if asked.is_floating_point() else 1
