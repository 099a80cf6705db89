"""A recipe is refused whole, before data is touched, with the place of what does not fit."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_parts import BASE, FAKES, WideHead, fake_manager

from calmkit.interfaces import EventSpec
from calmkit.recipe.assemble import assemble, build_sampler, validate
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import load_recipe
from calmkit.recipe.shapes_only import shapes_only
from calmkit.registry import Part


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE)


def refused(*overrides: str) -> str:
    manager = fake_manager()
    recipe = load_recipe("base.yaml", overrides, manager)
    with pytest.raises(RecipeError) as caught:
        validate(recipe, manager)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name", "fact", "section", "said"),
    [
        ("autoencoders", "plain", "event", "autoencoder", "event to an EventSpec"),
        ("autoencoders", "plain", "chunk_size", "autoencoder", "chunk_size to a count of tokens, 1 or more"),
        ("backbones", "plain", "hidden_dim", "backbone", "hidden_dim to its width, 1 or more"),
        ("samplers", "vote", "options", "sampler", "options to SampleOptions"),
        ("tokenizers", "plain", "vocab_size", "tokenizer", "vocab_size to a count of ids, 1 or more"),
    ],
)
def test_a_part_that_forgets_a_fact_of_its_kind_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, kind: str, name: str, fact: str, section: str, said: str
) -> None:
    cls = fake_manager().find(kind, name).cls

    class Forgets(cls):  # type: ignore[misc, valid-type]
        """Sets all but one."""

        def __setattr__(self, key: str, value: object) -> None:
            if key != fact:
                super().__setattr__(key, value)

    monkeypatch.setitem(FAKES[kind], name, Forgets)
    assert f"error[CK145]: {section} '{name}': its constructor must set {said}; it is None" in refused()


def test_assembled_sizes() -> None:
    manager = fake_manager()
    model = assemble(load_recipe("base.yaml", ["predict_first=false"], manager), manager, {"vocab_size": 16})
    assert (model.predict_first, model.autoencoder.chunk_size) == (False, 4)
    # Linear(4, 6): 4 * 6 + 6; Linear(4, 8): 4 * 8 + 8; two Linear(8, 8); Linear(8, 6): 8 * 6 + 6
    counts = [sum(p.numel() for p in part.parameters()) for part in model.children()]
    assert counts == [30, 40, 144, 54]


def test_validation_gives_the_shapes_of_the_real_model() -> None:
    manager = fake_manager()
    recipe = load_recipe("base.yaml", [], manager)
    shapes = {name: p.shape for name, p in assemble(recipe, manager, {"vocab_size": 16}).named_parameters()}
    model = validate(recipe, manager)
    assert {name: p.shape for name, p in model.named_parameters()} == shapes
    assert all(p.is_meta for p in model.parameters())


@pytest.mark.parametrize("value", [".inf", "-.inf", "1e999", ".nan"])
@pytest.mark.parametrize(
    "key", ["stages.lm.optimizer.lr", "stages.lm.optimizer.clip", "stages.autoencoder.gate.min",
            "autoencoder.kl_weight", "head.exponent", "sampler.head_temperature"]
)  # fmt: skip
def test_a_number_that_is_not_finite_is_refused_with_its_place(key: str, value: str) -> None:
    told = f"error[CK132]: {key} must be a finite number, got '{value}'\n  --> "
    with pytest.raises(RecipeError) as caught:
        load_recipe("base.yaml", [f"{key}={value}"], fake_manager())
    assert str(caught.value) == f"{told}command line ({key}={value})"
    section, _, rest = key.partition(".")
    nested = f"{value}"
    for name in reversed(rest.split(".")):
        nested = f"{{{name}: {nested}}}"
    Path("child.yaml").write_text(f"extends: base.yaml\n{section}: {nested}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe("child.yaml", [], fake_manager())
    assert str(caught.value).startswith(f"{told}child.yaml:2:")


def test_a_list_of_numbers_is_finite_too() -> None:
    for key in ("stages.lm.optimizer.betas", "head.betas"):
        with pytest.raises(RecipeError, match=rf"CK132.*{key} must be a finite number, got '\.inf'"):
            load_recipe("base.yaml", [f"{key}=[0.9, .inf]"], fake_manager())


def test_a_recipe_made_in_python_and_a_default_of_a_part_are_finite_too() -> None:
    manager = fake_manager()
    recipe = load_recipe("base.yaml", [], manager)
    wide = replace(recipe, head=replace(recipe.head, options=recipe.head.options | {"exponent": math.nan}))
    assert recipe.stages.lm is not None
    optimizer = replace(recipe.stages.lm.optimizer, lr=math.inf)
    endless = replace(wide, stages=replace(recipe.stages, lm=replace(recipe.stages.lm, optimizer=optimizer)))
    with pytest.raises(RecipeError) as caught:
        validate(endless, manager)
    assert [(p.code, p.key) for p in caught.value.problems] == [
        ("CK133", "head.exponent"),
        ("CK133", "stages.lm.optimizer.lr"),
    ]
    manager.parts["heads"]["endless"] = Part("heads", "endless", EndlessHead, "fakes")
    with pytest.raises(RecipeError, match=r"CK133.*head\.limit must be a finite number, got 'inf'"):
        validate(load_recipe("base.yaml", ["head=endless"], manager), manager)
    validate(load_recipe("base.yaml", ["head=endless", "head.limit=3"], manager), manager)


class EndlessHead(WideHead):
    """A guest whose default no recipe can say."""

    def __init__(self, hidden_dim: int, event: EventSpec, *, limit: float = math.inf):
        super().__init__(hidden_dim, event)


def test_shapes_only_leaves_no_trace() -> None:
    with shapes_only():
        layer = torch.nn.Linear(3, 2)
        noise = torch.randn(4, 5)
    assert layer.weight.is_meta
    assert (noise.shape, noise.is_meta) == ((4, 5), True)
    assert torch.randn(2).device == torch.device("cpu")


def test_shapes_only_does_not_wake_the_compiler() -> None:
    """Random numbers on the meta device import sympy and triton, seconds that a validation does not have."""
    code = (
        "import sys, torch; from calmkit.recipe.shapes_only import shapes_only\n"
        "before = 'sympy' in sys.modules\n"
        "with shapes_only(): torch.nn.Embedding(3, 2); torch.nn.Linear(3, 2); torch.randn(2)\n"
        "sys.exit(('sympy' in sys.modules) != before)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["data.sequence_length=18"],
            "error[CK140]: data.sequence_length 18 is no multiple of the autoencoder's chunk size 4\n"
            "  --> command line (data.sequence_length=18)\n  help: the nearest: 16 or 20",
        ),
        (
            ["autoencoder.chunk_size=3"],
            "error[CK140]: data.sequence_length 16 is no multiple of the autoencoder's chunk size 3\n"
            "  --> base.yaml:3:24  (data.sequence_length)\n  help: the nearest: 15 or 18",
        ),
        (
            ["data.sequence_length=3"],
            "error[CK140]: data.sequence_length 3 is no multiple of the autoencoder's chunk size 4\n"
            "  --> command line (data.sequence_length=3)\n  help: the nearest: 4",
        ),
        (
            ["head=ids"],
            "error[CK141]: head 'ids' takes tokens events, autoencoder 'plain' gives continuous\n"
            "  --> command line (head=ids)\n  help: heads that take continuous: narrow, wide",
        ),
        (
            ["autoencoder=ids", "embedder=latents", "stages.autoencoder=null"],
            "error[CK141]: head 'wide' takes continuous events, autoencoder 'ids' gives tokens\n"
            "  --> base.yaml:8:3  (head)\n  help: heads that take tokens: ids\n"
            "error[CK142]: embedder 'latents' reads latents, autoencoder 'ids' has none\n"
            "  --> command line (embedder=latents)\n  help: embedder=tokens reads the ids",
        ),
        (
            ["sampler=direct"],
            "error[CK143]: sampler 'direct' asks for 'temperature', not honoured by head 'wide', "
            "which has no temperature of its own\n"
            "  --> base.yaml:11:23  (sampler.head_temperature)\n"
            "  help: options of head 'wide': none; sampler.head_temperature=null asks for nothing",
        ),
        (
            ["head=narrow", "sampler=direct", "sampler.num_steps=4"],
            "error[CK143]: sampler 'direct' asks for 'temperature', not honoured by head 'narrow', "
            "which has no temperature of its own\n"
            "  --> base.yaml:11:23  (sampler.head_temperature)\n"
            "  help: options of head 'narrow': num_steps; sampler.head_temperature=null asks for nothing",
        ),
        (
            ["autoencoder=ids", "head=ids"],
            "error[CK144]: autoencoder 'ids' has no parameters, so it has no stage 1 and no gate\n"
            "  --> base.yaml:13:3  (stages.autoencoder)\n  help: write stages.autoencoder=null",
        ),
        (
            ["stages.autoencoder=null"],
            "error[CK144]: autoencoder 'plain' has parameters, but stages.autoencoder is null\n"
            "  --> command line (stages.autoencoder=null)\n"
            "  help: give stages.autoencoder.max_steps, and stages.autoencoder.init_from to take a run's "
            "autoencoder",
        ),
        (
            ["autoencoder=ids", "head=ids", "stages.autoencoder=null", "stages.lm=null"],
            "error[CK144]: nothing to train: stages.lm is null and autoencoder 'ids' has no parameters\n"
            "  --> command line (stages.lm=null)",
        ),
        (
            ["autoencoder.latent_dim=0"],
            "error[CK145]: autoencoder 'plain': latent_dim must be at least 1, got 0; 8 would do.\n"
            "  --> command line (autoencoder.latent_dim=0)",
        ),
        (
            ["data=files", "data.train=none.txt"],
            "error[CK146]: corpus 'files': data.train: none.txt does not exist; correct the path\n"
            "  --> command line (data.train=none.txt)",
        ),
        (
            ["stages.lm.init_from=runs/none"],
            "error[CK146]: stages.lm.init_from 'runs/none' is not there\n"
            "  --> command line (stages.lm.init_from=runs/none)\n  help: name a run folder",
        ),
        (
            ["data=files", "data.train=none.txt", "sampler=direct", "data.sequence_length=3"],
            "error[CK146]: corpus 'files': data.train: none.txt does not exist; correct the path\n"
            "  --> command line (data.train=none.txt)\n"
            "error[CK140]: data.sequence_length 3 is no multiple of the autoencoder's chunk size 4\n"
            "  --> command line (data.sequence_length=3)\n  help: the nearest: 4\n"
            "error[CK143]: sampler 'direct' asks for 'temperature', not honoured by head 'wide', "
            "which has no temperature of its own\n"
            "  --> base.yaml:11:23  (sampler.head_temperature)\n"
            "  help: options of head 'wide': none; sampler.head_temperature=null asks for nothing",
        ),
    ],
)
def test_refused(overrides: list[str], said: str) -> None:
    assert refused(*overrides) == said


def test_a_sampler_gets_its_options() -> None:
    manager = fake_manager()
    overrides = ["head=narrow", "sampler=direct", "sampler.head_temperature=null", "sampler.num_steps=4"]
    sampler = build_sampler(load_recipe("base.yaml", overrides, manager), manager)
    assert sampler.options.set_fields() == {"num_steps"}
    assert sampler.options.num_steps == 4
