"""SLURM: the jobs of a study as one array of a cluster, submitted through submitit.

Source: submitit. https://github.com/facebookincubator/submitit
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Ended, Job, LastingLauncher, Launcher, StatesRoom
from calmkit.launchers.children import (
    CANNOT_START,
    Guard,
    note,
    run_command,
    terminable,
    thread_variables,
)
from calmkit.launchers.slurm_left import cancel, cancel_noted, forget_job, note_job, stop_command
from calmkit.nn.settings import require_at_least

if TYPE_CHECKING:
    import submitit

POLL = 1.0
"""Seconds between two looks at the files of the jobs; SLURM itself is asked ever more rarely, by submitit."""

GRACE = 10.0
"""Seconds that cancelled jobs have to end before the launcher leaves."""

REQUEUE = 120.0
"""Seconds that SLURM has to queue a preempted job again before it counts as lost."""

LOST = {
    "OUT_OF_MEMORY": -9,
    "TIMEOUT": 124,  # as timeout(1) has it
    "DEADLINE": 124,
    "CANCELLED": -15,
    "INTERRUPTED": -15,  # submitit's own word, on this machine
    "PREEMPTED": 1,
    "NODE_FAIL": 1,
    "BOOT_FAIL": 1,
    "REVOKED": 1,
}
"""Exit codes of jobs that leave none, by their state in SLURM."""


@final
class SlurmLauncher(StatesRoom, LastingLauncher):
    """One SLURM array; every job gets the same share of the cluster.

    The study waits for it on a machine from which jobs are submitted. All goes through the file system: the
    current folder, those of the jobs and Python must be where every machine sees them. submitit pickles what
    it submits, and reads pickles back, in `folder`: let nobody else write there.

    Ctrl-C and SIGTERM cancel the jobs, and where the launcher is killed outright a small process that guards
    it does. What is left all the same, as when the machine itself goes down, is cancelled when the study goes
    on: the number of each job stands beside its log while it runs. A job that is lost is noticed by its
    record in `sacct`, up to ten minutes later; without accounting, never.

    Args:
        workers: Jobs at once, the `%` of the array. On cluster `local` all run at once.
        partition: Where they run; None: SLURM's default.
        timeout_min: Minutes that a job may take.
        cpus_per_task: Cores of a job, and its threads where OMP_NUM_THREADS isn't set.
        gpus_per_node: GPUs of a job; None: as many as the job that asks for most, none where none asks.
        mem_gb: Memory of a job; None: SLURM's default.
        setup: Shell lines that run before a job, such as `module load cuda`.
        additional: More options of `sbatch`, without the dashes; true for those that take no value.
        folder: Where submitit keeps its files.
        cluster: `local` tries a study out on this machine, by submitit but without SLURM.

    Raises:
        ValueError: submitit isn't installed, or a number is below 1. From `run`: SLURM isn't there.

    Source:
        submitit.
    """

    def __init__(
        self,
        *,
        workers: int = 16,
        partition: str | None = None,
        timeout_min: int = 240,
        cpus_per_task: int = 4,
        gpus_per_node: int | None = None,
        mem_gb: int | None = None,
        setup: Sequence[str] = (),
        additional: dict[str, bool | str] | None = None,
        folder: str = "slurm",
        cluster: Literal["slurm", "local"] = "slurm",
    ) -> None:
        require_at_least("slurm", 1, workers=workers, timeout_min=timeout_min, cpus_per_task=cpus_per_task)
        require_at_least("slurm", 1, mem_gb=mem_gb)
        require_at_least("slurm", 0, gpus_per_node=gpus_per_node)
        if importlib.util.find_spec("submitit") is None:
            raise ValueError('slurm: submitit is not installed; pip install "calmkit[slurm]" would do.')
        self.workers = workers
        self.gpus_per_node = gpus_per_node
        self.threads = cpus_per_task
        self.folder = folder
        self.cluster = cluster
        self.parameters: dict[str, Any] = {
            "name": "calmkit",
            "timeout_min": timeout_min,
            "cpus_per_task": cpus_per_task,
            "mem_gb": mem_gb,
            "slurm_partition": partition,
            "slurm_array_parallelism": workers,
            "slurm_setup": list(setup),
            # srun no longer takes it over from sbatch. https://slurm.schedmd.com/sbatch.html#OPT_cpus-per-task
            "slurm_srun_args": [f"--cpus-per-task={cpus_per_task}"],
            "slurm_additional_parameters": {
                name.replace("-", "_"): value
                for name, value in (additional or {}).items()
                if value is not False
            },
        }

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        """Run all jobs; tell of each as it ends."""
        if not jobs:
            return
        if self.cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise ValueError(
                "slurm: no sbatch and srun on PATH; a login node of the cluster, or launcher.cluster=local "
                "for a try on this machine, would do."
            )
        try:
            handles = self._submit(jobs)
        except (RuntimeError, OSError) as error:  # submitit's errors are RuntimeErrors
            for job in jobs:
                note(job.log, f"could not be submitted: {error}")
                ended(job, CANNOT_START)
            return
        running, guard, stop = dict(enumerate(handles)), Guard(), stop_command(handles, self.cluster)
        guard.tell(stop)
        try:
            with terminable():
                self._wait(jobs, running, ended)
        except BaseException:  # also where this process is told to end: nobody would wait for them
            left = cancel(list(running.values()), GRACE)
            for number in (number for number, handle in running.items() if handle not in left):
                forget_job(jobs[number].log)
            guard.tell(stop)
            raise
        else:
            guard.tell(stop)
        finally:
            guard.close()

    def at_once(self, jobs: Sequence[Job]) -> int:
        """As many as the array lets run, if the cluster has room."""
        return max(1, len(jobs) if self.cluster == "local" else min(self.workers, len(jobs)))

    def stop_left(self, logs: Sequence[Path]) -> list[Path]:
        """By the notes that an earlier launcher left."""
        return cancel_noted(self.folder, logs) if self.cluster == "slurm" else []

    def _wait(self, jobs: Sequence[Job], running: dict[int, submitit.Job[int]], ended: Ended) -> None:
        """Until all have ended."""
        preempted = dict[str, float]()
        if self.cluster == "slurm":
            for number, handle in running.items():
                note_job(jobs[number].log, handle.job_id)
        while running:
            for number, handle in list(running.items()):
                if over(handle, preempted):
                    del running[number]
                    forget_job(jobs[number].log)
                    ended(jobs[number], exit_code(jobs[number], handle))
            time.sleep(POLL if running else 0)

    def _submit(self, jobs: Sequence[Job]) -> list[submitit.Job[int]]:
        import submitit

        gpus = self.gpus_per_node
        if gpus is None:
            gpus = max((job.devices for job in jobs if job.accelerator), default=None)
        executor = submitit.AutoExecutor(self.folder, cluster=self.cluster)
        executor.update_parameters(**self.parameters, gpus_per_node=gpus)
        # Else Lightning leaves it to SLURM to start a task for each device of a run, and one task is there.
        # https://lightning.ai/docs/pytorch/stable/clouds/cluster_advanced.html#interactive-mode
        variables = {"SLURM_JOB_NAME": "interactive", **thread_variables(self.threads)}
        logs = [job.log.absolute() for job in jobs]
        return executor.map_array(run_command, [job.command for job in jobs], logs, [variables] * len(jobs))


def over(handle: submitit.Job[int], preempted: dict[str, float]) -> bool:
    """Whether a job will run no more; submitit waits for preempted ones, queued again or not.

    Args:
        handle: The job.
        preempted: When jobs were first seen to be; kept from look to look.
    """
    if handle.done():
        return True
    if handle.state != "PREEMPTED":
        preempted.pop(handle.job_id, None)
        return False
    if time.monotonic() - preempted.setdefault(handle.job_id, time.monotonic()) < REQUEUE:
        return False
    handle.get_info(mode="force")  # what is known may be old
    return handle.state == "PREEMPTED"


def exit_code(job: Job, handle: submitit.Job[int]) -> int:
    """The exit code of a job that is over; where it left none, its log gets the reason."""
    state = "" if handle.paths.result_pickle.exists() else handle.state.split(" ")[0]  # "CANCELLED by 1000"
    error = f"its state is {state}" if state in LOST else handle.exception()
    if error is None:
        return handle.result()
    note(job.log, f"job {handle.job_id} was lost: {error}")
    return LOST.get(state, 1)


@hookimpl
def calmkit_launchers() -> dict[str, type[Launcher]]:
    """Register this part."""
    return {"slurm": SlurmLauncher}
