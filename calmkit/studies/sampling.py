"""Sampling: every trained cell under a list of samplers, how often they are right, and what they cost.

A sampler that sharpens the law of the units is right more often, and repeats itself more often. The paper
draws one against the other; what stands for the two, a kind of data says (`KindWords.sampled`).

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 7.5, Figures 10 and 11.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from calmkit.interfaces import DataKind, GenerativeHead, IterativeHead, Sampler, WeighingSampler, WeightedHead
from calmkit.recipe.assemble import validate
from calmkit.recipe.build import build_part_spec
from calmkit.recipe.convert import Misfit
from calmkit.recipe.errors import Problem, RecipeError, refuse
from calmkit.recipe.schema import PartSpec, Recipe
from calmkit.recipe.tree import Items, Keys, Node, Scalar
from calmkit.registry import Manager
from calmkit.results.sampling_lines import setting_texts

UNITS = 512  # measured per cell and sampler, unless the study says `sampling_units`
SETTING_OF = {"temperature": "head_temperature"}  # a sampler's own temperature is another thing


@dataclass(frozen=True)
class SamplerSpec:
    """A sampler of a study.

    Attributes:
        label: Its name and the settings that the study states.
        part: Its name and all its settings.
        stated: The settings that the study states.
    """

    label: str
    part: PartSpec
    stated: Mapping[str, Any]


@dataclass(frozen=True)
class SamplingWish:
    """Which samplers, and over how many held-out units."""

    samplers: tuple[SamplerSpec, ...]
    units: int


def read_sampling(root: Keys, manager: Manager, kind: DataKind) -> SamplingWish | None:
    """The keys `samplers` and `sampling_units` of a study; None without the first.

    Raises:
        RecipeError: CK132 for another form, CK133 for a sampler that stands twice, no units, or a kind of
            data that scores no samplers, and what is wrong with a sampler: CK120, CK130 to CK132, CK145.
    """
    if "samplers" not in root.nodes:
        if "sampling_units" in root.nodes:
            mark = root.key_marks["sampling_units"]
            raise refuse("CK133", "sampling_units without samplers", mark, help="give a list of samplers")
        return None
    node, mark = root.nodes["samplers"], root.key_marks["samplers"]
    if not kind.scores_samplers:
        message = f"samplers of {kind.words.data} are scored by no number under teacher forcing"
        help = "leave samplers out, and vary the recipe's: grid: {sampler.temperature: [0.9, 1.0]}"
        raise refuse("CK133", message, mark, "samplers", help)
    if not isinstance(node, Items) or not node.nodes:
        message = "samplers is a list, such as [{name: vote, temperature: 0.5}, direct]"
        raise refuse("CK132", message, mark, "samplers")
    found: list[SamplerSpec] = []
    for number, item in enumerate(node.nodes):
        key = f"samplers[{number}]"
        if isinstance(item, Scalar):
            item = Keys({"name": item}, item.mark, {"name": item.mark})
        if not isinstance(item, Keys):
            message = f"{key} {Misfit('a name, or a mapping of a name and settings', item)}"
            raise refuse("CK132", message, item.mark, key)
        one = _read(item, key, manager)
        if one.part in [other.part for other in found]:
            raise refuse("CK133", f"the sampler '{one.label}' stands twice", item.mark, key)
        found.append(one)
    return SamplingWish(tuple(found), _units(root))


def _read(node: Keys, key: str, manager: Manager) -> SamplerSpec:
    with _placed(key):
        part = build_part_spec("sampler", node, manager)
    try:
        manager.build("samplers", part.name, part.options)
    except ValueError as error:
        words = re.findall(r"\w+", str(error).removeprefix(f"{part.name}: "))
        setting = next((word for word in words if word in part.options), "")
        message = f"sampler '{part.name}': {str(error).removeprefix(f'{part.name}: ')}"
        mark = node.key_marks.get(setting, node.mark)
        raise refuse("CK145", message, mark, f"{key}.{setting}" if setting else key) from error
    stated = {name: part.options[name] for name in node.nodes if name != "name"}
    return SamplerSpec(" ".join([part.name, *setting_texts(stated)]), part, stated)


@contextmanager
def _placed(key: str, node: Node | None = None) -> Iterator[None]:
    """Tells what is wrong with a recipe's sampler of one in a list, by the marks of its node where given."""
    try:
        yield
    except RecipeError as error:
        found = []
        for problem in error.problems:
            setting, mark = problem.key.removeprefix("sampler").removeprefix("."), problem.mark
            if node is not None:
                mark = node.key_marks.get(setting, node.mark) if isinstance(node, Keys) else node.mark
            message = re.sub(r"^sampler(?=\.| needs)", key, problem.message)
            found.append(replace(problem, key=f"{key}.{setting}".rstrip("."), mark=mark, message=message))
        raise RecipeError(found) from error


def refuse_impossible(
    wish: SamplingWish | None, root: Keys, recipes: Sequence[Recipe], manager: Manager
) -> None:
    """Refuse a sampler that asks for something that every head offers and none can do, such as a solver that
    nobody knows. One that only some heads serve stays, and is left out for the others.

    Raises:
        RecipeError: CK143.
    """
    if wish is None:
        return
    nodes = root.nodes["samplers"]
    assert isinstance(nodes, Items)
    for number, spec in enumerate(wish.samplers):
        sampler: Sampler = manager.build("samplers", spec.part.name, spec.part.options)
        heads = [(recipe, _head(recipe, manager)) for recipe in recipes]
        offering = [
            recipe
            for recipe, head in heads
            if not honoured(sampler, head.info.options, issubclass(head, WeightedHead))
        ]
        first: tuple[Problem, ...] = ()
        for recipe in offering if sampler.options.set_fields() else ():
            refused = _refused(replace(recipe, sampler=spec.part), manager)
            first = first or refused
            if not refused:
                break
        else:
            if first:
                with _placed(f"samplers[{number}]", nodes.nodes[number]):
                    raise RecipeError(first)


def _head(recipe: Recipe, manager: Manager) -> type[GenerativeHead]:
    return manager.find("heads", recipe.head.name).cls


def _refused(recipe: Recipe, manager: Manager) -> tuple[Problem, ...]:
    """What the recipe's head can't do of what its sampler asks for."""
    if not issubclass(_head(recipe, manager), IterativeHead):
        return ()  # only an iterative one can say it without a draw
    try:
        validate(recipe, manager)
    except RecipeError as error:
        return tuple(problem for problem in error.problems if problem.code == "CK143")
    return ()


def _units(root: Keys) -> int:
    if "sampling_units" not in root.nodes:
        return UNITS
    node, mark = root.nodes["sampling_units"], root.key_marks["sampling_units"]
    text = node.text if isinstance(node, Scalar) else ""
    if not text.isdecimal() or int(text) < 1:
        message = f"sampling_units {Misfit('a whole number above 0', node)}"
        raise refuse("CK133", message, mark, "sampling_units")
    return int(text)


def honoured(sampler: Sampler, options: frozenset[str], weighs: bool) -> str:
    """Why a head can't be asked for a sampler's draws; empty where it can.

    Args:
        sampler: Of the study.
        options: That the head honours.
        weighs: Whether it is a `WeightedHead`.
    """
    if isinstance(sampler, WeighingSampler) and not weighs:
        return "its head does not know the weights of what it draws"
    missing = sorted(SETTING_OF.get(name, name) for name in sampler.options.set_fields() - options)
    return f"its head does not offer {' and '.join(missing)}" if missing else ""
