"""check_environment: what a recipe needs of the machine, looked for before anything is read or written.

Nothing heavy is imported for it: libraries are found without being loaded, devices are counted by torch, and
Lightning is asked only for what only Lightning knows, an accelerator or a strategy by a name of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch

from calmkit.cores import usable_cores
from calmkit.interfaces import NeedsLibraries
from calmkit.model import CalmModel
from calmkit.recipe.assemble import build_sampler
from calmkit.recipe.errors import Problem, RecipeError
from calmkit.recipe.parts import build_corpus, build_metrics, build_part, spec_of
from calmkit.recipe.schema import METRICS, NOUNS, OF_A_KIND, SECTIONS, Recipe
from calmkit.registry import Manager
from calmkit.training.cores import ALLOW_MORE
from calmkit.training.errors import RunFailed
from calmkit.training.libraries import is_installed
from calmkit.training.logger_needs import LIBRARIES, wandb_is_set_up

ACCELERATORS = {"cpu": ("cpu",), "gpu": ("cuda", "mps"), "cuda": ("cuda",), "mps": ("mps",)}
"""The words of `trainer.accelerator` whose devices torch can count, and torch's words for them."""

ELSEWHERE = "for another machine, calmkit validate --elsewhere checks the recipe alone"


def check_environment(recipe: Recipe, manager: Manager, model: CalmModel) -> None:
    """Refuse a recipe that can't run on this machine.

    Args:
        recipe: One that `calmkit.recipe.assemble.validate` has taken.
        manager: Parts.
        model: What it gave.

    Raises:
        RecipeError: CK150, for all that is missing, each with its place and its cure.
    """
    problems = [*missing_libraries(recipe, manager, model), *missing_devices(recipe)]
    if problems:
        raise RecipeError(problems)


def check_devices(recipe: Recipe) -> None:
    """Refuse a section `trainer` that this machine can't serve: for what is trained already.

    Raises:
        RecipeError: CK150.
    """
    problems = [*missing_devices(recipe)]
    if problems:
        raise RecipeError(problems)


def missing_libraries(recipe: Recipe, manager: Manager, model: CalmModel) -> Iterator[Problem]:
    """CK150 for every library of a part or a logger that is not installed, and for wandb without a key."""
    parts = {
        "data": build_corpus(recipe, manager),
        **{section: build_part(recipe, manager, section) for section in OF_A_KIND if _named(recipe, section)},
        "sampler": build_sampler(recipe, manager),
        **{name: part for name, part in model.named_children() if name in SECTIONS},
    }
    for section, part in parts.items():
        yield from _not_installed(recipe, section, spec_of(recipe, section).name, part)
    for name, measure in build_metrics(recipe, manager).items():
        yield from _not_installed(recipe, METRICS, name, measure)
    for spec in recipe.loggers:
        missing = next((name for name in LIBRARIES.get(spec.name, ()) if not is_installed(name)), None)
        if missing is not None:
            message = f"the logger '{spec.name}' needs '{missing}', which is not installed"
            cure = f"pip install 'calmkit[{spec.name}]', or leave it out"
            yield _problem(recipe, "loggers", message, cure)
        elif spec.name == "wandb" and not spec.options["offline"] and not wandb_is_set_up():
            message = "the logger 'wandb' finds no key of an account, and no terminal to ask on"
            yield _problem(recipe, "loggers", message, "wandb login, or offline: true, which is its default")


def _named(recipe: Recipe, section: str) -> bool:
    return getattr(recipe, section) is not None


def _not_installed(recipe: Recipe, section: str, name: str, part: object) -> Iterator[Problem]:
    """CK150 for every library that a part needs and that is not installed."""
    needed = part.libraries() if isinstance(part, NeedsLibraries) else {}
    for library, cure in needed.items():
        if not is_installed(library):
            message = f"{NOUNS.get(section, section)} '{name}' needs '{library}', which is not installed"
            yield _problem(recipe, section if section == METRICS else f"{section}.name", message, cure)


def missing_devices(recipe: Recipe) -> Iterator[Problem]:
    """CK150 where the section `trainer` asks for devices that are not here, or for what nobody knows."""
    section, here = recipe.trainer, _kind_here()
    if section.accelerator in ("auto", *ACCELERATORS):
        kinds = ACCELERATORS.get(section.accelerator, (here, "cpu"))
        kind = next((kind for kind in kinds if kind in (here, "cpu")), None)
        if kind is None:
            message = f"trainer.accelerator={section.accelerator} is not on this machine, which has: {here}"
            cure = "trainer.accelerator=auto takes what there is"
            yield _problem(recipe, "trainer.accelerator", message, cure)
            return
        if not _counted(str(section.devices), kind):
            yield _too_many(recipe, kind)
            return
    if section.accelerator not in ("auto", *ACCELERATORS) or section.strategy != "auto":
        yield from _refused_by_lightning(recipe)


def _kind_here() -> str:
    """Torch's word for the accelerator that Lightning would take, or `cpu`."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device.type if device is not None and device.type in ("cuda", "mps") else "cpu"


def _counted(devices: str, kind: str) -> bool:
    """Whether a machine with that kind of device has as many."""
    there = usable_cores() if kind == "cpu" else torch.accelerator.device_count()
    if devices == "auto":
        return True
    if "," in devices:
        return kind != "cpu" and all(int(one) < there for one in devices.split(",") if one)
    if kind == "cpu":
        return devices != "-1" and (int(devices) <= there or os.environ.get(ALLOW_MORE) == "1")
    return devices == "-1" or int(devices) <= there


def _too_many(recipe: Recipe, kind: str) -> Problem:
    devices, cores = str(recipe.trainer.devices), usable_cores()
    cure = "trainer.devices=auto takes what there is"
    if kind != "cpu":
        there = torch.accelerator.device_count()
        message = f"trainer.devices={devices} asks for more than the {there} of this machine ({kind})"
    elif not devices.isdecimal():
        message = f"trainer.devices={devices} picks accelerators; the CPU takes a number of processes"
    else:
        message = f"trainer.devices={devices} would start {devices} processes on {cores} usable cores"
        cure = f"trainer.devices={cores} takes them all, one process each; {ALLOW_MORE}=1 lets more start"
    return _problem(recipe, "trainer.devices", message, cure)


def _refused_by_lightning(recipe: Recipe) -> Iterator[Problem]:
    from calmkit.training.progress import quiet_libraries
    from calmkit.training.trainer import make_trainer

    quiet_libraries()
    try:
        make_trainer(recipe)
    except RunFailed as error:
        key = "trainer.strategy" if recipe.trainer.strategy != "auto" else "trainer.accelerator"
        yield _problem(recipe, key, " ".join(str(error).split()), f"{key}=auto")


def _problem(recipe: Recipe, key: str, message: str, cure: str) -> Problem:
    return Problem("CK150", message, recipe.source.mark(key), key, f"{cure}; {ELSEWHERE}")
