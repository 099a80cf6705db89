"""Recipes that something happened to: mutations of shipped ones, and what the command line makes of them.

A mutation is one of the text (lines, characters, YAML's own tricks) or of the values (keys and what stands
behind them). Each is refused in words, with a place, or accepted, and then all that is said of it holds.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import yaml
from click.testing import CliRunner, Result
from mutations_of_text import OF_TEXT
from mutations_of_values import OF_VALUES

from calmkit.cli.main import cli
from calmkit.model import CalmModel
from calmkit.recipe.assemble import assemble, build_sampler
from calmkit.recipe.dump import as_dict
from calmkit.recipe.load import load_recipe, shipped_files, shipped_recipes
from calmkit.recipe.parts import kind_of
from calmkit.registry import Manager

SMALL = 300_000
"""Parameters of a model that is also built for real, and takes one step."""
PLACELESS = frozenset({"CK100"})
"""Codes of errors about a file as a whole, which may name it alone."""
NOT_HERE = (
    r"(note: .*\n)*error\[CK146\]: stages\..*init_from [^>]* is not there\n"
    r"  --> mutated.yaml:.*\n  help: .*\n"
)
"""What is no fault of a recipe that is meant for another machine."""


@dataclass(frozen=True)
class Mutation:
    """A recipe after something happened to it.

    Attributes:
        text: The bytes of the file.
        what: What happened, for the list of outcomes.
        base: The recipe it was.
        wrong: Whether no reading of it can be right, so that it must be refused.
    """

    text: bytes
    what: str
    base: str
    wrong: bool = False


def mutated(draw: random.Random, manager: Manager) -> Mutation:
    """One random mutation of a random shipped recipe."""
    base = draw.choice(sorted(shipped_recipes()))
    if draw.random() < 0.4:
        text = shipped_files()[base].read_text(encoding="utf-8")
        if draw.random() < 0.5:
            text = _as_yaml(_whole(base, manager))
        what, change = draw.choice(list(OF_TEXT.items()))
        changed, wrong = change(draw, text)
        return Mutation(changed if isinstance(changed, bytes) else changed.encode(), what, base, wrong)
    tree = _whole(base, manager)
    if draw.random() < 0.3:
        tree = yaml.safe_load(shipped_files()[base].read_text(encoding="utf-8"))
    what, change_values = draw.choice(list(OF_VALUES.items()))
    wrong = change_values(draw, tree, manager)
    return Mutation(_as_yaml(tree).encode("utf-8", "replace"), what, base, wrong)


def _whole(base: str, manager: Manager) -> dict[str, Any]:
    """Every value of a recipe."""
    return as_dict(load_recipe(base, (), manager))


def _as_yaml(tree: Any) -> str:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class Outcome:
    """What became of a mutation, the codes of a refusal; `fault` is empty where all is well."""

    accepted: bool
    codes: tuple[str, ...]
    fault: str


def outcome(mutation: Mutation, folder: Path, manager: Manager) -> Outcome:
    """Write it into a folder and let the command line judge it; `folder` should be the current one."""
    offline = patch("huggingface_hub.hf_hub_download", side_effect=OSError("no network here"))
    with patch("calmkit.registry.make_manager", lambda: manager), offline:
        return _judged(mutation, folder / "mutated.yaml", manager)


def _judged(mutation: Mutation, path: Path, manager: Manager) -> Outcome:
    path.write_bytes(mutation.text)
    result = _calm("validate", "--elsewhere", path.name)
    codes = tuple(sorted(set(re.findall(r"^error\[(CK\d+)\]", result.stderr, re.M))))
    if result.exit_code == 0:
        fault = "it is wrong, and accepted" if mutation.wrong else _accepted_wrongly(path, manager)
        return Outcome(True, (), fault)
    fault = _told_badly(result, codes, path.name, mutation.text.decode("utf-8", "replace"))
    verb = ("validate", "plan", "show")[len(mutation.text) % 3]
    if not fault and _calm(verb, path.name).exit_code != 2:
        fault = f"{verb} does not refuse what validate --elsewhere refuses"
    return Outcome(False, codes, fault)


def _calm(*words: str) -> Result:
    result = CliRunner().invoke(cli, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _told_badly(result: Result, codes: tuple[str, ...], place: str, written: str) -> str:
    """What is wrong with a refusal."""
    said = result.stderr
    if result.exit_code != 2 or "Traceback" in result.output or not codes:
        return f"exit code {result.exit_code}: {said[:500]}"
    if "\x1b" in said or "\0" in said:
        return f"control characters reach the terminal: {said[:300]!r}"
    for error in re.split(r"^(?=error\[)", said, flags=re.M):
        code = error[6:11]
        of_default = re.search(r"--> \S+\.yaml  \((\w+)[\w.]*\)", error)  # nobody wrote it
        placed = re.search(r"--> \S+\.yaml:\d+", error) or (
            of_default and f"\n{of_default[1]}:" not in written
        )
        if error.startswith("error[") and code not in PLACELESS and not placed:
            return f"no place: {error[:300]}"
    if len(said) > 20_000:
        return f"{len(said)} characters of error"
    return "" if place in said or ".yaml" in said else f"the file is not named: {said[:300]}"


def _accepted_wrongly(path: Path, manager: Manager) -> str:
    """What fails of a recipe that was accepted."""
    outputs = {}
    for words in (["plan"], ["show"], ["show", "--source"]):
        result = _calm(*words, path.name)
        if result.exit_code == 2 and re.fullmatch(NOT_HERE, result.stderr):
            return ""
        outputs[" ".join(words)] = result.stdout
        if result.exit_code != 0 or "\x1b" in result.output:
            return f"accepted, and {' '.join(words)} ends with {result.exit_code}: {result.stderr[:500]}"
    recipe = load_recipe(path.name, (), manager)
    again = path.with_name("again.yaml")
    again.write_text(outputs["show"], encoding="utf-8")
    if load_recipe(again.name, (), manager) != recipe:
        return "accepted, and what show writes is read back as another recipe"
    return _builds(path, manager)


def _builds(path: Path, manager: Manager) -> str:
    recipe = load_recipe(path.name, (), manager)
    counts = re.search(r"^  all: ([\d,]+)", _calm("validate", "--elsewhere", path.name).stdout, re.M)
    if counts is None or int(counts[1].replace(",", "")) > SMALL:
        return ""
    sizes = kind_of(recipe, manager).known_sizes(recipe, manager)
    try:
        model = assemble(recipe, manager, sizes)
        build_sampler(recipe, manager, model.head)
        batch = _a_batch(recipe.data.part.name, model)
        if batch is not None and recipe.stages.lm is not None:
            if model.transform is not None:
                model.transform.fit([model.autoencoder.encode(batch.data).mean])
            model.loss(batch).per_unit.mean().backward()
    except Exception as error:
        return f"accepted, and fails when it is built: {type(error).__name__}: {str(error)[:300]}"
    return ""


def _a_batch(corpus: str, model: CalmModel) -> Any:
    """Two rows, of digits, or of six units of bytes; None for other data."""
    from calmkit.interfaces import Batch

    if corpus == "digits" and model.layout is not None:
        images, valid = (
            torch.rand(2, 1, 8, 8) * 2 - 1,
            torch.ones(2, *[torch.Size(model.layout).numel()]).bool(),
        )
        return Batch(images, valid, condition={"label": torch.tensor([0, 9])})
    chunk_size = getattr(model.autoencoder, "chunk_size", None)
    if chunk_size is None or chunk_size > 64 or model.layout is not None:
        return None
    return Batch(torch.randint(0, 2, (2, 6, chunk_size)), torch.ones(2, 6, dtype=torch.bool))
