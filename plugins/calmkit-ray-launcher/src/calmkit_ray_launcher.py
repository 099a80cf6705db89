"""Ray launcher: the jobs of a study as tasks of a Ray cluster, or of a Ray that it starts on this machine.

Source: Ray Core, tasks. https://docs.ray.io/en/latest/ray-core/tasks.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Ended, Job, Launcher
from calmkit.launchers.children import note, run_command


@final
class RayLauncher(Launcher):
    """One Ray task per job; Ray decides how many run at once, by what each takes.

    All machines must see the folders of the jobs, and have calmkit. Ray gives a task its GPUs by
    CUDA_VISIBLE_DEVICES, and its number of CPUs as OMP_NUM_THREADS where that isn't set.

    Args:
        address: A cluster's, or `auto`; None: as Ray finds one, else a Ray of this machine.
        num_cpus: CPUs of a job.
        num_gpus: GPUs of a job, or a share of one.
    """

    def __init__(self, *, address: str | None = None, num_cpus: int = 1, num_gpus: float = 0.0) -> None:
        if num_cpus < 1 or num_gpus < 0:
            raise ValueError(
                f"ray: num_cpus must be at least 1 and num_gpus at least 0, got {num_cpus} and {num_gpus}; "
                "1 and 0 would do."
            )
        self.address = address
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        """Run all jobs; tell of each as it ends."""
        if not jobs:
            return
        import ray  # slow to load

        mine = not ray.is_initialized()
        if mine:
            ray.init(address=self.address, log_to_driver=False)
        task = ray.remote(num_cpus=self.num_cpus, num_gpus=self.num_gpus, max_retries=0)(run_command)
        running = {task.remote(job.command, job.log.absolute(), {}): job for job in jobs}
        try:
            while running:
                (done,), _ = ray.wait(list(running), num_returns=1)
                job = running.pop(done)
                try:
                    code = ray.get(done)
                except ray.exceptions.RayError as error:  # the machine is gone, or out of memory
                    note(job.log, f"the job was lost: {error}")
                    code = 1
                ended(job, code)
        finally:
            for left in running:
                ray.cancel(left)  # raises KeyboardInterrupt in the task, which stops the job
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=30)
            if mine:
                ray.shutdown()


@hookimpl
def calmkit_launchers() -> dict[str, type[Launcher]]:
    """The launcher of this plugin."""
    return {"ray": RayLauncher}
