"""The text path in numbers: what every tiny recipe of text gave before the core knew of other kinds of data.

Twenty steps of both stages in float64 on a small corpus: losses, BrierLM and a sample. They were recorded at
commit 90c6535 and must stay equal: widening the core changes no number. `python tests/test_text_golden.py`
records them anew, for a change that is meant to move them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import column, workshop

from calmkit.recipe.load import load_recipe, shipped_recipes
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, make_manager
from calmkit.training.train import train

FILE = Path(__file__).parent / "golden" / "text_path.json"
TOLERANCE = 1e-9  # relative, in float64: another machine may add in another order
OWN_DATA = "tiny/markov"  # its letters come from a seed; all others read a small corpus
SCORES = ("loss", "brier_lm", "brier_1", "brier_4", "units", "nll_per_token", "nll_bound_per_token")


def golden_recipe(name: str, folder: Path, manager: Manager) -> Recipe:
    """A tiny recipe, cut to twenty steps a stage."""
    words = [
        "stages.lm.max_steps=20",
        "stages.lm.eval_every=20",
        "stages.lm.batch_size=4",
        "evaluation.max_rows=4",
        "evaluation.draws=4",
        "evaluation.untrained=false",
        "evaluation.sample_tokens=32",
        "evaluation.sample_prompt=the cat ",
        "trainer.accelerator=cpu",
        "trainer.devices=1",
        "trainer.precision=64-true",
        "trainer.log_every=1",
    ]
    if name != OWN_DATA:
        words += ["data=text", f"data.train={folder / 'corpus.jsonl'}", "data.valid_fraction=0.2"]
        words += ["data.sequence_length=64"]
    else:
        words += ["evaluation.sample_prompt=''"]
    if load_recipe(name, (), manager).stages.autoencoder is not None:
        stage = "stages.autoencoder"
        words += [
            f"{stage}.max_steps=20",
            f"{stage}.eval_every=20",
            f"{stage}.batch_size=4",
            f"{stage}.gate=null",
        ]
    return load_recipe(name, words, manager)


def found(name: str, folder: Path) -> dict[str, Any]:
    """What the recipe gives here."""
    manager = make_manager()
    recipe = golden_recipe(name, folder, manager)
    run = train(recipe, out=folder / "run", say=lambda line: None, manager=manager)
    stages = ("autoencoder", "lm") if recipe.stages.autoencoder else ("lm",)
    evaluation = run.evaluation
    return {
        "losses": {stage: column(run, f"{stage}/train/loss") for stage in stages},
        "scores": {score: evaluation[score] for score in SCORES if score in evaluation},
        "sample": (run.folder / "samples.txt").read_text(encoding="utf-8"),
    }


def recorded() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(recorded()) if FILE.exists() else [])
def test_the_text_path_gives_the_numbers_that_it_gave(name: str, tmp_path: Path) -> None:
    with workshop(tmp_path):
        here = found(name, tmp_path)
    before = recorded()[name]
    assert here["sample"] == before["sample"]
    assert here["losses"].keys() == before["losses"].keys()
    for stage, losses in before["losses"].items():
        torch.testing.assert_close(here["losses"][stage], losses, rtol=TOLERANCE, atol=0)
    assert here["scores"].keys() == before["scores"].keys()
    for score, value in before["scores"].items():
        assert here["scores"][score] == pytest.approx(value, rel=TOLERANCE, abs=1e-12)


def test_every_tiny_recipe_of_text_is_recorded() -> None:
    names = {name for name in shipped_recipes() if name.startswith("tiny/")}
    recipes = {name: load_recipe(name) for name in names if not asks_another_run(name)}
    assert {name for name, recipe in recipes.items() if recipe.tokenizer is not None} == set(recorded())


def asks_another_run(name: str) -> bool:
    """Whether its objective does: it can't be trained alone, and tests/objectives holds what it gives."""
    lm = load_recipe(name).stages.lm
    return lm is not None and lm.objective.name != "data"


if __name__ == "__main__":
    import tempfile

    values: dict[str, Any] = {}
    tiny = [n for n in shipped_recipes() if n.startswith("tiny/") and not asks_another_run(n)]
    for recipe_name in sorted(tiny):
        with tempfile.TemporaryDirectory() as scratch, workshop(Path(scratch)) as place:
            values[recipe_name] = found(recipe_name, place)
        print(recipe_name, values[recipe_name]["scores"], flush=True)
    FILE.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
