"""What an autoencoder's latents are like, measured on held-out text and kept with its run."""

from __future__ import annotations

from typing import Any

from calmkit.interfaces import Autoencoder, Tokenizer
from calmkit.text.datamodule import TextDataModule
from calmkit.text.metrics.latents import latent_diagnostics


def latents_as_text(
    autoencoder: Autoencoder, data: TextDataModule, tokenizer: Tokenizer, seed: int
) -> dict[str, Any]:
    """What `latents.json` holds, its examples as text; nothing for an autoencoder over ids."""
    found = latent_diagnostics(autoencoder, data.all_val_dataloader(), seed=seed)
    return _as_text(found, tokenizer) if found else {}


def _as_text(found: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """The diagnostics with every chunk of ids told as text."""
    projection = [
        {"x": point["x"], "y": point["y"], "text": tokenizer.decode(point["ids"])}
        for point in found["projection"]
    ]
    lines = [
        {
            "start": tokenizer.decode(line["start"]),
            "end": tokenizer.decode(line["end"]),
            "path": [tokenizer.decode(ids) for ids in line["path"]],
        }
        for line in found.get("interpolation", [])
    ]
    return found | {"projection": projection, "interpolation": lines}
