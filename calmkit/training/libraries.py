"""is_installed: whether a module could be imported, found out without importing it."""

from __future__ import annotations

import importlib.util


def is_installed(module: str) -> bool:
    """Whether a top-level module is there. A mere folder of that name, such as wandb makes, is none."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None
