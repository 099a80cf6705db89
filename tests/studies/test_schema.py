"""Studies as text: cells by hand, and refusals with their codes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import workshop

from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import find_recipe, shipped_files
from calmkit.registry import make_manager
from calmkit.results.relation import Relate
from calmkit.studies.match import Match
from calmkit.studies.schema import Study, load_study

HEAD = "calmkit_study: 1\nname: s\nbase: small.yaml\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    with workshop(tmp_path):
        yield tmp_path


def read(text: str) -> Study:
    Path("s.yaml").write_text(text)
    return load_study("s.yaml", make_manager())


def test_labels_settings_and_overrides_by_hand() -> None:
    """Two axes and a fixed setting: 2 x 2 cells, the last axis fastest."""
    study = read(
        HEAD
        + "set: {data.sequence_length: 16}\n"
        + "grid:\n"
        + "  head: [energy, {label: ODE, head: flow, sampler.num_steps: 2}]\n"
        + "  predict_first: [true, false]\n"
    )
    fixed = "data.sequence_length=16"
    assert [(cell.label, cell.overrides) for cell in study.cells] == [
        ("energy predict_first=true", (fixed, "head=energy", "predict_first=true")),
        ("energy predict_first=false", (fixed, "head=energy", "predict_first=false")),
        ("ODE predict_first=true", (fixed, "head=flow", "sampler.num_steps=2", "predict_first=true")),
        ("ODE predict_first=false", (fixed, "head=flow", "sampler.num_steps=2", "predict_first=false")),
    ]
    assert study.cells[3].settings == {"head": "flow", "sampler.num_steps": "2", "predict_first": "false"}
    last = study.cells[-1].recipes[0]
    assert (last.head.name, last.sampler.options["num_steps"], last.data.sequence_length) == ("flow", 2, 16)
    assert (study.match, study.share, study.baseline) == (Match(), (), "energy predict_first=true")
    assert (study.primary, study.seeds, study.launcher.name) == ("brier_lm", (1,), "local")


def test_each_cell_has_a_recipe_per_seed() -> None:
    study = read(HEAD + "seeds: [0, 7]\ngrid: {head: [energy, flow]}\nmatch: {by: steps}\n")
    assert [(cell.label, [recipe.seed for recipe in cell.recipes]) for cell in study.cells] == [
        ("energy", [0, 7]), ("flow", [0, 7]),
    ]  # fmt: skip
    assert study.seeds == (0, 7)


GRID = "grid: {head: [energy, flow, mixture], autoencoder.chunk_size: [2, 4]}\n"


def test_exclusions_leave_cells_out() -> None:
    """Six points less mixture at 2 and everything of flow: three."""
    study = read(HEAD + GRID + "exclude: [{head: mixture, autoencoder.chunk_size: 2}, {head: flow}]\n")
    assert [cell.label for cell in study.cells] == [
        "energy chunk_size=2", "energy chunk_size=4", "mixture chunk_size=4",
    ]  # fmt: skip


def test_conditions_set_what_only_some_cells_need() -> None:
    study = read(
        HEAD
        + "grid: {model: [{label: a, head: flow}, {label: b, head: energy}]}\n"
        + "when: [{if: {head: flow}, set: {head.num_steps: 8}}, {if: {model: b}, set: {head.depth: 1}}]\n"
    )
    flow, energy = (cell.recipes[0].head for cell in study.cells)
    assert (flow.name, flow.options["num_steps"]) == ("flow", 8)
    assert (energy.name, energy.options["depth"]) == ("energy", 1)


def test_a_baseline_is_named_or_picked() -> None:
    assert read(HEAD + GRID + "baseline: flow chunk_size=4\n").baseline == "flow chunk_size=4"
    picked = read(HEAD + GRID + "baseline: {head: flow, autoencoder.chunk_size: 4}\n")
    assert picked.baseline == "flow chunk_size=4"


def test_a_budget_alone_is_one_of_training_flops() -> None:
    assert read(HEAD + GRID + "match: {value: 1e12}\n").match.by == "train_flops"


def test_a_wrong_seed_is_told_at_its_line() -> None:
    with pytest.raises(RecipeError, match=r"s.yaml:5:1  \(seed\)"):
        read(HEAD + "grid: {head: [energy]}\nseeds: [a]\n")


def test_the_launcher_of_a_study_and_of_the_command_line() -> None:
    Path("s.yaml").write_text(HEAD + GRID + "launcher: {name: local, workers: 3}\n")
    manager = make_manager()
    assert load_study("s.yaml", manager).launcher.options["workers"] == 3
    given = load_study("s.yaml", manager, ["launcher.threads=2", "head.depth=1"])
    assert (given.launcher.options["workers"], given.launcher.options["threads"]) == (3, 2)
    assert all("head.depth=1" in cell.overrides for cell in given.cells)
    assert not any("launcher" in override for cell in given.cells for override in cell.overrides)
    with pytest.raises(RecipeError, match=r"CK120.*unknown launcher 'locl'"):
        load_study("s.yaml", manager, ["launcher=locl"])
    with pytest.raises(RecipeError, match=r"CK130.*unknown key 'worker'"):
        load_study("s.yaml", manager, ["launcher.worker=2"])


def test_a_trial_gets_one_device_unless_its_recipe_says_more() -> None:
    Path("small.yaml").write_text(Path("small.yaml").read_text().replace("devices: 1", "devices: auto"))
    (cell,) = read(HEAD + "grid: {head: [energy]}\n").cells
    assert cell.recipes[0].trainer.devices == "1"


def test_what_is_wrong_with_a_cell_is_told_at_its_line_in_the_study() -> None:
    with pytest.raises(RecipeError) as raised:
        read(HEAD + "grid:\n  heda: [energy]\n")
    assert "s.yaml:5:10" in str(raised.value)
    assert "cell 'heda=energy': unknown key 'heda'" in str(raised.value)
    with pytest.raises(RecipeError, match=r"s.yaml:5:\d+  \(head.num_drawz\)"):
        read(HEAD + "grid: {head: [energy]}\nwhen: [{if: {head: energy}, set: {head.num_drawz: 3}}]\n")


def test_overrides_come_after_the_settings_of_the_study_and_before_its_grid() -> None:
    Path("s.yaml").write_text(HEAD + "set: {data.sequence_length: 16}\ngrid: {head: [energy, flow]}\n")
    study = load_study("s.yaml", make_manager(), ["data.sequence_length=64", "stages.lm.max_steps=3"])
    assert [cell.overrides for cell in study.cells] == [
        ("data.sequence_length=16", "data.sequence_length=64", "stages.lm.max_steps=3", f"head={head}")
        for head in ("energy", "flow")
    ]
    assert {cell.recipes[0].data.sequence_length for cell in study.cells} == {64}
    assert study.overrides == ("data.sequence_length=64", "stages.lm.max_steps=3")


@pytest.mark.parametrize("override", ["head=flow", "head.name=flow", "seed=3", " head = flow"])
def test_an_override_of_what_the_cells_vary_is_refused(override: str) -> None:
    Path("s.yaml").write_text(HEAD + "seeds: [1, 2]\ngrid: {head: [energy, flow]}\n")
    with pytest.raises(RecipeError, match=r"CK133.*what the cells of this study vary"):
        load_study("s.yaml", make_manager(), [override])


def test_what_is_asked_of_the_cells() -> None:
    text = "relate: {x: nll_per_token, y: brier_lm}\nsamplers: [direct]\nsampling_units: 9\n"
    study = read(HEAD + "grid: {head: [energy]}\n" + text)
    assert study.relate == Relate("nll_per_token", "brier_lm")
    assert study.sampling is not None
    assert study.sampling.units == 9
    plain = read(HEAD + "grid: {head: [energy]}\n")
    assert (plain.relate, plain.sampling, plain.overrides) == (None, None, ())


def test_a_sampler_that_no_cell_can_serve_is_refused_when_the_study_is_read() -> None:
    """Nobody knows the solver foo; euler is flow's alone, so the diffusion cell is left out later."""
    grid = "grid: {head: [energy, diffusion, flow]}\n"
    with pytest.raises(RecipeError, match=r"CK143.*head 'diffusion' for what it can't do") as raised:
        read(HEAD + grid + "samplers: [direct, {name: direct, solver: foo}]\n")
    assert "s.yaml:5:35  (samplers[1].solver)" in str(raised.value)
    for solver in ("euler", "ddim"):
        sampling = read(HEAD + grid + f"samplers: [{{name: direct, solver: {solver}}}]\n").sampling
        assert sampling is not None
        assert sampling.samplers[0].stated == {"solver": solver}
    # where no head offers the option nobody can tell a wrong value; it is left out for every cell
    assert (
        read(HEAD + "grid: {head: [energy]}\nsamplers: [{name: direct, solver: foo}]\n").sampling is not None
    )


def test_values_that_are_lists_mappings_or_quoted_text_stay_so() -> None:
    study = read(
        HEAD
        + "grid:\n  m:\n    - label: a\n      description: 'it''s off'\n"
        + "      stages.lm.optimizer: {betas: [0.5, 0.6]}\n"
    )
    recipe = study.cells[0].recipes[0]
    assert recipe.stages.lm is not None
    assert recipe.stages.lm.optimizer.betas == (0.5, 0.6)
    assert recipe.description == "it's off"


def test_a_base_file_lies_beside_its_study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "s.yaml").write_text(HEAD + "grid: {head: [energy]}\n")
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert load_study(str(folder / "s.yaml"), make_manager()).cells[0].recipes[0].name == "small"


def test_the_shipped_studies_are_found_by_either_name() -> None:
    manager = make_manager()
    for name in shipped_files("studies"):
        assert load_study(name.removeprefix("studies/"), manager).path == find_recipe(name)
    assert load_study("likelihood", manager) == load_study("studies/likelihood", manager)


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("[1, 2]\n", "CK101", "s.yaml:1:1"),
        (HEAD + "grid: {head: [energy]}\nbudget: 3\n", "CK130", "unknown key 'budget'"),
        ("calmkit_study: 1\nname: s\nbase: small.yaml\n", "CK131", "needs the key 'grid'"),
        ("calmkit_study: 2\nname: s\nbase: small.yaml\ngrid: {head: [energy]}\n", "CK105", "version 1"),
        (HEAD + "grid: [energy]\n", "CK132", "the grid is empty"),
        (HEAD + "grid: {head: energy}\n", "CK132", "the axis 'head' is a list"),
        (HEAD + "grid: {}\n", "CK132", "s.yaml:4:1  (grid)"),
        (HEAD + "grid: {head: []}\n", "CK132", "the axis 'head' is a list"),
        (HEAD + "grid: {head: [[energy]]}\n", "CK132", "a scalar or a mapping"),
        (HEAD + "grid: {head: [energy]}\nseeds: 3\n", "CK132", "expected a list"),
        (HEAD.replace("name: s", "name: ../s") + "grid: {head: [energy]}\n", "CK133", "got '../s'"),
        (HEAD + "grid: {head: [energy]}\nseeds: []\n", "CK133", "seeds is an empty list"),
        (HEAD + "grid: {head: [energy]}\nset: 3\n", "CK132", "expected a mapping"),
        (HEAD + "grid: {head: [energy]}\nshare: [backbone]\n", "CK133", "'backbone' can't be shared"),
        (HEAD + "grid: {head: [energy]}\nmatch: {by: hours}\n", "CK133", "match says by what"),
        (HEAD + "grid: {head: [energy]}\nbaseline: flow\n", "CK133", "no cell is called 'flow'"),
        (HEAD + "grid: {head: [energy, energy]}\n", "CK133", "2 cells are called 'energy'"),
        (HEAD + "grid: {head: [energy]}\nset: {stages.lm: null}\n", "CK144", "trains no language model"),
        (HEAD + "grid: {head: [enrgy]}\n", "CK120", "did you mean 'energy'?"),
        (HEAD + "grid: {head: [energy]}\nname: t\n", "CK103", "name"),
        (HEAD + "grid: {head: [energy]}\nrelate: {x: b, y: brier_lm}\n", "CK133", "s.yaml:5:10  (relate.x)"),
        (HEAD + "grid: {head: [energy]}\nsamplers: [vot]\n", "CK120", "s.yaml:5:12"),
        (HEAD + GRID + "exclude: [{head: flw}]\n", "CK133", "did you mean 'flow'"),
        (HEAD + GRID + "exclude: [{hed: flow}]\n", "CK130", "did you mean 'head'"),
        (HEAD + GRID + "exclude: {head: flow}\n", "CK132", "exclude is a list"),
        (HEAD + GRID + "exclude: [{head: flow}, {head: flow}]\n", "CK133", "exclude[1] meets no cell"),
        (HEAD + "grid: {head: [flow]}\nexclude: [{head: flow}]\n", "CK133", "every cell is excluded"),
        (HEAD + GRID + "when: [{if: {head: flow}}]\n", "CK132", "keys 'if' and 'set'"),
        (
            HEAD + GRID + "exclude: [{head: flow}]\nwhen: [{if: {head: flow}, set: {head.depth: 1}}]\n",
            "CK133",
            "when[0] meets no cell",
        ),
        (HEAD + GRID + "baseline: {head: flow}\n", "CK133", "this picks 2"),
        (HEAD + GRID + "seeds: [1, 1]\n", "CK133", "the seed 1 stands 2 times"),
        (HEAD + GRID + "primary: perplexity\n", "CK133", "ranked by 'perplexity'"),
        (HEAD + GRID + "match: {by: train_flops, value: -3}\n", "CK133", "FLOPs above 0"),
        *(
            (HEAD + GRID + f"match: {{by: train_flops, value: {number}}}\n", "CK133", "FLOPs above 0")
            for number in (".inf", "inf", "1e999", ".nan", "nan")
        ),
        (HEAD + "grid: {stages.lm.optimizer.lr: [1e-3, .inf]}\n", "CK132", "a finite number, got '.inf'"),
        (HEAD + "grid: {head: [flow]}\nset: {autoencoder.kl_weight: nan}\n", "CK132", "s.yaml:5:"),
        (HEAD + GRID + "samplers: [{name: vote, temperature: .nan}]\n", "CK132", "samplers[0].temperature"),
        (HEAD + GRID + "match: {by: train_flops, key: head.width}\n", "CK133", "none is"),
        (HEAD + GRID + "match: {by: steps, vale: 3}\n", "CK130", "did you mean 'value'"),
        (HEAD + "grid: {stages.lm.max_steps: [2, 3]}\n", "CK133", "would change nothing"),
        (HEAD + GRID + "launcher: [local]\n", "CK132", "a launcher is a name"),
        (HEAD + GRID + "blocks: [30]\n", "CK133", "whole chunks of 4"),
        (HEAD + GRID + "blocks: 32\n", "CK132", "a list of lengths"),
        ("calmkit_study: 1\nname: s\nbase: nowhere.yaml\ngrid: {head: [energy]}\n", "CK100", "nowhere.yaml"),
    ],
)
def test_refusals(text: str, code: str, told: str) -> None:
    with pytest.raises(RecipeError) as raised:
        read(text)
    assert raised.value.problems[0].code == code
    assert told in str(raised.value)


@pytest.mark.parametrize("content", [None, b"caf\xe9"])
def test_a_study_that_cannot_be_read(folder: Path, content: bytes | None) -> None:
    if content is not None:
        (folder / "t.yaml").write_bytes(content)
    with pytest.raises(RecipeError, match=r"CK100.*t\.yaml"):
        load_study("t.yaml", make_manager())
    with pytest.raises(RecipeError, match=r"no study 'studies/quikstart'"):
        load_study("quikstart", make_manager())
