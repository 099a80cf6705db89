"""What each trial of a study gets so that all pay the same: steps, or a size."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from calmkit.recipe.errors import RecipeError, refuse
from calmkit.recipe.parts import kind_of
from calmkit.recipe.plan import Plan, plan
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.studies.match import ELEMENTS, Match, name_of, unit_of

CURVE_POINTS = 8  # evaluations on the way, whatever the steps
TOLERANCE = 0.05  # of the value that a chosen size must meet
SIZES = 4096  # widths that are tried

Seconds = Callable[[Recipe], tuple[float, float]]
"""Seconds of one step of stage 2, and of the whole of stage 1, of a recipe on this machine."""


def matched(
    recipes: Mapping[tuple[str, int], Recipe],
    baseline: str,
    match: Match,
    manager: Manager,
    seconds: Seconds,
) -> tuple[dict[tuple[str, int], Recipe], float]:
    """Every trial's recipe at equal cost, and the value that all meet, in the unit of `match.by`.

    Args:
        recipes: (cell, seed) -> recipe as written.
        baseline: The cell whose own cost is taken where the match names no value.
        match: By what.
        manager: Parts.
        seconds: Asked for `wall_clock` alone.

    Raises:
        RecipeError: CK147 for a cell that can't be matched, and why.
    """
    found: dict[tuple[str, int], Recipe] = {}
    costs: dict[str, Recipe] = {}
    meter = _METERS[match.by](match, manager, seconds)
    first = next(recipe for (cell, _), recipe in recipes.items() if cell == baseline)
    called = name_of(match.by, element_of(first, manager))
    with _refused(baseline, match, called):
        value = meter.of(first) if match.value is None else match.value
    for (cell, seed), recipe in recipes.items():
        if cell not in costs:  # seeds of a cell cost the same
            with _refused(cell, match, called):
                costs[cell] = meter.meet(recipe, value)
        found[cell, seed] = dataclasses.replace(costs[cell], seed=recipe.seed)
    return found, value


@contextmanager
def _refused(cell: str, match: Match, called: str) -> Iterator[None]:
    """Tells why a cell can't be matched, with its place in the study."""
    try:
        yield
    except CantBeMatched as error:
        message = f"the cell '{cell}' can't be matched by {called}: {error}"
        raise refuse("CK147", message, match.mark, "match", error.help) from None


class CantBeMatched(Exception):
    """Why a recipe can't meet a value, and what would do."""

    def __init__(self, message: str, help: str = "") -> None:
        self.help = help
        super().__init__(message)


@dataclass(frozen=True)
class _Steps:
    """Cost that grows with the steps of stage 2: the steps are chosen."""

    match: Match
    manager: Manager
    seconds: Seconds

    def costs(self, recipe: Recipe) -> tuple[float, float]:
        """Of one step of stage 2, and of all that comes before it."""
        if self.match.by == "wall_clock":
            return self.seconds(recipe)
        if self.match.by == "steps":
            return 1.0, 0.0
        counted = plan(recipe, self.manager)
        stage = counted.stages["lm"]
        if self.match.by == ELEMENTS:
            return float(stage.elements_per_step), 0.0
        one = sum(stage.train_flops.values()) / stage.steps
        return one, float(counted.train_flops - sum(stage.train_flops.values()))

    def of(self, recipe: Recipe) -> float:
        """The cost of a recipe as written."""
        assert recipe.stages.lm is not None
        step, before = self.costs(recipe)
        return step * recipe.stages.lm.max_steps + before

    def meet(self, recipe: Recipe, value: float) -> Recipe:
        """The recipe with the steps that cost `value`."""
        if self.match.by == "steps" and self.match.value is None:
            return recipe
        step, before = self.costs(recipe)
        steps = round((value - before) / step)
        if steps < 1:
            unit = unit_of(self.match.by, element_of(recipe, self.manager))
            raise CantBeMatched(
                f"its autoencoder alone costs {before:.4g} of {value:.4g} {unit}"
                if before >= value
                else f"one step costs {step:.4g} of {value:.4g} {unit}",
                "raise the budget (match.value, or the baseline's stages.lm.max_steps), or shorten stage 1",
            )
        return _with_steps(recipe, steps)


@dataclass(frozen=True)
class _Size:
    """Cost that grows with a size: the size is chosen, the steps are the recipe's own."""

    match: Match
    manager: Manager
    seconds: Seconds

    def of(self, recipe: Recipe) -> float:
        """Parameters without the frozen autoencoder, or FLOPs per element with one draw per unit."""
        counted = plan(recipe, self.manager)
        if self.match.by == "parameters":
            return float(counted.parameters)
        return _known(counted, element_of(recipe, self.manager))

    def meet(self, recipe: Recipe, value: float) -> Recipe:
        """The recipe with the size that comes nearest to `value`; cost must grow with it."""
        now = self._size(recipe)
        valid = {now: recipe}
        low, high = 1, SIZES
        while low <= high:  # the first size whose cost is not below the value, among those the parts take
            middle = (low + high) // 2
            size = self._nearest(recipe, middle, high, valid)
            if size is None:
                high = middle - 1
            elif self.of(valid[size]) < value:
                low = size + 1
            else:
                high = middle - 1
        best = min(valid, key=lambda size: abs(self.of(valid[size]) - value))
        got = self.of(valid[best])
        if abs(got - value) > TOLERANCE * value:
            raise CantBeMatched(
                f"the nearest {self.match.key} is {best}, with {got:.4g} of {value:.4g} "
                f"{unit_of(self.match.by, element_of(recipe, self.manager))}, more than {TOLERANCE:.0%} off",
                "match by another key (match.key), or exclude the cell",
            )
        return valid[best]

    def _size(self, recipe: Recipe) -> int:
        section, _, option = self.match.key.partition(".")
        options = getattr(recipe, section).options if section in ("backbone", "head", "embedder") else {}
        if type(options.get(option)) is not int:
            raise CantBeMatched(
                f"match.key '{self.match.key}' is no whole number of its backbone, embedder or head"
            )
        return options[option]

    def _nearest(self, recipe: Recipe, size: int, last: int, valid: dict[int, Recipe]) -> int | None:
        """The smallest size from `size` on that the parts take, at most 64 further."""
        for candidate in range(size, min(last, size + 64) + 1):
            if candidate in valid:
                return candidate
            sized = _with_option(recipe, self.match.key, candidate)
            try:
                self.of(sized)
            except RecipeError:
                continue
            valid[candidate] = sized
            return candidate
        return None


_METERS: Mapping[str, type[_Steps] | type[_Size]] = {
    "train_flops": _Steps,
    ELEMENTS: _Steps,
    "steps": _Steps,
    "wall_clock": _Steps,
    "parameters": _Size,
    "inference_flops": _Size,
}


def element_of(recipe: Recipe, manager: Manager) -> str:
    """What costs in use are counted by."""
    return kind_of(recipe, manager).words.element


def _known(counted: Plan, element: str) -> float:
    flops = counted.inference_flops_per_element
    if flops is None:
        raise CantBeMatched(
            f"no formula says what one {element} costs with its solver", "name a solver of fixed steps"
        )
    return flops


def _with_option(recipe: Recipe, key: str, value: int) -> Recipe:
    section, _, option = key.partition(".")
    spec = getattr(recipe, section)
    changed = dataclasses.replace(spec, options={**spec.options, option: value})
    return dataclasses.replace(recipe, **{section: changed})


def _with_steps(recipe: Recipe, steps: int) -> Recipe:
    stage = recipe.stages.lm
    assert stage is not None
    stage = dataclasses.replace(stage, max_steps=steps, eval_every=max(1, steps // CURVE_POINTS))
    return dataclasses.replace(recipe, stages=dataclasses.replace(recipe.stages, lm=stage))
