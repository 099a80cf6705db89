"""The launcher on a Ray of this machine: its contract, three jobs, and its door."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from calmkit_ray_launcher import RayLauncher

from calmkit.interfaces import Job
from calmkit.registry import make_manager
from calmkit.testing.launchers import check_launcher


@pytest.fixture
def one_ray() -> Iterator[None]:
    """A Ray that is there before the launcher, and that it leaves running."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    ray.init(num_cpus=4, log_to_driver=False)
    yield
    assert ray.is_initialized()
    ray.shutdown()


@pytest.mark.usefixtures("one_ray")
def test_contract() -> None:
    check_launcher(RayLauncher)


def test_three_jobs_on_a_ray_of_its_own(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    codes: dict[str, int] = {}
    command = (
        sys.executable,
        "-c",
        "import os, sys; print(os.environ['OMP_NUM_THREADS']); sys.exit(sys.argv[1] == 'b')",
    )
    jobs = [Job(name, (*command, name), tmp_path / name / "job.log") for name in "abc"]
    RayLauncher(num_cpus=1).run(jobs, lambda job, code: codes.update({job.name: code}))
    assert codes == {"a": 0, "b": 1, "c": 0}
    assert [job.log.read_text(encoding="utf-8") for job in jobs] == ["1\n"] * 3
    assert not ray.is_initialized()


@pytest.mark.usefixtures("one_ray")
def test_a_lost_job_has_failed_and_its_log_says_why(tmp_path: Path) -> None:
    told: list[int] = []
    kills_its_worker = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"
    job = Job("lost", (sys.executable, "-c", kills_its_worker), tmp_path / "job.log")
    RayLauncher().run([job], lambda job, code: told.append(code))
    assert told == [1]
    assert job.log.read_text(encoding="utf-8").startswith("launcher: the job was lost: ")


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ray: num_cpus must be at least 1 .* got 0 and 0.0"):
        RayLauncher(num_cpus=0)


def test_the_entry_point_of_pyproject_opens_the_door() -> None:
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8")
    ((name, value),) = tomllib.loads(text)["project"]["entry-points"]["calmkit"].items()
    manager = make_manager([EntryPoint(name, value, "calmkit")])
    assert manager.rejected == []
    assert manager.find("launchers", "ray").cls is RayLauncher
