"""A recipe and a corpus so small that a run of both stages takes a second or two."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from calmkit.recipe.load import load_recipe
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, make_manager
from calmkit.training.errors import Stopped
from calmkit.training.going_on import recipe_to_go_on
from calmkit.training.resume import Wishes
from calmkit.training.resume_check import compare_runs
from calmkit.training.run import Run
from calmkit.training.train import train

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "red", "hen", "run", "to", "it"]

RECIPE = """\
calmkit: 1
name: small
data: {name: text, train: CORPUS, valid_fraction: 0.2, sequence_length: 32}
tokenizer: {name: bytes}
autoencoder: {name: vae, chunk_size: 4, latent_dim: 8, hidden_dim: 16}
embedder: {name: tokens}
backbone: {name: gru, hidden_dim: 16, depth: 1}
head: {name: energy, num_draws: 4, num_targets: 8}
sampler: {name: direct}
stages:
  autoencoder: {max_steps: 50, batch_size: 8, eval_every: 25, optimizer: {lr: 1e-2, warmup_steps: 5}}
  lm: {max_steps: 50, batch_size: 8, eval_every: 25, eval_rows: 3, optimizer: {lr: 1e-2, warmup_steps: 5}}
evaluation: {draws: 2, max_rows: 6, batch_size: 3, sample_tokens: 16}
trainer: {accelerator: cpu, devices: 1, precision: 32-true, log_every: 5}
"""
TINY = (
    "stages.autoencoder.max_steps=6",
    "stages.autoencoder.eval_every=3",
    "stages.lm.max_steps=8",
    "stages.lm.eval_every=3",
    "trainer.log_every=2",
)
"""Two stages of a few steps, each with two validations."""

SHORT = ("stages.autoencoder.max_steps=2", "stages.lm.max_steps=2", "evaluation.untrained=false")


@contextmanager
def workshop(folder: Path) -> Iterator[Path]:
    """`folder` with `small.yaml` and its corpus, a cache of its own, and float32 as users have it."""
    (folder / "corpus.jsonl").write_text(corpus())
    (folder / "small.yaml").write_text(RECIPE.replace("CORPUS", str(folder / "corpus.jsonl")))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALMKIT_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        yield folder
    torch.set_default_dtype(before)


def corpus(documents: int = 100) -> str:
    """Documents of 40 words each, one a line."""
    pick = random.Random(0)
    texts = (" ".join(pick.choice(WORDS) for _ in range(40)) for _ in range(documents))
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def small_recipe(folder: Path, *overrides: str, manager: Manager | None = None) -> Recipe:
    """The recipe of a workshop."""
    return load_recipe(folder / "small.yaml", overrides, manager or make_manager())


def small_run(
    folder: Path,
    out: str,
    *overrides: str,
    say: Any = None,
    manager: Manager | None = None,
    wishes: Wishes | None = None,
) -> Run:
    """A trained run in `folder / out`."""
    manager = manager or make_manager()
    recipe, say = small_recipe(folder, *overrides, manager=manager), say or (lambda line: None)
    return train(recipe, out=folder / out, say=say, manager=manager, wishes=wishes)


def go_on(
    folder: Path,
    *overrides: str,
    say: Any = None,
    manager: Manager | None = None,
    wishes: Wishes | None = None,
) -> Run:
    """A run folder, gone on with."""
    manager = manager or make_manager()
    recipe, say = recipe_to_go_on(folder, overrides, manager), say or (lambda line: None)
    return train(recipe, out=folder, say=say, manager=manager, wishes=wishes, resume=True)


def stopped(begin: Callable[..., Any], stage: str, step: int, *given: Any, **settings: Any) -> None:
    """`begin`, which is `small_run` or `go_on`, stopped behind a step."""
    with pytest.raises(Stopped, match=f"Stopped at step {step} of .* stage {stage}") as told:
        begin(*given, wishes=Wishes(stop=(stage, step)), **settings)
    assert told.value.code == 75


def differences(one: Run, other: Run) -> list[str]:
    """In what two runs differ: weights, losses, samples."""
    compared = compare_runs(one.folder, other.folder)
    return [f"{found.what}: {found.differs}" for found in compared if found.differs]


def column(run: Run, name: str) -> list[float]:
    """The values of a column of `metrics.csv`, rows without one left out."""
    with (run.folder / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def tensors(run: Run) -> dict[str, torch.Tensor]:
    """The weights of a run as they lie on disk."""
    from safetensors.torch import load_file

    return load_file(str(run.weights))


def rows_of(recipe: Recipe, prepared: Any, model: Any, batch_size: int, max_rows: int) -> Any:
    """Batches of prepared data, as a recipe says, for a model or an autoencoder."""
    autoencoder = getattr(model, "autoencoder", model)
    return prepared.rows(recipe, autoencoder, batch_size=batch_size, max_rows=max_rows)


def autoencoder_of(recipe: Recipe, manager: Manager | None = None) -> Any:
    """A fresh autoencoder of a recipe of bytes."""
    part = recipe.autoencoder
    return (manager or make_manager()).build("autoencoders", part.name, part.options, vocab_size=257)
