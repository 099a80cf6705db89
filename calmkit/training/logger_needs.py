"""What loggers need of the machine: libraries, and for wandb's server an account; none is loaded for it."""

from __future__ import annotations

import configparser
import netrc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "sqlalchemy"),  # the second is not in mlflow-skinny
    "trackio": ("trackio",),
}
"""Modules that a logger needs; one that is not here needs none."""

WANDB_HOST = "https://api.wandb.ai"


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
