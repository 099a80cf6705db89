"""Recipes as files: parents, swaps, overrides, and every error with its exact text."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from fake_parts import BASE, fake_manager
from hypothesis import example, given, settings
from hypothesis import strategies as st

from calmkit.printed import ACTS
from calmkit.recipe.errors import Mark, RecipeError
from calmkit.recipe.load import load_recipe, to_yaml
from calmkit.recipe.schema import (
    AutoencoderStage,
    DataSection,
    Gate,
    LmStage,
    Optimizer,
    PartSpec,
    Recipe,
    Stages,
)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE)
    return tmp_path


def load(name: str = "base.yaml", *overrides: str) -> Recipe:
    return load_recipe(name, overrides, fake_manager())


def child(text: str, name: str = "mine.yaml") -> str:
    Path(name).write_text(text)
    return name


def said(name: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load(name, *overrides)
    return str(caught.value)


def test_values_and_defaults(base: Path) -> None:
    recipe = load()
    assert recipe.name == "base"
    assert recipe.data == DataSection(16, PartSpec("constant"))
    assert recipe.autoencoder == PartSpec("plain", {"chunk_size": 4, "latent_dim": 6, "kl_weight": 1e-3})
    assert recipe.embedder == PartSpec("tokens")
    assert recipe.head.options["num_draws"] == 5
    assert recipe.head.options["betas"] == (0.9, 0.99)
    assert recipe.stages == Stages(
        autoencoder=AutoencoderStage(3, gate=Gate(min=0.5)), lm=LmStage(4, optimizer=Optimizer(lr=1e-4))
    )
    assert recipe.loggers == (PartSpec("csv"),)
    assert recipe.source_text == BASE
    assert recipe.source.mark("head.num_draws") == Mark("base.yaml", 9, 3)
    assert recipe.source.mark("head.gated") == recipe.source.mark("head") == Mark("base.yaml", 7, 1)


def test_round_trip(base: Path) -> None:
    recipe = load(
        "base.yaml", "head.names=[off, 'null', 010]", "head.sizes={a: 1}", "head.label=1:30", "head.width=3"
    )
    Path("again.yaml").write_text(to_yaml(recipe))
    again = load("again.yaml")
    assert again == recipe
    assert to_yaml(again) == to_yaml(recipe)
    assert again.head.options["names"] == ["off", "null", "010"]


TEXTS = st.text().filter(lambda text: not ACTS.search(text))  # what a recipe may hold


@settings(max_examples=10, deadline=None)
@example(label="\x85", names=["\u2028a", "\n", " b"], exponent=1.7e308)
@given(
    label=TEXTS,
    names=st.lists(TEXTS, max_size=20),
    exponent=st.floats(allow_nan=False, allow_infinity=False),
)
def test_round_trip_of_any_text(
    tmp_path_factory: pytest.TempPathFactory, label: str, names: list[str], exponent: float
) -> None:
    folder = tmp_path_factory.mktemp("round")
    (folder / "base.yaml").write_text(BASE)
    recipe = load(str(folder / "base.yaml"))
    options = {**recipe.head.options, "label": label, "names": names, "exponent": exponent}
    recipe = dataclasses.replace(recipe, description=label, head=PartSpec("wide", options))
    (folder / "again.yaml").write_bytes(to_yaml(recipe).encode())
    assert load(str(folder / "again.yaml")) == recipe


def test_extends_is_a_chain_beside_the_file(base: Path) -> None:
    (base / "sub").mkdir()
    child("extends: ../base.yaml\nname: middle\nstages: {lm: {max_steps: 9}}\n", "sub/middle.yaml")
    recipe = load(child("extends: sub/middle.yaml\nhead: {num_draws: 6}\n"))
    assert recipe.name == "mine"  # a name and a description are of one file only
    assert recipe.description == ""
    assert recipe.stages.lm == LmStage(9, optimizer=Optimizer(lr=1e-4))
    assert recipe.head.options["num_draws"] == 6
    assert recipe.head.options["num_targets"] == 7
    assert recipe.source.mark("head.num_draws") == Mark("mine.yaml", 2, 8)
    assert recipe.source.mark("stages.lm.max_steps") == Mark("sub/middle.yaml", 3, 15)
    assert recipe.source.text.startswith("extends")


def test_extends_in_a_circle(base: Path) -> None:
    child("extends: b.yaml\n", "a.yaml")
    child("extends: c.yaml\n", "b.yaml")
    child("extends: a.yaml\n", "c.yaml")
    assert said("a.yaml") == (
        "error[CK104]: the recipes extend each other in a circle: a.yaml -> b.yaml -> c.yaml -> a.yaml\n"
        "  --> c.yaml:1:10  (extends)"
    )


def test_swap_keeps_what_the_new_part_takes(base: Path) -> None:
    recipe = load("base.yaml", "head=narrow")
    assert recipe.head == PartSpec("narrow", {"num_targets": 7, "num_steps": 10, "label": "flow"})
    assert recipe.source.notes == ("head: wide -> narrow; keeps num_targets=7; drops num_draws=5",)


def test_swap_keeps_the_sequence_length(base: Path) -> None:
    recipe = load("base.yaml", "data=files", "data.train=[a.txt,b.txt]")
    assert recipe.data == DataSection(16, PartSpec("files", {"train": ["a.txt", "b.txt"], "valid": None}))
    assert recipe.source.notes == ("data: constant -> files",)


def test_swap_drops_a_value_that_does_not_fit(base: Path) -> None:
    name = child("extends: base.yaml\nhead: {label: old}\n")
    recipe = load(name, "head=narrow")
    assert recipe.head.options["label"] == "flow"
    assert recipe.source.notes == ("head: wide -> narrow; keeps num_targets=7; drops num_draws=5, label=old",)


def test_swap_in_a_child(base: Path) -> None:
    recipe = load(child("extends: base.yaml\nhead: {name: narrow, num_steps: 3}\nsampler: direct\n"))
    assert recipe.head == PartSpec("narrow", {"num_targets": 7, "num_steps": 3, "label": "flow"})
    assert recipe.sampler == PartSpec("direct", {"head_temperature": 0.25, "num_steps": None})
    assert recipe.source.notes == (
        "head: wide -> narrow; keeps num_targets=7; drops num_draws=5",
        "sampler: vote -> direct; keeps head_temperature=0.25; drops candidates=20",
    )


def test_swaps_come_before_dotted_keys(base: Path) -> None:
    late = load("base.yaml", "head.num_steps=3", "head=narrow")
    early = load("base.yaml", "head=narrow", "head.num_steps=3")
    named = load("base.yaml", "head.num_steps=3", "head.name=narrow")
    whole = load("base.yaml", "head={name: narrow, num_steps: 3}")
    assert late == early == named == whole
    assert late.head.options["num_steps"] == 3
    # What is stated on this line is never dropped by a swap on the same line.
    assert said("base.yaml", "head.num_draws=4", "head=narrow").startswith(
        "error[CK130]: unknown key 'num_draws' of head 'narrow'"
    )


def test_the_same_name_is_no_swap(base: Path) -> None:
    recipe = load("base.yaml", "head=wide")
    assert recipe == load()
    assert recipe.source.notes == ()


def test_null_switches_off(base: Path) -> None:
    gate = load("base.yaml", "stages.autoencoder.gate=null").stages.autoencoder
    assert gate == AutoencoderStage(3)
    assert load("base.yaml", "stages.autoencoder=null").stages.autoencoder is None
    back = load(child("extends: base.yaml\nstages: {autoencoder: null}\n"), "stages.autoencoder.max_steps=8")
    assert back.stages.autoencoder == AutoencoderStage(8)


def test_override_values_are_text_unless_in_brackets_or_quotes(base: Path) -> None:
    options = load(
        "base.yaml",
        "head.paths=*.txt",
        "head.label=a: b # c",
        "head.names=['*.txt', b]",
        "head.betas=[0, 0.5]",
    ).head.options
    assert options["paths"] == "*.txt"
    assert options["label"] == "a: b # c"
    assert options["names"] == ["*.txt", "b"]
    assert options["betas"] == (0.0, 0.5)
    assert load("base.yaml", "head.label='null'").head.options["label"] == "null"


def test_unknown_keys_of_a_part_are_told_with_place_and_neighbour(base: Path) -> None:
    keys = "betas, exponent, gated, label, names, num_draws, num_targets, paths, sizes, solver, width"
    assert said(child("extends: base.yaml\nhead: {name: wide, num_drawz: 3}\n")) == (
        "error[CK130]: unknown key 'num_drawz' of head 'wide'\n"
        "  --> mine.yaml:2:20  (head.num_drawz)\n"
        f"  help: did you mean 'num_draws'?  keys: {keys}"
    )
    assert said("base.yaml", "head.num_drawz=3").splitlines()[1] == "  --> command line (head.num_drawz=3)"


def test_an_option_that_the_new_part_does_not_take_is_an_error_when_it_is_stated(base: Path) -> None:
    assert said("base.yaml", "head=narrow", "head.num_draws=4") == (
        "error[CK130]: unknown key 'num_draws' of head 'narrow'\n"
        "  --> command line (head.num_draws=4)\n"
        "  help: did you mean 'num_targets'?  keys: label, num_steps, num_targets"
    )


@pytest.mark.parametrize(
    ("override", "error"),
    [
        (
            "head=narow",
            "error[CK120]: unknown head 'narow'\n  --> command line (head=narow)\n"
            "  help: did you mean 'narrow'?  heads: ids, narrow, wide",
        ),
        (
            "data=filez",
            "error[CK120]: unknown corpus 'filez'\n  --> command line (data=filez)\n"
            "  help: did you mean 'files'?  corpora: constant, files",
        ),
        (
            "data.sequence_lenght=4",
            "error[CK130]: unknown key 'sequence_lenght' of corpus 'constant'\n"
            "  --> command line (data.sequence_lenght=4)\n"
            "  help: did you mean 'sequence_length'?  keys: sequence_length",
        ),
        ("data=files", "error[CK131]: corpus 'files' needs 'train'\n  --> command line (data=files)"),
        (
            "head.num_draws=many",
            "error[CK132]: head.num_draws must be a whole number, got 'many'\n"
            "  --> command line (head.num_draws=many)",
        ),
        (
            "head.gated=yes",
            "error[CK132]: head.gated must be true or false, got 'yes'\n  --> command line (head.gated=yes)",
        ),
        (
            "sampler=null",
            "error[CK132]: sampler must be a mapping, got null\n  --> command line (sampler=null)",
        ),
        (
            "stages.lm.max_steps=0",
            "error[CK133]: stages.lm.max_steps must be at least 1, got 0\n"
            "  --> command line (stages.lm.max_steps=0)",
        ),
        (
            "stages.lm.optimizer.lr=0",
            "error[CK133]: stages.lm.optimizer.lr must be above 0, got 0.0\n"
            "  --> command line (stages.lm.optimizer.lr=0)",
        ),
        (
            "stages.lm.optimizer.betas=[0.9,1]",
            "error[CK133]: stages.lm.optimizer.betas must be below 1, got (0.9, 1.0)\n"
            "  --> command line (stages.lm.optimizer.betas=[0.9,1])",
        ),
        (
            "trainer.devices=two",
            "error[CK133]: trainer.devices must be like auto, -1, 2 or 0,1, got two\n"
            "  --> command line (trainer.devices=two)",
        ),
        (
            "loggers=[cvs]",
            "error[CK120]: unknown logger 'cvs'\n  --> command line (loggers=[cvs])\n"
            "  help: did you mean 'csv'?  loggers: csv, mlflow, tensorboard, trackio, wandb",
        ),
        (
            "loggers=[{name: wandb, ofline: true}]",
            "error[CK130]: unknown key 'ofline' of logger 'wandb'\n"
            "  --> command line (loggers=[{name: wandb, ofline: true}])\n"
            "  help: did you mean 'offline'?  keys: entity, offline, project",
        ),
        (
            "loggers=[{name: wandb, offline: 3}]",
            "error[CK132]: loggers.offline must be true or false, got '3'\n"
            "  --> command line (loggers=[{name: wandb, offline: 3}])",
        ),
        (
            "loggers=[csv, csv]",
            "error[CK133]: the logger 'csv' stands twice\n  --> command line (loggers=[csv, csv])",
        ),
        (
            "stages.gate=null",
            "error[CK130]: unknown key 'gate' of stages\n  --> command line (stages.gate=null)\n"
            "  help: keys: autoencoder, lm",
        ),
        (
            "source=x",
            "error[CK130]: unknown key 'source' of the recipe\n  --> command line (source=x)\n"
            "  help: keys: autoencoder, backbone, calmkit, conditioner, data, description, embedder, "
            "evaluation, head, loggers, name, order, predict_first, sampler, seed, stages, tokenizer, "
            "trainer, transforms",
        ),
        (
            "calmkit=2",
            "error[CK105]: this calmkit reads recipes of version 1, got '2'\n  --> command line (calmkit=2)\n"
            "  help: write 'calmkit: 1'",
        ),
        (
            "head",
            "error[CK110]: 'head' is not of the form key=value\n  --> command line (head)\n"
            "  help: such as head=flow, head.num_steps=8 or data.train=[a.txt,b.txt]",
        ),
        (
            "head.=3",
            "error[CK110]: 'head.=3' is not of the form key=value\n  --> command line (head.=3)\n"
            "  help: such as head=flow, head.num_steps=8 or data.train=[a.txt,b.txt]",
        ),
        (
            "head.names=[*.txt]",
            "error[CK101]: this is not YAML: while scanning an alias expected alphabetic or numeric "
            "character, but found '.'\n  --> command line (head.names=[*.txt])\n  help: the line is: [*.txt]",
        ),
    ],
)  # fmt: skip
def test_errors_of_the_command_line(base: Path, override: str, error: str) -> None:
    assert said("base.yaml", override) == error


def test_all_that_is_wrong_is_said_at_once(base: Path) -> None:
    name = child(
        "extends: base.yaml\nseed: -1\nhead: {num_drawz: 3}\nstages: {lm: {max_steps: x}}\nbogus: 1\n"
    )
    assert [line for line in said(name).splitlines() if line.startswith("  -->")] == [
        "  --> mine.yaml:5:1  (bogus)",
        "  --> mine.yaml:2:7  (seed)",
        "  --> mine.yaml:3:8  (head.num_drawz)",
        "  --> mine.yaml:4:26  (stages.lm.max_steps)",
    ]


def test_missing_sections(base: Path) -> None:
    assert said(child("calmkit: 1\nhead: wide\ntokenizer: {}\n")) == (
        "error[CK131]: the recipe needs 'data'\n  --> mine.yaml:1:1  (data)\n"
        "error[CK131]: tokenizer needs 'name'\n  --> mine.yaml:3:12  (tokenizer.name)\n"
        "error[CK131]: the recipe needs 'autoencoder'\n  --> mine.yaml:1:1  (autoencoder)\n"
        "error[CK131]: the recipe needs 'backbone'\n  --> mine.yaml:1:1  (backbone)\n"
        "error[CK131]: the recipe needs 'stages'\n  --> mine.yaml:1:1  (stages)"
    )


def test_files_that_cannot_be_read(base: Path) -> None:
    assert said("none.yaml") == "error[CK100]: no file 'none.yaml'"
    (base / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    assert said("latin.yaml") == "error[CK100]: 'latin.yaml' is not UTF-8: byte 9 is 0xe9"
    (base / "folder.yaml").mkdir()
    assert said("folder.yaml") == "error[CK100]: 'folder.yaml' cannot be read: Is a directory"
    assert said(child("extends: none.yaml\n")) == (
        "error[CK100]: no file 'none.yaml'\n  --> mine.yaml:1:10  (extends)"
    )
    assert said(child("- a\n")) == (
        "error[CK132]: a recipe must be a mapping\n  --> mine.yaml:1:1\n"
        "  help: begin with 'extends: tiny/energy'"
    )
    assert said("tiny/enery").startswith(
        "error[CK100]: no recipe 'tiny/enery'\n  help: did you mean 'tiny/energy'?"
    )
    (base / "recipe").write_text(BASE)
    assert "the file of that name must end in .yaml to be read" in said("recipe")


def test_a_study_is_no_recipe() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("studies/quickstart", manager=fake_manager())
    assert [(p.code, p.help) for p in caught.value.problems] == [("CK100", "calmkit study run quickstart")]
