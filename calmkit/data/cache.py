"""Where what was read and made from data is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache() -> Path:
    """`CALMKIT_CACHE`, else `calmkit` in `XDG_CACHE_HOME`, else `~/.cache/calmkit`."""
    chosen = os.environ.get("CALMKIT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "calmkit"
