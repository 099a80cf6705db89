"""What the official code gets wrong, as docs/official.md lists it, and the page's own promises."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from official_reference import Sizes, autoencoder_state, language_state

import calmkit
from calmkit.heads.flow import FlowHead
from calmkit.interfaces import Batch, Context
from calmkit.model import CalmModel
from calmkit.text.interop import official

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "official.md"
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))))
KINDS = ("EnergyTransformer", "FlowTransformer", "DiffusionTransformer")


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 30


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_named_test_exists(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in functions_of(path), f"{path} has no {name}"


def test_the_page_has_a_row_for_each_defect_of_the_reference() -> None:
    numbers = [int(n) for n in re.findall(r"^\| (\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)]
    assert numbers == list(range(1, 36))


def loaded(folder: Path, sizes: Sizes, **changes: Any) -> CalmModel:
    """A random checkpoint of the official names, read."""
    (folder / "config.json").write_text(json.dumps(sizes.configs()[0] | changes))
    torch.save(language_state(sizes, autoencoder_state(sizes)), folder / "pytorch_model.bin")
    model = official.load(folder)
    assert isinstance(model, CalmModel)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoder", [2, 3])
def test_every_kind_takes_a_training_step(tmp_path: Path, kind: str, encoder: int) -> None:
    """The official flow and diffusion models end in an AttributeError at their first step."""
    sizes = Sizes(kind=kind, encoder=encoder)
    model = loaded(tmp_path, sizes).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    chunks, valid = torch.randint(sizes.vocab, (3, 5, sizes.k)), torch.ones(3, 5, dtype=torch.bool)

    def loss() -> torch.Tensor:
        torch.manual_seed(1)
        unit_loss = model.loss(Batch(chunks, valid))
        assert unit_loss.keep.sum() == 3 * 4  # the first chunk of a row is never predicted
        return unit_loss.per_unit.mean()

    before = loss()
    before.backward()
    trained = [n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert {n.partition(".")[0] for n in trained} == {"embedder", "backbone", "head"}
    optimizer.step()
    assert loss() < before


PINNED_THERE = ("transformers", "flash_attn", "deepspeed", "accelerate")


def pinned(requirements: list[str]) -> list[str]:
    """Those that one version alone satisfies, or the patches of one."""
    return [line for line in requirements if re.search(r"==|~=", line.partition(";")[0])]


def test_nothing_is_pinned_and_none_of_the_four_is_needed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = project["dependencies"]
    names = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in needed}
    assert "torch" in names
    assert not names & set(PINNED_THERE)
    assert pinned(needed + project["optional-dependencies"]["hf"]) == []
    assert pinned(["a==1", "b>=1,<2", "c~=1.0", "d>=1; python_version < '4'"]) == [
        "a==1",
        "c~=1.0",
    ]


def imported(source: str) -> set[str]:
    """First names of the modules that a file imports anywhere."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


def test_no_file_imports_any_of_them() -> None:
    """Attention is torch's own: flash-attn is nowhere, not even behind an if."""
    assert imported("if x:\n    from flash_attn.layers import rotary") == {"flash_attn"}
    for file in Path(calmkit.__file__).parent.rglob("*.py"):
        assert not imported(file.read_text(encoding="utf-8")) & {"flash_attn", "deepspeed", "accelerate"}, (
            file
        )


def test_model_type_has_no_say(tmp_path: Path) -> None:
    model = loaded(tmp_path, Sizes(kind="FlowTransformer"), model_type="energy")
    assert isinstance(model.head, FlowHead)


def test_training_makes_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def refuse(*args: object, **options: object) -> None:
        made.append(args)
        raise RuntimeError("a cache")

    sizes = Sizes()
    model = loaded(tmp_path, sizes).train()
    monkeypatch.setattr("calmkit.backbones.transformer.KeyValues", refuse)
    chunks, valid = torch.randint(sizes.vocab, (3, 5, sizes.k)), torch.ones(3, 5, dtype=torch.bool)
    context = model.backbone(torch.randn(3, 5, sizes.hidden), valid)
    assert type(context) is Context  # the conditions alone: no state beside them, and no memory in them
    assert context.memory is None
    model.loss(Batch(chunks, valid)).per_unit.mean().backward()
    assert made == []
    with pytest.raises(RuntimeError, match="a cache"):  # where one is made, it is seen
        model.backbone.start(3, 5)


TOKENIZER_FILES = (
    "tokenizer*.json",
    "tokenizer*.model",
    "*.tiktoken",
    "spiece.model",
    "vocab.json",
    "merges.txt",
)


def tokenizer_files(folder: Path) -> list[Path]:
    return [file for name in TOKENIZER_FILES for file in folder.rglob(name)]


def test_no_tokenizer_is_in_the_tree(tmp_path: Path) -> None:
    """Of what is shipped, whatever else lies in a checkout."""
    shipped = ("calmkit", "recipes", "tests", "docs", "plugins", "benchmarks")
    assert [file for folder in shipped for file in tokenizer_files(ROOT / folder)] == []
    for name in ("tokenizer.json", "tokenizer.model", "merges.txt"):
        (tmp_path / name).touch()
    assert len(tokenizer_files(tmp_path)) == 3
