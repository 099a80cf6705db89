"""Every registered part through the public conformance kit; guests join by being installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calmkit.registry import make_manager
from calmkit.testing import (
    check_autoencoder,
    check_backbone,
    check_embedder,
    check_head,
    check_launcher,
    check_measure,
    check_sampler,
)

CHECKS: dict[str, Callable[..., None]] = {
    "autoencoders": check_autoencoder,
    "backbones": check_backbone,
    "embedders": check_embedder,
    "heads": check_head,
    "launchers": check_launcher,
    "metrics": check_measure,
    "samplers": check_sampler,
}

# Settings that make a part small. What is not listed is checked with its defaults.
SMALL: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("autoencoders", "vae"): [
        {"hidden_dim": 32, "latent_dim": 6, "chunk_size": 3},
        {"hidden_dim": 32, "chunk_size": 1},
    ],
    ("autoencoders", "deterministic"): [{"hidden_dim": 32, "latent_dim": 6, "chunk_size": 3}],
    ("autoencoders", "sigma_vae"): [{"hidden_dim": 32, "latent_dim": 6, "chunk_size": 3}],
    ("autoencoders", "token_chunks"): [{"chunk_size": 3}, {"chunk_size": 1}],
    ("autoencoders", "patches"): [{}, {"patch": 4, "noise": 0.1}],
    ("autoencoders", "image_vae"): [
        {"channels": 8, "multipliers": (1, 2), "blocks": 1, "latent_dim": 3},
        {"channels": 4, "multipliers": (1, 2, 2), "blocks": 1, "attention": False, "reconstruction": "l1"},
    ],
    ("autoencoders", "image_sigma_vae"): [
        {"channels": 8, "multipliers": (1, 2), "blocks": 1, "latent_dim": 3},
    ],
    ("backbones", "transformer"): [
        {"hidden_dim": 32, "depth": 2, "heads": 4},
        {"hidden_dim": 32, "depth": 2, "heads": 4, "kv_heads": 2},
    ],
    ("backbones", "gru"): [{"hidden_dim": 32, "depth": 2}],
    ("embedders", "tokens"): [
        {},
    ],
    ("embedders", "latents"): [{}, {"norm": True}],
    ("heads", "diffusion"): [
        {"depth": 2, "num_steps": 8},
        {"depth": 1, "num_steps": 8, "prediction": "epsilon", "scheduler": "ddpm"},
        {"depth": 1, "num_steps": 8, "scheduler": "ddim"},
    ],
    ("heads", "flow"): [{"depth": 2, "num_steps": 4}, {"depth": 1, "num_steps": 4, "solver": "euler"}],
    ("heads", "local_ar"): [{"width": 16, "depth": 1, "heads": 2}],
    ("heads", "mixture"): [{"num_components": 3, "depth": 2}],
    ("launchers", "slurm"): [{"cluster": "local"}],
    ("samplers", "vote"): [{"candidates": 20}, {"temperature": 1.0}],
    ("samplers", "rejection"): [{}, {"temperature": 0.7}, {"temperature": 1.0}],
}

CASES = [
    pytest.param(kind, name, options, id=f"{kind}-{name}-{i}")
    for kind, parts in make_manager().parts.items()
    if kind in CHECKS
    for name, part in parts.items()
    # a guest's launcher may need a cluster, which its own suite finds or does without
    if kind != "launchers" or part.plugin.startswith("calmkit.")
    for i, options in enumerate(SMALL.get((kind, name), [{}]))
]


@pytest.mark.parametrize(("kind", "name", "options"), CASES)
def test_part_keeps_its_contract(
    kind: str, name: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where a launcher keeps its files
    CHECKS[kind](name, **options)
