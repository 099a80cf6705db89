"""What an autoencoder's latents are like, measured on held-out text and kept with its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calmkit.data.datamodule import TextDataModule
from calmkit.interfaces import Autoencoder, Tokenizer
from calmkit.metrics.latents import latent_diagnostics
from calmkit.training.checkpoints import write_json


def write_latents(
    folder: Path, autoencoder: Autoencoder, data: TextDataModule, tokenizer: Tokenizer, seed: int
) -> None:
    """Write `latents.json` into a run folder, its examples as text; nothing for an autoencoder over ids."""
    found = latent_diagnostics(autoencoder, data.all_val_dataloader(), seed=seed)
    if found:
        write_json(folder / "latents.json", _as_text(found, tokenizer))


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
