"""load_autoencoder: what is taken from another run, and what is refused before a weight is touched.

`check_lineage` and `check_gate` by themselves stand in test_run.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from calmkit.autoencoders.vae import VAE
from calmkit.recipe.schema import Gate
from calmkit.text.tokenizers.bytes import BytesTokenizer
from calmkit.training.checkpoints import save_weights
from calmkit.training.errors import GateMissed, RunFailed
from calmkit.training.lineage import load_autoencoder

GATE = Gate(metric="val/token_accuracy", min=0.9)


def autoencoder(seed: int, latent_dim: int = 3) -> VAE:
    torch.manual_seed(seed)
    return VAE(257, chunk_size=2, latent_dim=latent_dim, hidden_dim=8)


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, VAE, dict[str, Any]]:
    """What stage 1 of another run leaves: the weights of an autoencoder, and its facts."""
    made = autoencoder(seed=1)
    facts = {
        "chunk_size": 2,
        "event": [3],
        "tokenizer": BytesTokenizer().fingerprint(),
        "reconstruction": {"token_accuracy": 0.95},
    }
    save_weights(tmp_path / "model" / "model.safetensors", made, "autoencoder")
    (tmp_path / "model" / "config.json").write_text(json.dumps(facts))
    return tmp_path, made, facts


def facts_of(mine: VAE) -> dict[str, Any]:
    """What the other run must share."""
    return {
        "chunk_size": mine.chunk_size,
        "event": list(mine.event.shape),
        "tokenizer": BytesTokenizer().fingerprint(),
    }


def weights(module: VAE) -> list[torch.Tensor]:
    return [value.clone() for value in module.state_dict().values()]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("gate", [GATE, None])
def test_the_weights_are_taken_and_the_facts_told(
    source: tuple[Path, VAE, dict[str, Any]], gate: Gate | None
) -> None:
    folder, theirs, facts = source
    mine = autoencoder(seed=2)
    assert not same(weights(mine), weights(theirs))
    assert load_autoencoder(folder, mine, facts_of(mine), gate) == facts
    assert same(weights(mine), weights(theirs))


def refused(folder: Path, mine: VAE, said: str, error: type[RunFailed] = RunFailed) -> None:
    before = weights(mine)
    with pytest.raises(error, match=said):
        load_autoencoder(folder, mine, facts_of(mine), GATE)
    assert same(weights(mine), before)


def test_another_width_is_refused(source: tuple[Path, VAE, dict[str, Any]]) -> None:
    refused(source[0], autoencoder(seed=2, latent_dim=4), r"its event is \[3\], this recipe's is \[4\]")


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (
            {"token_accuracy": 0.8},
            r"The autoencoder of .* reaches val/token_accuracy 0\.8000, below the gate of 0\.9",
        ),
        ({}, "asks for 'val/token_accuracy', which stage 1 does not measure; it measures: nothing"),
    ],
)
def test_one_below_the_gate_is_refused(
    source: tuple[Path, VAE, dict[str, Any]], scores: dict[str, float], said: str
) -> None:
    folder, _, facts = source
    (folder / "model" / "config.json").write_text(json.dumps(facts | {"reconstruction": scores}))
    refused(folder, autoencoder(seed=2), said, GateMissed)


def test_a_run_that_measured_nothing_passes_no_gate(source: tuple[Path, VAE, dict[str, Any]]) -> None:
    folder, _, facts = source
    del facts["reconstruction"]
    (folder / "model" / "config.json").write_text(json.dumps(facts))
    refused(folder, autoencoder(seed=2), "it measures: nothing", GateMissed)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, autoencoder(seed=2), r"model/config\.json is missing")


def test_facts_without_weights_are_refused(source: tuple[Path, VAE, dict[str, Any]]) -> None:
    (source[0] / "model" / "model.safetensors").unlink()
    refused(source[0], autoencoder(seed=2), r"Cannot read the weights .*model\.safetensors")
