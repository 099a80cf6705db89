"""Equal cost: steps and sizes by hand, and what can't be matched says why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import small_recipe, workshop

from calmkit.recipe.errors import RecipeError
from calmkit.recipe.plan import plan
from calmkit.recipe.schema import Recipe
from calmkit.registry import make_manager
from calmkit.studies import equal_cost
from calmkit.studies.equal_cost import matched
from calmkit.studies.match import UNITS, Match

MANAGER = make_manager(guests=[])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    with workshop(tmp_path):
        yield tmp_path


def recipes(**cells: str) -> dict[tuple[str, int], Recipe]:
    """A recipe per cell, from its overrides."""
    folder = Path.cwd()
    return {(name, 1): small_recipe(folder, *text.split(), manager=MANAGER) for name, text in cells.items()}


def no_clock(recipe: Recipe) -> tuple[float, float]:
    raise AssertionError("nothing is timed")


def steps(found: dict[tuple[str, int], Recipe]) -> list[int]:
    return [recipe.stages.lm.max_steps for recipe in found.values() if recipe.stages.lm]


def test_flops_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Budget 10 * 16 + 40 = 200: flow gets (200 - 40) / 25 = 6.4 -> 6 steps, softmax 200 / 3 = 66.7 -> 67."""
    costs = {"energy": (10, 40), "flow": (25, 40), "mixture": (3, 0)}

    def counted(recipe: Recipe, manager: Any) -> Any:
        step, first = costs[recipe.head.name]
        assert recipe.stages.lm is not None
        lm = SimpleNamespace(
            train_flops={"head": step * recipe.stages.lm.max_steps}, steps=recipe.stages.lm.max_steps
        )
        return SimpleNamespace(stages={"lm": lm}, train_flops=step * recipe.stages.lm.max_steps + first)

    monkeypatch.setattr(equal_cost, "plan", counted)
    cells = recipes(a="stages.lm.max_steps=16", b="head=flow", c="head=mixture")
    found, value = matched(cells, "a", Match(), MANAGER, no_clock)
    assert (steps(found), value) == ([16, 6, 67], 200)
    assert [r.stages.lm.eval_every for r in found.values() if r.stages.lm] == [2, 1, 8]
    found, value = matched(cells, "a", Match(value=100.0), MANAGER, no_clock)
    assert (steps(found), value) == ([6, 2, 33], 100)
    costs["flow"] = (25, 200)
    with pytest.raises(
        RecipeError, match=r"CK147.*cell 'b' can't be matched.*autoencoder alone costs 200 of 200"
    ):
        matched(cells, "a", Match(), MANAGER, no_clock)
    costs["flow"] = (900, 40)
    with pytest.raises(RecipeError, match="one step costs 900 of 200"):
        matched(cells, "a", Match(), MANAGER, no_clock)


def test_flops_agree_with_the_plan() -> None:
    """What a recipe is matched to is what `calmkit plan` says of it, within half a step."""
    found, value = matched(recipes(a="", b="head=mixture"), "a", Match(), MANAGER, no_clock)
    for recipe in found.values():
        counted = plan(recipe, MANAGER)
        step = sum(counted.stages["lm"].train_flops.values()) / counted.stages["lm"].steps
        assert abs(counted.train_flops - value) <= step / 2 + 1


def test_tokens_by_hand() -> None:
    """50 steps of 8 rows of 32 tokens are 12,800 tokens: 100 steps of 4 rows."""
    cells = recipes(a="", b="stages.lm.batch_size=4")
    found, value = matched(cells, "a", Match("elements"), MANAGER, no_clock)
    assert (steps(found), value) == ([50, 100], 12800)


def test_steps_are_each_recipes_own_unless_a_value_is_named() -> None:
    cells = recipes(a="", b="stages.lm.max_steps=7")
    assert steps(matched(cells, "a", Match("steps"), MANAGER, no_clock)[0]) == [50, 7]
    assert steps(matched(cells, "a", Match("steps", 30.0), MANAGER, no_clock)[0]) == [30, 30]


def test_wall_clock_by_hand() -> None:
    """The baseline takes 50 * 0.2 + 3 = 13 s; at 0.5 s a step and nothing before, the other gets 26 steps."""
    times = {"energy": (0.2, 3.0), "flow": (0.5, 0.0)}
    cells = recipes(a="", b="head=flow")
    found, value = matched(cells, "a", Match("wall_clock"), MANAGER, lambda recipe: times[recipe.head.name])
    assert (steps(found), value) == ([50, 26], 13.0)


@pytest.mark.parametrize("by", ["parameters", "inference_flops"])
def test_a_size_is_chosen(by: str) -> None:
    cells = recipes(a="backbone.hidden_dim=48", b="head=mixture backbone.hidden_dim=16")
    found, value = matched(cells, "a", Match(by), MANAGER, no_clock)

    def cost(recipe: Recipe) -> float:
        counted = plan(recipe, MANAGER)
        return float(counted.parameters if by == "parameters" else counted.inference_flops_per_element or 0)

    small, sized = cells["b", 1], found["b", 1]
    assert cost(small) < 0.8 * value
    assert abs(cost(sized) - value) <= 0.05 * value
    width = sized.backbone.options["hidden_dim"]
    for other in (width - 1, width + 1):
        backbone = replace(sized.backbone, options=sized.backbone.options | {"hidden_dim": other})
        assert abs(cost(replace(sized, backbone=backbone)) - value) >= abs(cost(sized) - value)
    assert found["a", 1] == cells["a", 1]


def test_what_no_size_can_meet_is_refused() -> None:
    cells = recipes(a="backbone.hidden_dim=16", b="backbone.hidden_dim=16 head.width=512")
    with pytest.raises(RecipeError, match=r"CK147.*cell 'b' .*the nearest backbone.hidden_dim is 1, with"):
        matched(cells, "a", Match("parameters"), MANAGER, no_clock)
    with pytest.raises(RecipeError, match=r"match\.key 'backbone\.size' is no whole number"):
        matched(cells, "a", Match("parameters", key="backbone.size"), MANAGER, no_clock)


def test_a_baseline_whose_cost_nobody_knows_is_refused_by_name() -> None:
    cells = recipes(a="head=flow head.solver=dopri5", b="")
    with pytest.raises(RecipeError, match=r"CK147.*cell 'a' can't be matched by inference_flops: no formula"):
        matched(cells, "a", Match("inference_flops"), MANAGER, no_clock)


def test_seeds_of_a_cell_get_the_same() -> None:
    one = small_recipe(Path.cwd(), manager=MANAGER)
    cells = {("a", seed): replace(one, seed=seed) for seed in (1, 2)}
    found, _ = matched(cells, "a", Match(value=1e9), MANAGER, no_clock)
    assert [recipe.seed for recipe in found.values()] == [1, 2]
    assert len(set(steps(found))) == 1


def test_every_unit_has_its_way() -> None:
    assert set(equal_cost._METERS) == set(UNITS)
