"""Loggers by name: Lightning's own, each found where its library is installed."""

from __future__ import annotations

import configparser
import netrc
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from calmkit.training.errors import RunFailed

CLASSES = {"tensorboard": "TensorBoardLogger", "wandb": "WandbLogger"}
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
}
"""Modules of which a logger needs one; a logger that is not here needs none."""

WANDB_HOST = "https://api.wandb.ai"


def make_loggers(names: Sequence[str], folder: Path) -> list[Any]:
    """The loggers of a recipe; `csv` writes `metrics.csv` into the run folder.

    Raises:
        RunFailed: For a name nobody knows, or a library that is not installed.
    """
    from lightning.pytorch import loggers

    from calmkit.training.metrics_file import MetricsFile

    made: list[Any] = []
    for name in names:
        if name not in ("csv", *CLASSES):
            raise RunFailed(f"No logger '{name}'. There are: csv, {', '.join(CLASSES)}.")
        if name == "csv":
            made.append(MetricsFile(folder))
            continue
        where = folder / name
        settings: dict[str, Any] = {"save_dir": str(where), "name": None, "version": ""}
        try:
            made.append(
                getattr(loggers, CLASSES[name])(**(settings if name != "wandb" else {"save_dir": str(where)}))
            )
        except ModuleNotFoundError as error:
            raise RunFailed(
                f"The logger '{name}' needs a library: pip install 'calmkit[{name}]', or leave it out."
            ) from error
    return made


def wandb_is_set_up() -> bool:
    """Whether wandb would begin without asking: a key, a mode that was chosen, or a terminal to ask on.

    Source: https://docs.wandb.ai/guides/track/environment-variables
    """
    chosen = ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_DISABLED")
    if any(os.environ.get(name) for name in chosen) or sys.stdin.isatty():
        return True
    config = Path(os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb")
    settings = [_wandb_settings(folder / "settings") for folder in (Path("wandb"), config)]
    if any(found.get(name) for found in settings for name in ("mode", "disabled", "api_key")):
        return True
    bases = [found["base_url"] for found in settings if "base_url" in found]
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or next(iter(bases), WANDB_HOST)).hostname
    return host is not None and _has_password(host)


def _wandb_settings(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
        return dict(parser["default"]) if "default" in parser else {}
    except (configparser.Error, UnicodeDecodeError, OSError):
        return {}


def _has_password(host: str) -> bool:
    """Whether the netrc file, where `wandb login` keeps the key, knows the host."""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
