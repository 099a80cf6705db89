"""The JSON Schema of recipes: every shipped recipe is one by it, and what is wrong is not.

`Checker` is the small part of draft 2020-12 that the schema is written in, so the test needs no library; it
refuses keywords that it does not know.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from click.testing import CliRunner
from fake_parts import BASE, fake_manager

from calmkit.cli.main import cli
from calmkit.recipe.json_schema import DRAFT, json_schema
from calmkit.recipe.load import load_recipe, shipped_recipes, to_yaml
from calmkit.recipe.tree import Items, Keys, Node, parse
from calmkit.registry import make_manager

TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
TOLD = {"description", "default", "title", "$schema"}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is what a schema says."""
    return all(_holds(word, told, value, schema) for word, told in schema.items() if word not in TOLD)


def _holds(word: str, told: Any, value: Any, schema: dict[str, Any]) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match word:
        case "type":
            return any(_is_a(value, name) for name in ([told] if isinstance(told, str) else told))
        case "anyOf":
            return any(fits(value, one) for one in told)
        case "not":
            return not fits(value, told)
        case "const":
            return bool(value == told)
        case "enum":
            return value in told
        case "required":
            return not isinstance(value, dict) or all(name in value for name in told)
        case "properties":
            return not isinstance(value, dict) or all(fits(v, told[k]) for k, v in value.items() if k in told)
        case "additionalProperties":
            known = schema.get("properties", {})
            others = [v for k, v in value.items() if k not in known] if isinstance(value, dict) else []
            return not others if told is False else all(fits(v, told) for v in others)
        case "items":
            return not isinstance(value, list) or all(fits(one, told) for one in value)
        case "prefixItems":
            return not isinstance(value, list) or all(map(fits, value, told))
        case "minItems":
            return not isinstance(value, list) or len(value) >= told
        case "maxItems":
            return not isinstance(value, list) or len(value) <= told
        case "minimum":
            return not number or value >= told
        case "exclusiveMinimum":
            return not number or value > told
        case "exclusiveMaximum":
            return not number or value < told
        case "pattern":
            return not isinstance(value, str) or re.search(told, value) is not None
    raise AssertionError(f"the checker does not know '{word}'")


def _is_a(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, TYPES[name]) and name != "boolean"


def plain(node: Node) -> Any:
    """A tree as an editor reads it: scalars by the core schema of YAML 1.2."""
    if isinstance(node, Keys):
        return {key: plain(child) for key, child in node.nodes.items()}
    if isinstance(node, Items):
        return [plain(child) for child in node.nodes]
    if node.quoted:
        return node.text
    if node.is_null:
        return None
    if node.text in ("true", "false"):
        return node.text == "true"
    if re.fullmatch(r"[-+]?[0-9]+", node.text):
        return int(node.text)
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", node.text):
        return float(node.text)
    return node.text


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads(json.dumps(json_schema(make_manager(guests=[]))))


@pytest.fixture(scope="module")
def fake_schema() -> dict[str, Any]:
    return json_schema(fake_manager())


def read(text: str) -> Any:
    return plain(parse(text, "a.yaml"))


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_is_one_as_written_and_as_resolved(name: str, schema: dict[str, Any]) -> None:
    assert fits(read(shipped_recipes()[name].read_text(encoding="utf-8")), schema)
    assert fits(read(to_yaml(load_recipe(name, (), make_manager(guests=[])))), schema)


GOOD = [
    "extends: base.yaml\nhead: narrow",
    "extends: base.yaml\nhead: {num_steps: 3}",
    "extends: base.yaml\nhead: {name: narrow, num_steps: 3}",
    "extends: base.yaml\nhead: {name: wide, betas: [0.5, 1], sizes: {a: 1}, names: [a, 3], width: null}",
    "extends: base.yaml\ntrainer: {devices: 2}\nstages: {lm: null}",
    "extends: base.yaml\ndata: {sequence_length: 8}",
    "extends: base.yaml\nloggers: [csv, tensorboard, {name: wandb, offline: false}, {name: mlflow}]",
    "extends: base.yaml\ntokenizer: null\nsampler: {name: vote}",
    BASE,
]
BAD = [
    "head: narrow",  # extends nothing, and lacks all else
    "extends: base.yaml\nhead: nobody",
    "extends: base.yaml\nhead: {num_drawz: 3}",
    "extends: base.yaml\nhead: {name: narrow, num_draws: 3}",  # a setting of the other head
    "extends: base.yaml\nhead: {name: wide, num_draws: many}",
    "extends: base.yaml\nhead: {name: wide, num_draws: 1.5}",
    "extends: base.yaml\nhead: {name: wide, gated: 1}",
    "extends: base.yaml\nhead: {name: wide, solver: heun}",
    "extends: base.yaml\nhead: {name: wide, betas: [0.5]}",
    "extends: base.yaml\nhead: {name: wide, sizes: {a: x}}",
    "extends: base.yaml\nhead: null",
    "extends: base.yaml\nstages: {lm: {max_steps: 0}}",
    "extends: base.yaml\nstages: {lm: {optimizer: {lr: 0}}}",
    "extends: base.yaml\nstages: {lm: {optimizer: {betas: [0.9, 1]}}}",
    "extends: base.yaml\ndata: {sequence_length: 0}",
    "extends: base.yaml\ntrainer: {precision: half}",
    "extends: base.yaml\nname: ../a",
    "extends: base.yaml\nloggers: [mine]",
    "extends: base.yaml\nloggers: [{name: wandb, uri: a}]",
    "extends: base.yaml\nloggers: [{name: wandb, offline: 3}]",
    "extends: base.yaml\nsourc: 3",
    "extends: 3",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_is_right_passes(text: str, fake_schema: dict[str, Any]) -> None:
    assert fits(read(text), fake_schema)


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_does_not(text: str, fake_schema: dict[str, Any]) -> None:
    assert not fits(read(text), fake_schema)


def test_a_setting_has_type_bounds_default_and_meaning(schema: dict[str, Any]) -> None:
    steps = schema["properties"]["stages"]["properties"]["lm"]["anyOf"][0]["properties"]
    assert steps["max_steps"] == {"type": "integer", "minimum": 1}
    assert steps["optimizer"]["properties"]["lr"] == {
        "description": "Peak learning rate.",
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 3e-4,
    }
    heads = schema["properties"]["head"]["anyOf"]
    energy = next(one for one in heads if one.get("properties", {}).get("name") == {"const": "energy"})
    manager = make_manager(guests=[])
    assert set(energy["properties"]) == {"name", *manager.parts["heads"]["energy"].settings}
    assert energy["properties"]["num_draws"]["type"] == "integer"
    assert energy["properties"]["num_draws"]["default"] == 8
    assert energy["properties"]["num_draws"]["description"]
    assert heads[0] == {"enum": sorted(manager.parts["heads"])}


def test_schema_prints_it_with_the_installed_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calmkit.registry.make_manager", fake_manager)
    result = CliRunner().invoke(cli, ["schema"])
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["$schema"] == DRAFT
    assert told["properties"]["head"]["anyOf"][0] == {"enum": ["ids", "narrow", "wide"]}
