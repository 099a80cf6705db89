"""resume: what of a run folder is done, and from where its stages go on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from calmkit.interfaces import Batch
from calmkit.recipe.schema import Recipe
from calmkit.training.errors import RunFailed
from calmkit.training.metrics_file import MetricsFile
from calmkit.training.run import Run, read_json
from calmkit.training.run_folder import is_measured
from calmkit.training.snapshots import PATTERN, Snapshot, newest_snapshot, stage_folder, step_of

STAGES = ("autoencoder", "lm")


@final
@dataclass(frozen=True)
class Wishes:
    """How a run is wished to begin or to go on.

    Attributes:
        skip_batch: The next batch of the stage that goes on is left out.
        lr_scale: Factor on the learning rate of the stage that goes on, from there on.
        stop: A stage, and the step behind which the run stops as if a signal had asked for it.
    """

    skip_batch: bool = False
    lr_scale: float = 1.0
    stop: tuple[str, int] | None = None


@final
@dataclass(frozen=True)
class Resumed:
    """Where a run goes on; without anything, from its beginning.

    Attributes:
        snapshots: Of each stage that had begun, the newest.
        facts: `model/config.json` as far as it was written.
        wishes: Of the user.
        encoded: Whether stage 1 is done, its autoencoder kept.
        trained: Whether stage 2 is done, its model kept.
    """

    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    wishes: Wishes = field(default_factory=Wishes)
    encoded: bool = False
    trained: bool = False

    def cut(self, metrics: MetricsFile) -> None:
        """Take the lines away that are about to be written again: those behind what is kept.

        Raises:
            RunFailed: Those that stay were cut or altered.
        """
        if self.trained:
            return
        known = self.snapshots.get("lm") or self.snapshots.get("autoencoder")
        if known is not None:
            metrics.check(known.plain["lines"], known.plain.get("metrics", ""))
        if "lm" in self.snapshots:
            metrics.cut(self.snapshots["lm"].plain["lines"])
        elif self.encoded:
            metrics.cut(metrics.first_line("lm/"))
        else:
            begun = self.snapshots.get("autoencoder")
            metrics.cut(0 if begun is None else begun.plain["lines"])

    def check_wishes(self, recipe: Recipe) -> None:
        """Refuse wishes that nothing could follow.

        Raises:
            RunFailed: The stage that goes on has no checkpoint, so nothing to change on the way.
        """
        if not self.wishes.skip_batch and self.wishes.lr_scale == 1:
            return
        stage, _ = self.place(recipe)
        if self.trained or stage not in self.snapshots:
            why = "every step is taken" if self.trained else f"stage {stage} has no checkpoint yet"
            raise RunFailed(
                f"--skip-batch and --lr-scale change how a stage goes on from a checkpoint, and {why}. Train "
                "without them."
            )

    def place(self, recipe: Recipe) -> tuple[str, int]:
        """The stage that goes on, and how many steps of it were taken."""
        encoded = "lm" in self.snapshots or self.encoded or recipe.stages.autoencoder is None
        stage = "lm" if encoded and recipe.stages.lm is not None else "autoencoder"
        begun = self.snapshots.get(stage)
        return stage, 0 if begun is None else begun.step

    def goes_on(self, group: str) -> int | None:
        """The first step of a group of metrics, such as `lm/train`, that is logged again; None: none is.

        Logged steps count from 0, so the training of the last step that is kept is logged under the number
        before it; a validation behind that step is made again.
        """
        stage, _, what = group.partition("/")
        if self.trained or (stage == STAGES[0] and (self.encoded or STAGES[1] in self.snapshots)):
            return None
        begun = self.snapshots.get(stage)
        return 0 if begun is None else max(0, begun.step - (what == "val"))

    def stop_at(self, stage: str) -> int | None:
        """The step behind which a stage is to stop."""
        stop = self.wishes.stop
        return stop[1] if stop is not None and stop[0] == stage else None


def find_resumed(run: Run, recipe: Recipe, wishes: Wishes, say: Callable[[str], None]) -> Resumed:
    """What a run folder holds, and which stages are done with it.

    Args:
        run: The run.
        recipe: That it is to follow from here on.
        wishes: Of the user.
        say: Takes what is wrong with a checkpoint.

    Raises:
        RunFailed: `model/config.json` is damaged, or a stage was trained for longer than the recipe says, or
            is to be trained for longer and has no checkpoint left.
    """
    facts = _facts(run)
    found = {stage: newest_snapshot(stage_folder(run.folder, stage), say) for stage in STAGES}
    snapshots = {stage: snapshot for stage, snapshot in found.items() if snapshot is not None}
    wished, taken = _wished(recipe), {stage: snapshot.step for stage, snapshot in snapshots.items()}
    if "lm_steps" in facts:
        taken["lm"] = max(facts["lm_steps"], taken.get("lm", 0))
    for stage, steps in wished.items():
        if taken.get(stage, 0) > steps:
            raise RunFailed(
                f"{run.folder} stands at step {taken[stage]:,} of stage {stage}, behind the {steps:,} of "
                f"stages.{stage}.max_steps. Steps can't be taken back; name at least {taken[stage]:,}."
            )
    trained = "lm_steps" in facts and facts["lm_steps"] == wished.get("lm", facts["lm_steps"])
    if "lm_steps" in facts and not trained and "lm" not in snapshots:
        raise RunFailed(
            f"{run.folder} has no checkpoint of stage lm left from which it could be trained for longer. "
            f"A new run may begin with its weights: stages.lm.init_from={run.folder}."
        )
    encoded = "reconstruction" in facts
    if "autoencoder" in taken and "lm" not in taken:
        encoded = encoded and taken["autoencoder"] == wished.get("autoencoder")
    return Resumed(snapshots, facts, wishes, encoded, trained)


def _wished(recipe: Recipe) -> dict[str, int]:
    """Stage -> steps."""
    stages = {"autoencoder": recipe.stages.autoencoder, "lm": recipe.stages.lm}
    return {name: stage.max_steps for name, stage in stages.items() if stage is not None}


def stage_began(run: Path, stage: str) -> bool:
    """Whether a run folder holds a checkpoint of a stage, whole or not."""
    return any(stage_folder(run, stage).glob(PATTERN))


def is_finished(run: Run, recipe: Recipe) -> bool:
    """Whether a run was trained for all steps of a recipe, and measured.

    Raises:
        RunFailed: `model/config.json` is damaged.
    """
    facts = _facts(run)
    if recipe.stages.lm is not None:
        return facts.get("lm_steps") == recipe.stages.lm.max_steps and is_measured(run.folder)
    begun = [step_of(path) for path in stage_folder(run.folder, "autoencoder").glob(PATTERN)]
    return "reconstruction" in facts and (not begun or max(begun) == _wished(recipe).get("autoencoder"))


def _facts(run: Run) -> dict[str, Any]:
    path = run.folder / "model" / "config.json"
    return read_json(path) if path.exists() else {}


def batch_digest(batch: Batch) -> str:
    """SHA-256 of what a batch holds, hexadecimal: the same for the same rows on every machine."""
    digest = hashlib.sha256()
    tensors = {"data": batch.data, "valid": batch.valid, "predict": batch.predict, **batch.condition}
    for name, value in sorted(tensors.items()):
        if value is not None:
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_next_batch(snapshot: Snapshot, skipped: int, rows_per_step: int, digest: str) -> None:
    """Refuse data that changed under a run: the batch that comes next must be the one that was to come.

    Args:
        snapshot: Where the run goes on.
        skipped: Rows that it leaves out on purpose.
        rows_per_step: Of all processes; with another number than before nothing can be compared.
        digest: Of the next batch.

    Raises:
        RunFailed: It is another batch.
    """
    known = snapshot.plain["next_batch"]
    if skipped or known["rows"] != rows_per_step or known["sha256"] == digest:
        return
    raise RunFailed(
        f"The data changed since step {snapshot.step} of stage {snapshot.stage} was kept: the batch behind "
        f"row {snapshot.rows:,} was {known['sha256'][:12]}, and is {digest[:12]} now. Bring it back, or "
        "begin a new run with stages.lm.init_from."
    )
