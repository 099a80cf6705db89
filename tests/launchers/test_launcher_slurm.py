"""Jobs through submitit: as processes of this machine, and by commands that stand in for SLURM's."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from small_jobs import log, python, run, wait_for

from calmkit.interfaces import Job
from calmkit.launchers import slurm, slurm_left
from calmkit.launchers.slurm import SlurmLauncher
from calmkit.launchers.slurm_left import note_job, noted_job
from calmkit.part_settings import settings
from calmkit.recipe.convert import convert, to_node
from calmkit.recipe.errors import Mark
from calmkit.testing.launchers import check_launcher

pytest.importorskip("submitit", reason="submitit is not installed")

COMMANDS = {
    "sbatch": """
[ -e $SLURM_HERE/refusal ] && { cat $SLURM_HERE/refusal >&2; exit 1; }
cp "$1" $SLURM_HERE/script
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
for i in $(seq 0 $last); do
    [ -e $SLURM_HERE/states ] && continue  # of what is told of them, they don't run
    SLURM_JOB_ID=$SLURM_NUMBER SLURM_ARRAY_JOB_ID=$SLURM_NUMBER SLURM_ARRAY_TASK_ID=$i \\
        SLURM_JOB_NAME=calmkit SLURM_NTASKS=1 bash "$1" > /dev/null 2>&1 &
done
echo "Submitted batch job $SLURM_NUMBER"
""",
    "srun": """
while [[ $1 == --* ]]; do
    case $1 in --output|--error) shift 2;; *) shift;; esac
done
exec "$@"
""",
    "sacct": "echo 'JobID|State|NodeList'; cat $SLURM_HERE/states 2> /dev/null",
    "scancel": 'echo "$1|CANCELLED by 0|a" >> $SLURM_HERE/states',
}
"""They run an array all at once, or tell of states in a file that was there before; `scancel` adds to it."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(slurm, "POLL", 0.05)
    monkeypatch.setattr(slurm_left, "POLL", 0.05)
    monkeypatch.setattr(slurm, "REQUEUE", 0.3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A folder with SLURM's commands on PATH, for a job number that no other test has."""
    here = tmp_path / "cluster"
    here.mkdir()
    for name, text in COMMANDS.items():
        (here / name).write_text("#!/bin/bash\n" + text, encoding="utf-8")
        (here / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_HERE", str(here))
    monkeypatch.setenv("SLURM_NUMBER", str(10_000 + sum(map(ord, request.node.name))))
    return here


def directives(cluster: Path) -> dict[str, str]:
    """Options of the script that was submitted."""
    lines = (cluster / "script").read_text(encoding="utf-8").splitlines()
    pairs = (line.removeprefix("#SBATCH --").partition("=") for line in lines if line.startswith("#SBATCH"))
    return {name: value for name, _, value in pairs}


def numbered(states: dict[int, str]) -> str:
    return "".join(f"{os.environ['SLURM_NUMBER']}_{i}|{state}|a\n" for i, state in states.items())


def test_contract_on_this_machine(tmp_path: Path) -> None:
    check_launcher("slurm", cluster="local", folder=str(tmp_path / "files"))


def test_one_array_with_what_the_settings_ask_for(cluster: Path, tmp_path: Path) -> None:
    code = "import os, sys; print(*map(os.environ.get, sys.argv[2:])); sys.exit(int(sys.argv[1]))"
    names = ("OMP_NUM_THREADS", "SLURM_JOB_NAME", "MARK")
    wishes = ({"devices": 2, "accelerator": True}, {"devices": 4, "accelerator": True}, {"devices": 9})
    jobs = [python(tmp_path, code, i, *names, name=str(i), **wish) for i, wish in enumerate(wishes)]
    launcher = SlurmLauncher(
        workers=2,
        partition="short",
        timeout_min=90,
        cpus_per_task=3,
        mem_gb=8,
        setup=["export MARK=made"],
        additional={"account": "me", "exclusive": True, "requeue": False},
    )
    assert run(launcher, jobs) == {"0": 0, "1": 1, "2": 2}
    assert [log(job) for job in jobs] == ["3 interactive made\n"] * 3
    asked = directives(cluster)
    wanted = {
        "array": "0-2%2",
        "partition": "short",
        "time": "90",
        "cpus-per-task": "3",
        "gpus-per-node": "4",  # the job that asks for most; the third asks for none
        "mem": "8GB",
        "account": "me",
        "exclusive": "",
    }
    assert {name: asked.get(name) for name in wanted} == wanted
    assert "requeue" not in asked
    assert "srun --unbuffered" in (cluster / "script").read_text(encoding="utf-8")
    assert "--cpus-per-task=3 " in (cluster / "script").read_text(encoding="utf-8")
    assert (tmp_path / "slurm").is_dir()


@pytest.mark.parametrize(
    ("state", "code"),
    [("OUT_OF_MEMORY", -9), ("TIMEOUT", 124), ("CANCELLED by 0", -15), ("NODE_FAIL", 1), ("PREEMPTED", 1)],
)
def test_a_lost_job_has_failed_and_its_log_says_why(
    state: str, code: int, cluster: Path, tmp_path: Path
) -> None:
    (cluster / "states").write_text(numbered({0: state, 1: state}), encoding="utf-8")
    jobs = [python(tmp_path, "", name=str(i)) for i in range(2)]
    assert run(SlurmLauncher(), jobs) == {"0": code, "1": code}
    assert log(jobs[0]).endswith(f"_0 was lost: its state is {state.split()[0]}\n")


def test_a_preempted_job_that_is_queued_again_is_waited_for(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cluster / "states").write_text(numbered({0: "PREEMPTED", 1: "NODE_FAIL"}), encoding="utf-8")
    monkeypatch.setattr(slurm, "REQUEUE", 1e9)

    def requeue(job: Job, code: int) -> None:
        if job.name == "1":
            (cluster / "states").write_text(numbered({0: "TIMEOUT"}), encoding="utf-8")
        codes.append(code)

    codes: list[int] = []
    SlurmLauncher().run([python(tmp_path, "", name=str(i)) for i in range(2)], requeue)
    assert codes == [1, 124]


def test_an_interrupt_cancels_what_still_runs(cluster: Path, tmp_path: Path) -> None:
    (cluster / "states").write_text(numbered({0: "NODE_FAIL", 1: "RUNNING", 2: "PENDING"}), encoding="utf-8")

    def interrupt(job: Job, code: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SlurmLauncher().run([python(tmp_path, "", name=str(i)) for i in range(3)], interrupt)
    cancelled = [line for line in (cluster / "states").read_text().splitlines() if "CANCELLED" in line]
    assert cancelled == numbered({1: "CANCELLED by 0", 2: "CANCELLED by 0"}).splitlines()


KILLED = """
import sys
from pathlib import Path
from calmkit.interfaces import Job
from calmkit.launchers.slurm import SlurmLauncher
jobs = [Job(str(i), ("true",), Path(sys.argv[1]) / str(i) / "job.log") for i in range(2)]
SlurmLauncher().run(jobs, lambda job, code: None)
"""


def test_an_array_is_cancelled_when_its_launcher_is_killed_outright(cluster: Path, tmp_path: Path) -> None:
    states, number = cluster / "states", os.environ["SLURM_NUMBER"]
    states.write_text(numbered({0: "RUNNING", 1: "PENDING"}), encoding="utf-8")
    launcher = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: noted_job(tmp_path / "1" / "job.log"), seconds=60)
    finally:
        launcher.kill()
        launcher.wait()
    wait_for(lambda: f"{number}|CANCELLED" in states.read_text(encoding="utf-8"))


def test_what_an_earlier_launcher_left_is_cancelled_before_it_is_begun_again(
    cluster: Path, tmp_path: Path
) -> None:
    """Of three notes one tells of a job that still runs, one of a job that has ended; one log has none."""
    states = cluster / "states"
    states.write_text("70_0|RUNNING|a\n70_1|COMPLETED|a\n", encoding="utf-8")
    logs = [tmp_path / str(i) / "job.log" for i in range(3)]
    note_job(logs[0], "70_0")
    note_job(logs[1], "70_1")
    launcher = SlurmLauncher()
    assert launcher.stop_left(logs) == [logs[0]]
    assert "70_0|CANCELLED" in states.read_text(encoding="utf-8")
    assert "70_1|CANCELLED" not in states.read_text(encoding="utf-8")
    assert launcher.stop_left(logs) == []


@pytest.mark.parametrize("interrupted", [False, True])
def test_no_note_is_left_of_a_job_that_has_ended(interrupted: bool, cluster: Path, tmp_path: Path) -> None:
    (cluster / "states").write_text(numbered({0: "NODE_FAIL", 1: "TIMEOUT"}), encoding="utf-8")
    jobs, noted = [python(tmp_path, "", name=str(i)) for i in range(2)], list[bool]()

    def ended(job: Job, code: int) -> None:
        noted.extend(noted_job(one.log) is not None for one in jobs)
        if interrupted:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) if interrupted else nullcontext():
        SlurmLauncher().run(jobs, ended)
    assert noted[:2] == [False, True]
    assert [noted_job(job.log) for job in jobs] == [None, None]
    assert "CANCELLED" not in (cluster / "states").read_text(encoding="utf-8") or interrupted


def test_a_damaged_note_is_none(tmp_path: Path) -> None:
    (tmp_path / "job.log.slurm.json").write_text("[1", encoding="utf-8")
    assert noted_job(tmp_path / "job.log") is None
    assert SlurmLauncher(cluster="local").stop_left([tmp_path / "job.log"]) == []


def test_at_once_is_what_the_array_lets_run() -> None:
    jobs = [Job("any", ("any",), Path("any"))] * 5
    assert [SlurmLauncher(workers=n).at_once(jobs) for n in (2, 16)] == [2, 5]
    assert SlurmLauncher(workers=2, cluster="local").at_once(jobs) == 5


def test_what_slurm_refuses_has_127_and_its_words_in_the_log(cluster: Path, tmp_path: Path) -> None:
    (cluster / "refusal").write_text("sbatch: error: invalid partition specified: long\n", encoding="utf-8")
    jobs = [python(tmp_path, "", name=str(i)) for i in range(2)]
    assert run(SlurmLauncher(partition="long"), jobs) == {"0": 127, "1": 127}
    assert "could not be submitted: sbatch: error: invalid partition specified: long" in log(jobs[1])


def test_without_slurm_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"slurm: no sbatch and srun on PATH; .*launcher.cluster=local"):
        SlurmLauncher().run([python(tmp_path, "")], lambda job, code: None)


def test_without_submitit_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'slurm: submitit is not installed; pip install "calmkit\[slurm\]"'):
        SlurmLauncher()


@pytest.mark.parametrize("name", ["workers", "timeout_min", "cpus_per_task", "mem_gb", "gpus_per_node"])
def test_impossible_settings_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"slurm: {name} must be at least \d, got -1"):
        SlurmLauncher(**{name: -1})


def test_every_setting_can_stand_in_a_file() -> None:
    values: dict[str, Any] = {
        "workers": 3,
        "partition": "short",
        "gpus_per_node": 2,
        "setup": ["module load cuda"],
        "additional": {"exclusive": True, "qos": "high", "nice": "100"},
        "cluster": "local",
    }
    mark = Mark("study.yaml", 1)
    found = settings(SlurmLauncher)
    assert {n: convert(found[n].annotation, to_node(v, mark)) for n, v in values.items()} == values
    for setting in found.values():
        assert convert(setting.annotation, to_node(setting.default, mark)) in (setting.default, [])
