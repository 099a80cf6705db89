"""What is asked of a trained run: a folder that is one, and overrides that it can still take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import click


@final
class RunFolder(click.ParamType):
    """A folder that holds a run; anything else is refused as wrong usage."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The folder, if it has what every run has."""
        folder = Path(value)
        if not (folder / "resolved.yaml").is_file():
            self.fail(
                f"'{value}' is no run folder: it has no resolved.yaml. 'calmkit ls runs' lists runs.",
                param,
                ctx,
            )
        return folder


def check_run(folder: Path) -> None:
    """Compare every file of a run folder with its checksum.

    Raises:
        DataError: Naming each file that was cut or altered, or is gone.
    """
    from calmkit.interfaces import DataError
    from calmkit.sums import faults
    from calmkit.training.errors import RunFailed
    from calmkit.training.snapshots import PATTERN, check_snapshot

    found = faults(folder)
    for described in sorted(folder.glob(f"checkpoints/*/{PATTERN}")):
        try:
            check_snapshot(described)
        except RunFailed as error:
            found.append(f"{error} A run that goes on takes the one before it; or delete it.")
    if found:
        raise DataError("\n".join(found))


def only(sections: Sequence[str], overrides: Sequence[str], cure: str = "") -> None:
    """Refuse overrides of what a trained run is made of; `cure` ends the sentence."""
    for override in overrides:
        if override.partition("=")[0].partition(".")[0] not in sections:
            raise click.UsageError(
                f"a trained run takes overrides of {', '.join(sections)} only, got '{override}'{cure}"
            )
