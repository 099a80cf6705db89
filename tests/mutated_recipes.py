"""Recipes that something happened to: random mutations of shipped ones, and what the command line makes of them.

A mutation is made of the text (lines, characters, YAML's own tricks) or of the values (keys and what stands
behind them). Each is either refused in words, with a place, or accepted, and then all that is said of it holds.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import yaml
from click.testing import CliRunner, Result

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
    r"(note: .*\n)*error\[CK146\]: stages\..*init_from .* is not there\n  --> mutated.yaml:.*\n  help: .*\n"
)
"""What is no fault of a recipe that is meant for another machine."""
EVIL = (
    "!!python/object/apply:os.system ['touch calmkit_was_here']",
    "!!python/name:os.system",
    "!!python/module:calmkit_was_here",
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "!local 3",
    "&a [1, 2]",
    "*a",
    "{<<: {a: 1}}",
)
"""Text behind a key that no recipe may hold."""
LITERAL = (
    "${oc.env:PATH}",
    "${seed}",
    "${oc.create:1}",
    "{{ 7 * 7 }}",
    "${missing:}",
    "\x1b[31mred",
    "'=1+1'",
)
"""Text that other programs would compute with; here it is a text and nothing else."""
NUMBERS = (
    0, -1, 1, 2, 3, 7, 10**9, 10**18, 2**63, -(2**63), 10**40, 0.0, -0.5, 0.3, 1e-30, 1e30, 1e308, 5e-324,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
TEXTS = ("", " ", "true", "null", "1_000", "0x10", "010", "1:30", "1e3", "é", "語", "🙂", "\u202e", "../../x",
         "/", ".", "a" * 3000, "energy", "auto", "-1", "nan", ".inf", "*.txt", "a\nb", "\ufeff", "\u0085")  # fmt: skip
JUNK: tuple[Any, ...] = (
    None, [], {}, [[]], [None], {"": ""}, {"a": {"b": {"c": []}}}, [1, "a", None, {}], {"name": None},
    {"name": ["energy"]}, {"name": {"name": "energy"}}, True, False, ["csv", "csv"], {"energy": 1},
)  # fmt: skip


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


Changed = tuple[str | bytes, bool]


def _at_value(draw: random.Random, text: str, value: str) -> str:
    """The text with another value behind one of its keys."""
    lines = text.splitlines()
    places = [n for n, line in enumerate(lines) if re.match(r"\s*[a-z_]+: *[^\s{\[]", line)]
    at = draw.choice(places)
    lines[at] = f"{lines[at].partition(':')[0]}: {value}"
    return "\n".join(lines) + "\n"


def _deleted(draw: random.Random, text: str) -> Changed:
    lines = text.splitlines(keepends=True)
    first = draw.randrange(len(lines))
    del lines[first : first + draw.choice((1, 1, 1, 2, 5))]
    return "".join(lines), False


def _doubled(draw: random.Random, text: str) -> Changed:
    lines = text.splitlines(keepends=True)
    at = draw.choice([n for n, line in enumerate(lines) if re.match(r"[a-z_]+:", line)])
    return "".join([*lines[: at + 1], lines[at], *lines[at + 1 :]]), True


def _cut(draw: random.Random, text: str) -> Changed:
    whole = text.encode()
    return whole[: draw.randrange(len(whole))], False


def _noise(draw: random.Random, text: str) -> Changed:
    content = bytearray(text.encode())
    for _ in range(draw.choice((1, 1, 2, 8))):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content), False


def _inserted(draw: random.Random, text: str) -> Changed:
    at = draw.randrange(len(text))
    put = draw.choice(["\t", "\0", "\x07", "\r", "\n", "---\n", "...\n", "{", "]", "- ", ": ", "# ", "'", '"', "%",
                       "? ", "\u2028", "\ufeff", "|", ">", "\x85", "\U0001f642", "  "])  # fmt: skip
    return text[:at] + put + text[at:], False


def _tabs(draw: random.Random, text: str) -> Changed:
    del draw
    return re.sub(r"^(  )+", "\t", text, flags=re.M), False


def _evil(draw: random.Random, text: str) -> Changed:
    return _at_value(draw, text, draw.choice(EVIL)), True


def _literal(draw: random.Random, text: str) -> Changed:
    value = draw.choice(LITERAL)
    return _at_value(draw, text, value), False


def _deep(draw: random.Random, text: str) -> Changed:
    depth = draw.choice((50, 500, 2000, 20000))
    left, right = draw.choice((("[", "]"), ("{a: ", "}")))
    return text + f"{draw.choice(('seed2', 'name2', 'head2'))}: {left * depth}1{right * depth}\n", True


def _block_deep(draw: random.Random, text: str) -> Changed:
    return text + "deep:\n" + "".join(" " * n + "a:\n" for n in range(1, draw.choice((50, 900)))), True


def _laughs(draw: random.Random, text: str) -> Changed:
    del draw
    names = "abcdefghi"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{now}: &{now} [{', '.join([f'*{last}'] * 9)}]" for last, now in zip(names, names[1:], strict=False)
    ]
    return "\n".join(lines) + "\n" + text, True


def _merge_key(draw: random.Random, text: str) -> Changed:
    return text + draw.choice(("<<: {seed: 3}\n", "<<: *x\n", "<<: [{seed: 3}]\n")), True


def _twice(draw: random.Random, text: str) -> Changed:
    return text + draw.choice(("---\n", "...\n---\n")) + text, True


def _odd_key(draw: random.Random, text: str) -> Changed:
    return text + draw.choice(("? [a, b]\n: 1\n", "? {a: 1}\n: 1\n", "'': 1\n", "null: 1\n", "1: 1\n", "=: 1\n",
                               "'a.b': 1\n", "'stages.lm.max_steps': 3\n", "source: {}\n", "!!str x: 1\n")), True  # fmt: skip


def _encoded(draw: random.Random, text: str) -> Changed:
    how = draw.choice(("utf-16", "utf-8-sig", "utf-32", "crlf", "cr", "latin"))
    if how in ("crlf", "cr"):
        return text.replace("\n", "\r\n" if how == "crlf" else "\r").encode(), False
    return ("# \xe9\n" + text).encode("latin-1", "replace") if how == "latin" else text.encode(
        how
    ), how != "utf-8-sig"


OF_TEXT: Mapping[str, Callable[[random.Random, str], Changed]] = {
    "lines deleted": _deleted,
    "a line doubled": _doubled,
    "cut": _cut,
    "bytes changed": _noise,
    "characters put in": _inserted,
    "tabs": _tabs,
    "tags, anchors and aliases": _evil,
    "interpolations and templates": _literal,
    "nested deeply": _deep,
    "nested deeply in blocks": _block_deep,
    "aliases of aliases": _laughs,
    "merge keys": _merge_key,
    "two documents": _twice,
    "odd keys": _odd_key,
    "another encoding": _encoded,
}


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from _places(child, (*path, key))


def _in(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _a_place(draw: random.Random, tree: Any, kind: type | tuple[type, ...] = object) -> tuple[Any, ...]:
    places = [path for path in _places(tree) if isinstance(_in(tree, path), kind)]
    return draw.choice(places) if places else draw.choice(list(_places(tree)))


def _put(tree: Any, path: tuple[Any, ...], value: Any) -> None:
    _in(tree, path[:-1])[path[-1]] = value


def _dropped(draw: random.Random, tree: Any, manager: Manager) -> bool:
    del manager
    path = _a_place(draw, tree)
    del _in(tree, path[:-1])[path[-1]]
    return False


def _renamed(draw: random.Random, tree: Any, manager: Manager) -> bool:
    del manager
    path = draw.choice([path for path in _places(tree) if isinstance(path[-1], str)])
    holder = _in(tree, path[:-1])
    holder[draw.choice(("x", "", "é", path[-1] + "_", path[-1].upper(), path[-1][::-1]))] = holder.pop(
        path[-1]
    )
    return path[-1][::-1] != path[-1]


def _other_number(draw: random.Random, tree: Any, manager: Manager) -> bool:
    del manager
    path = _a_place(draw, tree, (int, float))
    number = draw.choice(NUMBERS)
    was = _in(tree, path)
    _put(tree, path, number)
    numeric = isinstance(was, int | float) and not isinstance(was, bool)
    return numeric and isinstance(number, float) and not -1e400 < number < 1e400


def _two_numbers(draw: random.Random, tree: Any, manager: Manager) -> bool:
    return _other_number(draw, tree, manager) | _other_number(draw, tree, manager)


def _other_text(draw: random.Random, tree: Any, manager: Manager) -> bool:
    del manager
    _put(tree, _a_place(draw, tree), draw.choice(TEXTS))
    return False


def _junk(draw: random.Random, tree: Any, manager: Manager) -> bool:
    del manager
    _put(tree, _a_place(draw, tree), copy.deepcopy(draw.choice(JUNK)))
    return False


def _nothing(draw: random.Random, tree: Any, manager: Manager) -> bool:
    del manager
    _put(tree, _a_place(draw, tree), None)
    return False


def _listed(draw: random.Random, tree: Any, manager: Manager) -> bool:
    del manager
    path = _a_place(draw, tree, (str, int, float))
    _put(tree, path, [_in(tree, path)])
    return isinstance(path[-1], str) and path[-1] not in ("train", "valid")


def _moved(draw: random.Random, tree: Any, manager: Manager) -> bool:
    """A key and its value, into another section."""
    del manager
    path, to = _a_place(draw, tree), _a_place(draw, tree, dict)
    into = _in(tree, to)
    if isinstance(into, dict) and isinstance(path[-1], str):
        into[path[-1]] = copy.deepcopy(_in(tree, path))
    return False


SECTION_KINDS = {"data": "corpora", "tokenizer": "tokenizers", "autoencoder": "autoencoders", "order": "orders",
                 "conditioner": "conditioners", "embedder": "embedders", "backbone": "backbones", "head": "heads",
                 "sampler": "samplers"}  # fmt: skip


def _other_part(draw: random.Random, tree: Any, manager: Manager) -> bool:
    """A part of the same kind, with its own defaults or the old options."""
    section, kind = draw.choice(list(SECTION_KINDS.items()))
    name = draw.choice(sorted(manager.parts[kind]))
    if draw.random() < 0.6 or not isinstance(tree.get(section), dict):
        tree[section] = name
    else:
        tree[section]["name"] = name
    return False


def _wrong_part(draw: random.Random, tree: Any, manager: Manager) -> bool:
    """The name of a part of another kind."""
    section, kind = draw.choice(list(SECTION_KINDS.items()))
    other = draw.choice(sorted(set(SECTION_KINDS.values()) - {kind}))
    name = draw.choice(sorted(manager.parts[other]))
    tree[section] = {"name": name}
    return name not in manager.parts[kind]


def _own_options(draw: random.Random, tree: Any, manager: Manager) -> bool:
    """A part with several of its settings at random numbers."""
    section, kind = draw.choice(list(SECTION_KINDS.items()))
    part = manager.parts[kind][draw.choice(sorted(manager.parts[kind]))]
    settings = draw.sample(sorted(part.settings), min(len(part.settings), draw.choice((1, 2, 3))))
    tree[section] = {
        "name": part.name,
        **{name: draw.choice((*NUMBERS[:12], *JUNK[:3])) for name in settings},
    }
    return False


def _transformed(draw: random.Random, tree: Any, manager: Manager) -> bool:
    names = [*sorted(manager.parts["transforms"]), "none"]
    tree["transforms"] = [draw.choice(names) for _ in range(draw.choice((1, 2, 3)))]
    return "none" in tree["transforms"]


def _measured(draw: random.Random, tree: Any, manager: Manager) -> bool:
    tree.setdefault("evaluation", {})
    if isinstance(tree["evaluation"], dict):
        tree["evaluation"]["metrics"] = draw.sample(sorted(manager.parts["metrics"]), draw.choice((1, 1, 2)))
    return False


def _many(draw: random.Random, tree: Any, manager: Manager) -> bool:
    """Three of the others, one after another."""
    for _ in range(3):
        draw.choice([_dropped, _other_number, _other_text, _nothing, _other_part])(draw, tree, manager)
    return False


OF_VALUES: Mapping[str, Callable[[random.Random, Any, Manager], bool]] = {
    "a key dropped": _dropped,
    "a key renamed": _renamed,
    "another number": _other_number,
    "two other numbers": _two_numbers,
    "another text": _other_text,
    "junk": _junk,
    "null": _nothing,
    "a list for a value": _listed,
    "a key moved": _moved,
    "another part": _other_part,
    "a part of another kind": _wrong_part,
    "settings of a part": _own_options,
    "transforms": _transformed,
    "metrics": _measured,
    "three at once": _many,
}


@dataclass(frozen=True)
class Outcome:
    """What became of a mutation: `refused` with its codes, or `accepted`; `fault` is empty where all is well."""

    accepted: bool
    codes: tuple[str, ...]
    fault: str


def outcome(mutation: Mutation, folder: Path, manager: Manager) -> Outcome:
    """Write it into a folder and let the command line judge it; `folder` should be the current one."""
    with patch("calmkit.registry.make_manager", lambda: manager):
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
        of_default = re.search(r"--> \((\w+)[\w.]*\)", error)  # nobody wrote it
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
