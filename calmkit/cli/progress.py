"""`--progress FILE`: where a process stands, for programs that watch it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def progress_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option of verbs that work for long; a study gives it to its processes."""
    text = "Keep where it stands in FILE (JSON), for programs that watch."
    option = click.option("--progress", type=click.Path(path_type=Path), metavar="FILE", help=text)
    return option(command)
