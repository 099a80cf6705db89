"""resume: what of a run folder is done, and from where its stages go on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch

from calmkit.interfaces import Batch
from calmkit.training.errors import RunFailed
from calmkit.training.metrics_file import MetricsFile
from calmkit.training.run import Run, read_json
from calmkit.training.snapshots import Snapshot, newest_snapshot, stage_folder

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
    """

    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    wishes: Wishes = field(default_factory=Wishes)

    def cut(self, metrics: MetricsFile) -> None:
        """Take the lines away that are about to be written again: those behind what is kept."""
        if self.trained:
            return
        if "lm" in self.snapshots:
            metrics.cut(self.snapshots["lm"].plain["lines"])
        elif self.encoded:
            metrics.cut(metrics.first_line("lm/"))
        else:
            begun = self.snapshots.get("autoencoder")
            metrics.cut(0 if begun is None else begun.plain["lines"])

    @property
    def encoded(self) -> bool:
        """Whether stage 1 is done, its autoencoder kept."""
        return "reconstruction" in self.facts

    @property
    def trained(self) -> bool:
        """Whether stage 2 is done, its model kept."""
        return "lm_steps" in self.facts

    def stop_at(self, stage: str) -> int | None:
        """The step behind which a stage is to stop."""
        stop = self.wishes.stop
        return stop[1] if stop is not None and stop[0] == stage else None


def find_resumed(run: Run, wishes: Wishes, say: Callable[[str], None]) -> Resumed:
    """What a run folder holds.

    Args:
        run: The run.
        wishes: Of the user.
        say: Takes what is wrong with a checkpoint.

    Raises:
        RunFailed: `model/config.json` is damaged.
    """
    path = run.folder / "model" / "config.json"
    facts = read_json(path) if path.exists() else {}
    found = {stage: newest_snapshot(stage_folder(run.folder, stage), say) for stage in STAGES}
    snapshots = {stage: snapshot for stage, snapshot in found.items() if snapshot is not None}
    return Resumed(snapshots, facts, wishes)


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
