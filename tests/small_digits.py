"""A recipe of digits so small that a run takes seconds, and such a run, trained once for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from calmkit.recipe.load import load_recipe
from calmkit.registry import make_manager
from calmkit.training.resume import Wishes
from calmkit.training.run import Run
from calmkit.training.train import train

RECIPE = """\
calmkit: 1
name: digits
data: {name: digits}
autoencoder: {name: patches, patch: 4, noise: 0.1}
transforms: [normalise]
conditioner: {name: label, drop: 0.2}
embedder: {name: latents}
backbone: {name: any_order, hidden_dim: 16, depth: 1, heads: 2, buffer: 2}
order: {name: random, steps: 2}
head: {name: diffusion, depth: 1, num_steps: 2}
sampler: {name: rows, guidance: 1.5, guidance_schedule: rising}
stages:
  autoencoder: null
  lm: {max_steps: 2, batch_size: 8, eval_every: 2, eval_rows: 16, optimizer: {lr: 1e-2, warmup_steps: 1}}
evaluation: {max_rows: 40, batch_size: 16, sample_rows: 20, untrained: false}
trainer: {accelerator: cpu, devices: 1, precision: 32-true, log_every: 1, ema: 0.9}
"""


@contextmanager
def workshop_of_digits(folder: Path) -> Iterator[Path]:
    """`folder` with `digits.yaml` and a cache; float32, a hasty feature network, few resamples."""
    (folder / "digits.yaml").write_text(RECIPE)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALMKIT_CACHE", str(folder / "cache"))
        patch.setattr("calmkit.images.measures.fit_network.STEPS", 20)
        patch.setattr("calmkit.images.scores.RESAMPLES", 40)
        patch.setattr("calmkit.registry.make_manager", lambda: make_manager(guests=[]))
        patch.chdir(folder)
        yield folder
    torch.set_default_dtype(before)


def digits_run(folder: Path, out: str, *overrides: str, say: Any = None, wishes: Wishes | None = None) -> Run:
    """A trained run in `folder / out`."""
    manager = make_manager(guests=[])
    recipe, say = load_recipe(folder / "digits.yaml", overrides, manager), say or (lambda line: None)
    return train(recipe, out=folder / out, say=say, manager=manager, wishes=wishes)
