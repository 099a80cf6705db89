"""What a whole training tells of itself: every phase, in its order, in plain lines and in its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_runs import small_recipe, workshop

from calmkit.registry import make_manager
from calmkit.training.evaluate import evaluate
from calmkit.training.progress import Progress
from calmkit.training.standing import StandingFile, read_standing
from calmkit.training.train import train

SMALL = (
    "stages.autoencoder.max_steps=2",
    "stages.lm.max_steps=2",
    "tokenizer=bpe",
    "tokenizer.vocab_size=260",
)
AFTER = ["evaluation", "counting n-grams", "timing the sampler"]


@pytest.fixture(autouse=True)
def float32() -> None:
    """As users have it; `conftest.py` puts the default back."""
    torch.set_default_dtype(torch.float32)


def phases(file: Path) -> list[str]:
    standing = read_standing(file)
    assert standing is not None
    return [*standing.over, standing.phase]


def test_every_phase_of_a_training_and_of_an_evaluation(tmp_path: Path) -> None:
    lines, told, again = list[str](), tmp_path / "train.json", tmp_path / "eval.json"
    with workshop(tmp_path) as folder:
        manager = make_manager()
        recipe = small_recipe(folder, *SMALL, manager=manager)
        run = train(
            recipe, out=folder / "run", say=lines.append, manager=manager, standing=StandingFile(told)
        )
        evaluate(run.folder, manager=manager, progress=Progress(file=StandingFile(again), terminal=False))
    assert phases(told) == [
        "reading text for the tokenizer",
        "the tokenizer learns from it",
        "tokenising the training text",
        "tokenising the held-out text",
        "autoencoder",
        "evaluation, untrained",
        "lm",
        *AFTER,
        "writing a sample",
    ]
    assert phases(again) == AFTER
    assert lines[:4] == phases(told)[:4]
    without_parts = [*AFTER[1:], "writing a sample"]
    assert [line for line in lines if line in without_parts] == without_parts
    assert [line.split("  ")[:2] for line in lines if "  step 2/2" in line] == [
        ["autoencoder", "step 2/2"],
        ["lm", "step 2/2"],
    ]
