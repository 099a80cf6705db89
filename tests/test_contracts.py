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
    check_conditioner,
    check_embedder,
    check_head,
    check_launcher,
    check_measure,
    check_order,
    check_sampler,
    check_transform,
)

CHECKS: dict[str, Callable[..., None]] = {
    "autoencoders": check_autoencoder,
    "backbones": check_backbone,
    "conditioners": check_conditioner,
    "embedders": check_embedder,
    "heads": check_head,
    "launchers": check_launcher,
    "metrics": check_measure,
    "orders": check_order,
    "samplers": check_sampler,
    "transforms": check_transform,
}

ENERGY = {"num_draws": 4, "num_targets": 8, "noise_dim": 4, "depth": 1}

# Settings that make a part small. What is not listed is checked with its defaults.
SMALL: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("autoencoders", "vae"): [
        {"hidden_dim": 32, "latent_dim": 6, "chunk_size": 3},
        {"hidden_dim": 32, "chunk_size": 1},
    ],
    ("autoencoders", "deterministic"): [{"hidden_dim": 32, "latent_dim": 6, "chunk_size": 3}],
    ("autoencoders", "sigma_vae"): [{"hidden_dim": 32, "latent_dim": 6, "chunk_size": 3}],
    ("autoencoders", "sphere_vae"): [{"hidden_dim": 32, "latent_dim": 6, "chunk_size": 3}],
    ("autoencoders", "past_vae"): [
        {"hidden_dim": 32, "latent_dim": 6, "chunk_size": 3},
        {"hidden_dim": 32, "latent_dim": 6, "chunk_size": 1, "past": 3},
    ],
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
    ("backbones", "any_order"): [
        {"hidden_dim": 32, "depth": 2, "decoder_depth": 1, "heads": 4, "buffer": 2},
        {"hidden_dim": 32, "depth": 0, "decoder_depth": 2, "heads": 4, "buffer": 1, "dropout": 0.1},
    ],
    ("conditioners", "label"): [{}, {"length": 3, "drop": 0.0}],
    ("embedders", "tokens"): [
        {},
    ],
    ("embedders", "latents"): [{}, {"norm": True}],
    ("heads", "diffusion"): [
        {"depth": 2, "num_steps": 8},
        {"depth": 1, "num_steps": 8, "prediction": "epsilon", "scheduler": "ddpm"},
        {"depth": 1, "num_steps": 8, "scheduler": "ddim"},
    ],
    ("heads", "energy"): [
        {},
        {**ENERGY, "num_codes": 3, "offset": 0.5, "marginal": 0.3, "likelihood_until": 0.5},
        {**ENERGY, "num_codes": 3, "noise": "modulation", "init_std": 0.3, "first_exponent": 0.5},
    ],
    ("heads", "flow"): [{"depth": 2, "num_steps": 4}, {"depth": 1, "num_steps": 4, "solver": "euler"}],
    ("heads", "local_ar"): [{"width": 16, "depth": 1, "heads": 2}],
    ("heads", "mean_flow"): [{"depth": 2}, {"depth": 1, "direction": "network", "weight_power": 1.0}],
    ("heads", "mixture"): [{"num_components": 3, "depth": 2}],
    ("heads", "strata"): [
        {"num_codes": 3, "noise_dim": 8},
        {"num_codes": 3, "noise_dim": 8, "depth": 1, "weights": "uniform", "init_std": 0.0},
    ],
    ("heads", "tied_mixture"): [
        {"num_components": 5, "depth": 1},
        {"num_components": 3, "offset": False, "repeats": 2},
    ],
    ("launchers", "slurm"): [{"cluster": "local"}],
    ("orders", "random"): [{}, {"steps": 4, "least_hidden": 0.2, "spread": 1.0}],
    ("orders", "confidence"): [{}, {"steps": 4, "choice_temperature": 0.0, "trained_progress": 1.0}],
    ("samplers", "vote"): [{"candidates": 20}, {"temperature": 1.0}],
    ("samplers", "rejection"): [{}, {"temperature": 0.7}, {"temperature": 1.0}],
    ("samplers", "sharpen"): [{}, {"temperature": 1.0, "draws_per_weight": 3}, {"merge": False}],
    ("transforms", "normalise"): [
        {},
        {"per": "all"},
        {"method": "robust"},
        {"method": "robust", "per": "all"},
        {"method": "robust", "reservoir": 7},
    ],
    ("transforms", "patchify"): [{}, {"patch": 1}, {"patch": 3}],
    ("transforms", "adaptor"): [{"blocks": 2}, {"blocks": 3, "width": 5, "mixing": "unit"}],
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
