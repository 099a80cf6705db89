"""What outlives a launcher of SLURM jobs, and how it is ended: by a guard, or by notes at the next start.

A launcher that is killed outright leaves its array running. Its guard, a process that outlives it, then
cancels the array. Where the whole machine went down there is no guard left; so the number of each job stands
in a note beside its log, and whoever starts the same job again cancels the one before.

Source: scancel(1). https://slurm.schedmd.com/scancel.html
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import submitit

POLL = 1.0
"""Seconds between two questions to SLURM."""

KILL_WAIT = 60.0
"""Seconds that the jobs of an earlier launcher have to end; SLURM itself kills them after 30."""


def stop_command(handles: Sequence[submitit.Job[int]], cluster: str) -> list[str]:
    """What ends jobs from outside: their whole array, or on this machine their processes."""
    ids = list(dict.fromkeys(handle.job_id.partition("_")[0] for handle in handles))
    return ["scancel", *ids] if cluster == "slurm" else ["kill", "-INT", *ids]


def note_of(log: Path) -> Path:
    """Where the number of the job that writes a log is kept while it runs."""
    return log.with_name(f"{log.name}.slurm.json")


def note_job(log: Path, job_id: str) -> None:
    """Keep the number of a job. A note that can't be written is missed only if this machine goes down."""
    with contextlib.suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        note_of(log).write_text(json.dumps({"job": job_id}), encoding="utf-8")


def forget_job(log: Path) -> None:
    """The job has ended."""
    with contextlib.suppress(OSError):
        note_of(log).unlink(missing_ok=True)


def noted_job(log: Path) -> str | None:
    """The number of the job that an earlier launcher left with this log."""
    try:
        found = json.loads(note_of(log).read_text(encoding="utf-8"))["job"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def cancel(handles: Sequence[submitit.Job[int]], patience: float) -> list[submitit.Job[int]]:
    """Cancel jobs, and give them some seconds to end; those that have not are returned."""
    for handle in handles:
        handle.cancel(check=False)
    end, left = time.monotonic() + patience, list(handles)
    while left and time.monotonic() < end:
        left[0].get_info(mode="force")  # asks SLURM once, for all
        left = [handle for handle in left if not handle.done()]
        time.sleep(POLL if left else 0)
    return left


def cancel_noted(folder: str, logs: Sequence[Path]) -> list[Path]:
    """Cancel the jobs that notes tell of, and wait until they have ended.

    Args:
        folder: submitit's.
        logs: Of the jobs that will be started again.

    Returns:
        The logs whose jobs had not ended.
    """
    import submitit

    noted = {log: job for log in logs if (job := noted_job(log)) is not None}
    handles = {log: submitit.SlurmJob[int](folder, job) for log, job in noted.items()}
    left = {log: handle for log, handle in handles.items() if not handle.done(force_check=True)}
    cancel(list(left.values()), KILL_WAIT)
    for log in noted:
        forget_job(log)
    return list(left)
