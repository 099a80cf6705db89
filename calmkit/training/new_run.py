"""new_run: the folder of a run that begins, nobody else's, and the same one for all processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from calmkit.recipe.schema import Recipe
from calmkit.sums import begin_sums
from calmkit.training.checkpoints import not_written, write_text
from calmkit.training.errors import RunFailed
from calmkit.training.run import Run, is_rank_zero
from calmkit.training.run_folder import RESOLVED, holds_work

RUN_FOLDER_OF_RANK_ZERO = "CALMKIT_RUN_FOLDER"  # how the processes that Lightning starts find rank 0's folder


def refuse_used(folder: Path) -> None:
    """Refuse a folder in which something was trained.

    Raises:
        RunFailed: Naming what would do.
    """
    if is_rank_zero() and holds_work(folder):
        raise RunFailed(
            f"{folder} already holds a run; name another folder with --out, delete it, or go on with it: "
            f"calmkit train {folder}"
        )


def run_folder(recipe: Recipe, out: Path | None) -> Path:
    """The folder of a new run: `out`, or `runs/<name>/<stamp>/`, made and nobody else's."""
    stamped = Path("runs") / recipe.name / time.strftime("%Y%m%d-%H%M%S")
    return out or agreed_folder(lambda: claim_folder(stamped), RUN_FOLDER_OF_RANK_ZERO)


def new_run(recipe: Recipe, recipe_text: str, resolved_text: str, out: Path | None) -> Run:
    """Begin a run in `run_folder(recipe, out)`, with the recipe in it.

    What a start left there that trained nothing is replaced.

    Raises:
        RunFailed: Something was trained there, or the folder can't be written.
    """
    folder = run_folder(recipe, out)
    refuse_used(folder)
    if not is_rank_zero():
        return Run(folder)
    (folder / "lock.yaml").unlink(missing_ok=True)  # of the start that came to nothing
    try:
        folder.mkdir(parents=True, exist_ok=True)
        begin_sums(folder)
    except OSError as error:
        raise not_written(folder, error) from error
    write_text(folder / "recipe.yaml", recipe_text)
    write_text(folder / RESOLVED, resolved_text)
    return Run(folder)


def claim_folder(wished: Path) -> Path:
    """Make a folder that nobody else has: `wished`, or the first free one of `wished-2`, `wished-3`, ...

    Two processes that wish for the same folder at once get one each.

    Raises:
        RunFailed: It can't be made.
    """
    candidate, number = wished, 2
    while True:
        try:
            candidate.mkdir(parents=True)
        except FileExistsError as error:
            if not os.path.lexists(candidate):  # a link to nowhere stands where its parent should be
                raise not_written(candidate, error) from error
            candidate, number = wished.with_name(f"{wished.name}-{number}"), number + 1
        except OSError as error:
            raise not_written(candidate, error) from error
        else:
            return candidate


def agreed_folder(choose: Callable[[], Path], variable: str) -> Path:
    """The folder that rank 0 chooses, in every process.

    Over the process group where there is one; before that through the environment, which the processes that
    Lightning starts inherit.

    Raises:
        RunFailed: In a process that something else started: it inherits nothing.
    """
    if is_rank_zero():
        os.environ[variable] = str(choose())
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        chosen = [os.environ.get(variable)]
        torch.distributed.broadcast_object_list(chosen, src=0)
        os.environ[variable] = str(chosen[0])
    if variable not in os.environ:
        raise RunFailed(
            "Processes that were not started by calmkit can't agree on a folder; name it with --out."
        )
    return Path(os.environ[variable])
