"""The state of a stage of training: taken from Lightning's trainer between two steps, and put back.

Sharded tensors are gathered whole and dealt out again, so a snapshot knows neither the number of processes
nor the strategy: what was trained on two goes on with four, or with one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from calmkit.training.ema import WeightAverage
from calmkit.training.errors import RunFailed
from calmkit.training.sharding import whole
from calmkit.training.snapshots import Snapshot
from calmkit.training.stages import StageModule

WEIGHTS, MOMENTS, AVERAGE, RANDOM = "weights.", "optimizer.", "average.", "random."


Randomness = tuple[dict[str, Tensor], dict[str, Any]]
"""States of generators: torch's, and those of Python and numpy."""


def randomness() -> Randomness:
    """What the generators of this process stand at."""
    return _random_tensors(), _random_plain()


def take_state(
    trainer: pl.Trainer,
    module: StageModule,
    stage: str,
    rows: int,
    plain: Mapping[str, Any],
    random_state: Randomness | None = None,
) -> Snapshot:
    """The state between two steps. Every process must call it, for shards are gathered; the first writes it.

    Args:
        trainer: In the middle of fitting.
        module: That it fits.
        stage: Its name.
        rows: That all processes have seen.
        plain: To be kept beside it.
        random_state: As it was behind the last step, where a step has begun since; None: as it is.
    """
    tensors = {
        WEIGHTS + name: whole(torch.as_tensor(value)) for name, value in _unshared(module.trained).items()
    }
    names = {id(parameter): name for name, parameter in module.trained.named_parameters()}
    for parameter, state in trainer.optimizers[0].state.items():
        for key, value in state.items():
            tensors[f"{MOMENTS}{names[id(parameter)]}.{key}"] = whole(torch.as_tensor(value))
    said = dict(plain) | {"last_loss": repr(module.last_loss), "last_losses": module.watch.losses}
    said["processes"] = trainer.world_size
    average = _average(trainer)
    if average is not None:
        said["average_steps"] = average.steps
        tensors |= {AVERAGE + name: whole(torch.as_tensor(value)) for name, value in average.kept.items()}
    scaler = _scaler(trainer)
    if scaler is not None:
        said["scaler"] = scaler.state_dict()
    said["random"] = []
    for rank, (states, others) in enumerate(_of_all_ranks(random_state or randomness())):
        tensors |= {f"{RANDOM}{rank}.{name}": value for name, value in states.items()}
        said["random"].append(others)
    return Snapshot(stage, trainer.global_step, rows, tensors, said)


def put_state(trainer: pl.Trainer, module: StageModule, snapshot: Snapshot) -> None:
    """Let a trainer that has begun to fit go on from a snapshot.

    Raises:
        RunFailed: The snapshot is of another model.
    """
    _put_weights(module.trained, snapshot)
    _put_moments(trainer, module, snapshot)
    average = _average(trainer)
    if average is not None:
        average.steps = snapshot.plain.get("average_steps", 0)
        average.kept = _under(snapshot.tensors, AVERAGE)
        for name, parameter in module.named_parameters():
            if name in average.kept:
                average.kept[name] = _like(parameter, average.kept[name])
    scaler = _scaler(trainer)
    if scaler is not None and "scaler" in snapshot.plain:
        scaler.load_state_dict(snapshot.plain["scaler"])
    module.last_loss = float(snapshot.plain["last_loss"])
    module.watch.losses = snapshot.plain.get("last_losses", [])
    _put_progress(trainer, snapshot.step)
    rank = trainer.global_rank
    if rank < len(snapshot.plain["random"]):  # one more process than before: it has its seed's stream
        _put_random(_under(snapshot.tensors, f"{RANDOM}{rank}."), snapshot.plain["random"][rank])


def weights_are_finite(snapshot: Snapshot) -> bool:
    """Whether a model could go on from it."""
    return all(bool(value.isfinite().all()) for value in _under(snapshot.tensors, WEIGHTS).values())


def _put_weights(module: nn.Module, snapshot: Snapshot) -> None:
    saved, own = _under(snapshot.tensors, WEIGHTS), _unshared(module)
    if saved.keys() != own.keys() or any(saved[name].shape != own[name].shape for name in own):
        odd = sorted(saved.keys() ^ own.keys()) or [n for n in own if saved[n].shape != own[n].shape]
        raise RunFailed(
            f"The checkpoint of step {snapshot.step} is of another model: {', '.join(odd[:3])} differ. A run "
            "goes on with the parts that it began with."
        )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(_like(value, saved[name]))


def _put_moments(trainer: pl.Trainer, module: StageModule, snapshot: Snapshot) -> None:
    (optimizer,) = trainer.optimizers
    moments = _under(snapshot.tensors, MOMENTS)
    for name, parameter in module.trained.named_parameters():
        mine = {key: value for key, value in _under(moments, f"{name}.").items() if "." not in key}
        if mine:  # `step` stays where it is; the moments go where the parameter is
            optimizer.state[parameter] = {
                key: value if value.ndim == 0 else _like(parameter, value) for key, value in mine.items()
            }
    for config in trainer.lr_scheduler_configs:
        schedule: Any = config.scheduler
        schedule.last_epoch = snapshot.step
        schedule._step_count = snapshot.step + 1
        for group, base, factor in zip(
            optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(snapshot.step)
        schedule._last_lr = [group["lr"] for group in optimizer.param_groups]


def _put_progress(trainer: pl.Trainer, step: int) -> None:
    """Lightning counts steps for its loggers, batches for validations, and steps of the optimiser."""
    loop = trainer.fit_loop.epoch_loop
    loop._batches_that_stepped = step
    stepped = loop.automatic_optimization.optim_progress.optimizer.step.total
    stepped.ready = stepped.completed = step
    batches: Any = loop.batch_progress.total
    batches.ready = batches.started = batches.processed = batches.completed = (
        step * trainer.accumulate_grad_batches
    )


def _unshared(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module; one that has several names under its first."""
    seen: set[int] = set()
    found = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if id(value) not in seen:
            seen.add(id(value))
            found[name] = value.detach()
    return found


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """A whole tensor on the device of a parameter, and as it is sharded."""
    if isinstance(parameter, DTensor):
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value.to(parameter.device)


def _under(tensors: Mapping[str, Tensor], lead: str) -> dict[str, Tensor]:
    return {name.removeprefix(lead): value for name, value in tensors.items() if name.startswith(lead)}


def _average(trainer: pl.Trainer) -> WeightAverage | None:
    found: Iterator[WeightAverage] = (c for c in trainer.callbacks if isinstance(c, WeightAverage))  # type: ignore[attr-defined]
    return next(found, None)


def _scaler(trainer: pl.Trainer) -> Any:
    plugin = trainer.precision_plugin
    return plugin.scaler if isinstance(plugin, MixedPrecision) else None


def _of_all_ranks(mine: Any) -> list[Any]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    everyone: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


def _random_tensors() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.accelerator.is_available():
        states["device"] = _device().get_rng_state()
    return states


def _device() -> Any:
    """torch's module of this machine's accelerator."""
    return torch.get_device_module(torch.accelerator.current_accelerator())


def _random_plain() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state(legacy=True)  # type: ignore[misc]
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, keys.tolist(), int(place), int(has_gauss), float(cached)],  # type: ignore[union-attr]
    }


def _put_random(states: Mapping[str, Tensor], others: Mapping[str, Any]) -> None:
    version, words, gauss = others["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, place, has_gauss, cached = others["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), place, has_gauss, cached))
    torch.set_rng_state(states["cpu"])
    if "device" in states and torch.accelerator.is_available():
        _device().set_rng_state(states["device"])
