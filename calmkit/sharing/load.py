"""load: a trained model, ready, from a run folder, an exported one or the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calmkit.generation import Precision
from calmkit.registry import Manager
from calmkit.sharing.hub import fetch, is_id
from calmkit.training.device import find_device
from calmkit.training.errors import RunFailed
from calmkit.training.run import load_run


def load(
    source: Path | str,
    manager: Manager | None = None,
    overrides: Sequence[str] = (),
    *,
    revision: str | None = None,
    device: str = "cpu",
    precision: Precision = "auto",
) -> Any:
    """A trained model with its sampler, in eval mode, as its kind of data hands it out (a `Front`).

    Nothing that is read is executed: parts come from calmkit and the installed plugins, never from the files.

    Args:
        source: A run folder, an exported one, or, where no folder is called so, an id of the hub: ORG/NAME.
        manager: Parts; default all that are installed.
        overrides: Of the recipe; those of the sampler make sense here, others must still fit the weights.
        revision: Of the hub: a branch, a name that was given to a commit, or a commit; None: the newest.
        device: Of the model, such as `cpu`, `cuda:1` or `mps`; `auto`: the accelerator where there is one.
        precision: In which it draws; see `calmkit.generation.generate`.

    Raises:
        RecipeError: An override is wrong, or the recipe can't be built here.
        RunFailed: There is no such model, a file of it is missing, cut or altered, it was made by a newer
            calmkit or with a plugin that is not here; this machine has no such device.
    """
    find_device(device)
    folder = Path(source)
    if isinstance(source, str) and not folder.exists() and is_id(source):
        folder = fetch(source, revision)
    elif revision is not None:
        raise RunFailed(f"{source} is no model of the hub, and has no revisions; leave it out.")
    return load_run(folder, manager, overrides, device=device, precision=precision)
