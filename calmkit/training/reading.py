"""reading: files of a run folder as values, each compared with its checksum first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from calmkit.recipe.resolved import RESOLVED
from calmkit.training.checkpoints import check_file
from calmkit.training.errors import RunFailed


def read_resolved(folder: Path) -> str:
    """The text of a run's `resolved.yaml`.

    Raises:
        RunFailed: It was cut or altered, or is no text.
    """
    check_file(folder / RESOLVED)
    try:
        return (folder / RESOLVED).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunFailed(f"{folder / RESOLVED} can't be read: {error}. Take it from a copy.") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run folder.

    Raises:
        RunFailed: It is not there, can't be read, was cut or altered.
    """
    check_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFailed(
            f"{path} is missing: the run did not get that far, or its folder is no run folder."
        ) from error
    except OSError as error:
        raise RunFailed(f"{path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise RunFailed(f"{path} is damaged ({error}); run the step that writes it again.") from error
