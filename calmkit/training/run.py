"""Run: a folder that holds all that a result came from, and how a model is read back from it.

recipe.yaml  resolved.yaml  lock.yaml  metrics.csv  checkpoints/  model/  evaluation.json  samples.txt
run.sha256
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch.utilities import rank_zero_only

from calmkit.generation import Precision
from calmkit.recipe.assemble import assemble, build_sampler
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.fit_rows import drawing_fits
from calmkit.recipe.load import load_recipe
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, make_manager
from calmkit.sums import drop_sums, files_with_sums, put_sums
from calmkit.training.checkpoints import (
    check_file,
    load_weights,
    not_written,
    save_weights,
    write_json,
)
from calmkit.training.device import find_device
from calmkit.training.errors import RunFailed
from calmkit.training.exported import check_exported, is_exported, read_config, weights_in
from calmkit.training.reading import read_json
from calmkit.training.run_folder import RESOLVED

NO_METRICS = "evaluation.metrics=[]"  # for who reads a model: its metrics' plugin may have gone


@runtime_checkable
class Saves(Protocol):
    """What is kept beside weights, such as `Prepared`."""

    def save(self, folder: Path) -> None:
        """Write it into a folder."""


@dataclass(frozen=True)
class Run:
    """A run folder. Reading needs nothing but the folder; every write is moved into place."""

    folder: Path

    @property
    def model_folder(self) -> Path:
        """`model/`; of an exported run, the folder itself."""
        return self.folder if is_exported(self.folder) else self.folder / "model"

    @property
    def weights(self) -> Path:
        """The model's tensors, safetensors; of an exported run that fills several files, their index."""
        return weights_in(self.model_folder)

    def kept_folder(self, kept: str) -> Path:
        """What `DataKind.restore` reads, given the kind's name for it."""
        return self.folder if is_exported(self.folder) else self.folder / "model" / kept

    @property
    def facts(self) -> dict[str, Any]:
        """`model/config.json`: sizes, units, reconstruction, cost."""
        if is_exported(self.folder):
            return dict(read_config(self.folder)["facts"])
        return self._json("model/config.json")

    @property
    def evaluation(self) -> dict[str, Any]:
        """`evaluation.json`: the last evaluation's numbers."""
        return self._json("evaluation.json")

    @property
    def lock(self) -> dict[str, Any]:
        """`lock.yaml`, as `calmkit.training.lock` writes it; empty for a run that came from elsewhere.

        Raises:
            RunFailed: It was cut or altered.
        """
        import yaml

        check_file(self.folder / "lock.yaml")
        try:
            said = yaml.safe_load((self.folder / "lock.yaml").read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return {}
        return said if isinstance(said, dict) else {}

    @property
    def latents(self) -> dict[str, Any]:
        """`latents.json`: what its autoencoder's latents are like."""
        return self._json("latents.json")

    def recipe(self, manager: Manager | None = None, overrides: Sequence[str] = ()) -> Recipe:
        """The resolved recipe, with overrides if wished."""
        path = self.folder / RESOLVED
        if not path.is_file():
            raise RunFailed(
                f"{self.folder} is no run folder: it has no {RESOLVED}. `calmkit ls runs` lists runs."
            )
        return load_recipe(str(path), overrides, manager)

    def load(self, *, device: str = "auto", precision: Precision = "auto") -> Any:
        """The trained model with its sampler, in eval mode, as its kind hands it out; see `load_run`."""
        return load_run(self.folder, device=device, precision=precision)

    def save_model(
        self,
        module: torch.nn.Module,
        prepared: Saves,
        facts: Mapping[str, Any],
        *,
        kept: str,
        prefix: str = "",
    ) -> None:
        """Write `model/`: tensors, what the kind of data keeps, in the folder `kept`, and facts."""
        save_weights(self.weights, module, prefix)
        folder = self.kept_folder(kept)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            drop_sums(folder)
            prepared.save(folder)
            put_sums(*(path for path in folder.rglob("*") if path.is_file()))
        except OSError as error:
            raise not_written(folder, error) from error
        write_json(self.folder / "model" / "config.json", facts)

    def _json(self, name: str) -> dict[str, Any]:
        return read_json(self.folder / name)


def wait_for_all() -> None:
    """Until every process is here: what rank 0 wrote can be read by all."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    try:
        torch.distributed.barrier()
    except RuntimeError:
        if is_rank_zero():
            raise
        raise SystemExit(0) from None  # rank 0 has gone, and has said why


def is_rank_zero() -> bool:
    """True in the one process that writes files: Lightning's own answer, also before a trainer exists."""
    return getattr(rank_zero_only, "rank", 0) == 0


def load_run(
    folder: Path | str,
    manager: Manager | None = None,
    overrides: Sequence[str] = (),
    *,
    device: str = "auto",
    precision: Precision = "auto",
) -> Any:
    """Read a run folder, or one that was exported: the model in eval mode, with the sampler of its recipe, as
    its kind of data hands it out (a `Front`).

    Args:
        folder: The run's.
        manager: Parts; default all that are installed.
        overrides: Of the recipe; those of the sampler make sense here, others must still fit the weights.
        device: Of the model, such as `cpu`, `cuda:1` or `mps`; `auto`: the accelerator where there is one.
        precision: In which it writes; see `calmkit.generation.generate`.

    Raises:
        RecipeError: An override is wrong, or the sampler can't draw what the model makes (CK143).
        RunFailed: If this machine has no such device, or the folder holds no trained model; what
            `check_exported` finds.
    """
    place = find_device(device)
    run = Run(Path(folder))
    manager = manager or make_manager()
    if is_exported(run.folder):
        check_exported(run.folder, manager)
    recipe = run.recipe(manager, [*overrides, NO_METRICS])
    if "lm_steps" not in run.facts:
        raise RunFailed(
            f"{run.folder} holds a trained autoencoder and nothing on top of it: its stage 2 "
            + ("did not end." if recipe.stages.lm else "is null.")
            + " stages.autoencoder.init_from takes the autoencoder into a run that trains one."
        )
    kind = kind_of(recipe, manager)
    for path in files_with_sums(run.kept_folder(kind.words.kept)):
        check_file(path)
    kept = kind.restore(recipe, manager, run.kept_folder(kind.words.kept))
    model = assemble(recipe, manager, kept.sizes)
    unfit = [*drawing_fits(recipe, manager, model)]
    if unfit:
        raise RecipeError(unfit)
    sampler = build_sampler(recipe, manager, model.head)
    load_weights(run.weights, model)
    return kind.front(model.eval().to(place), kept, sampler, precision)
