"""Jobs on this machine: how many at once, with which devices and threads, and how they end."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from small_jobs import ENDLESS, beside, locked, log, python, relay, run, seen, wait_for_lock

from calmkit.interfaces import Job
from calmkit.launchers import guard, local
from calmkit.launchers.local import LocalLauncher, Room, share_of_cores
from calmkit.testing.launchers import check_launcher

visible_accelerators = local.visible_accelerators


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores, no accelerators and no threads asked for, whatever this machine has."""
    monkeypatch.setattr(local, "usable_cores", lambda: 2)
    monkeypatch.setattr(local, "visible_accelerators", lambda: ())
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def test_contract() -> None:
    check_launcher("local")


def test_two_run_at_once_and_never_three(tmp_path: Path) -> None:
    assert run(LocalLauncher(), relay(tmp_path, *[{}] * 5)) == dict.fromkeys("01234", 0)
    for number in range(5):
        assert beside(tmp_path, number, 5) <= {number - 1, number + 1}


def test_workers_bound_what_cores_allow(tmp_path: Path) -> None:
    assert run(LocalLauncher(workers=1), relay(tmp_path, {}, {}, {}, waits=False)) == dict.fromkeys("012", 0)
    assert not any(beside(tmp_path, number, 3) for number in range(3))


def test_a_job_that_wants_more_than_all_runs_alone(tmp_path: Path) -> None:
    jobs = relay(tmp_path, {}, {"devices": 9}, {}, waits=False)
    assert run(LocalLauncher(), jobs) == dict.fromkeys("012", 0)
    assert beside(tmp_path, 1, 3) == set()


def job(devices: int, accelerator: bool | None = None) -> Job:
    return Job("any", ("any",), Path("any"), devices, accelerator)


def test_room_by_hand() -> None:
    room = Room(1, ["4", "7", "8"], None)
    first, second = room.take(job(2)), room.take(job(1))
    assert first is not None
    assert second is not None
    assert (first.devices, second.devices) == (("4", "7"), ("8",))
    assert room.take(job(1)) is None
    assert room.take(job(9)) is None
    assert room.take(job(1, accelerator=False)) is not None  # the core was free
    assert room.take(job(1, accelerator=False)) is None
    room.leave(first)
    assert room.take(job(2)) == first


def test_alone_is_alone_on_the_whole_machine() -> None:
    room, large, on_cpu = Room(1, ["4", "7"], None), job(9), job(1, accelerator=False)
    core = room.take(on_cpu)
    assert core is not None
    assert room.take(large) is None
    room.leave(core)
    place = room.take(large)
    assert place is not None
    assert place.devices == ("4", "7")
    assert room.take(on_cpu) is None


@pytest.mark.parametrize(
    ("cores", "workers", "jobs", "at_once"),
    [(8, None, [2] * 9, 4), (8, 3, [2] * 9, 3), (8, None, [9, 1], 1), (8, None, [3, 5], 2), (8, None, [], 1)],
)
def test_how_many_fit_at_once(cores: int, workers: int | None, jobs: list[int], at_once: int) -> None:
    assert Room(cores, [], workers).count([job(devices) for devices in jobs]) == at_once


def test_running_jobs_share_no_accelerator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "visible_accelerators", lambda: ("4", "GPU-7"))
    jobs = relay(tmp_path, {}, {}, {}, {"accelerator": False}, {"devices": 2}, waits=False)
    assert set(run(LocalLauncher(), jobs).values()) == {0}
    given = [seen(tmp_path, i).get("CUDA_VISIBLE_DEVICES") for i in range(5)]
    assert given[:2] == ["4", "GPU-7"]
    assert given[2] in ("4", "GPU-7")
    assert given[3] is None  # it does without
    assert sorted(given[4].split(",")) == ["4", "GPU-7"]
    for number in (0, 1, 2):
        together = beside(tmp_path, number, 5) - {3}
        assert given[number] not in {given[i] for i in together}
        assert 4 not in together


@pytest.mark.parametrize(
    ("kind", "listed", "names"),
    [
        ("cuda", None, ("0", "1")),
        ("cuda", "5, GPU-a", ("5", "GPU-a")),
        ("cuda", "5,6,-1,7", ("5", "6")),  # CUDA stops at the first that is none
        ("mps", None, ("0",)),
        (None, None, ()),
    ],
)
def test_accelerators_are_those_that_the_launcher_sees(
    kind: str | None, listed: str | None, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: kind is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(str(kind)))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_accelerators() == names


@pytest.mark.parametrize(
    ("settings", "peers", "threads"),
    [
        ({}, None, "1"),  # two at once on two cores
        ({}, 3, "1"),
        ({}, 1, "2"),  # the only one that its study has
        ({"workers": 1}, 3, "2"),
        ({"threads": 5}, 3, "5"),
    ],
)
@pytest.mark.parametrize("jobs", [1, 3])
def test_threads_are_a_share_of_the_cores_the_same_alone_and_beside_others(
    settings: dict[str, Any], peers: int | None, threads: str, jobs: int, tmp_path: Path
) -> None:
    run(LocalLauncher(**settings), relay(tmp_path, *[{"peers": peers}] * jobs, waits=False))
    for number in range(jobs):
        there = seen(tmp_path, number)
        assert (there["OMP_NUM_THREADS"], there["MKL_NUM_THREADS"]) == (threads, threads)


@pytest.mark.parametrize(
    ("devices", "accelerator", "workers", "peers", "threads"),
    [
        (1, None, None, None, 8),  # two accelerators, so two at once
        (1, None, None, 1, 16),
        (2, None, None, None, 8),  # one at once, of two processes
        (1, False, None, None, 1),  # it does without: sixteen at once
        (1, False, 4, None, 4),
        (1, False, 4, 3, 5),
        (3, False, None, None, 1),  # five at once, of three processes: 15 of the 16 cores
        (99, False, None, 7, 1),
    ],
)
def test_shares_by_hand(
    devices: int, accelerator: bool | None, workers: int | None, peers: int | None, threads: int
) -> None:
    """16 cores and 2 accelerators."""
    one = Job("any", ("any",), Path("any"), devices, accelerator, peers)
    assert share_of_cores(one, 16, 2, workers) == threads


def test_at_once_is_told_without_a_start() -> None:
    jobs = [job(1)] * 3
    assert [LocalLauncher(workers=n).at_once(jobs) for n in (1, None)] == [1, 2]
    assert LocalLauncher().at_once([]) == 1


def test_threads_of_the_user_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    run(LocalLauncher(threads=3), relay(tmp_path, {}))
    assert seen(tmp_path, 0)["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in seen(tmp_path, 0)


@pytest.mark.parametrize(("name", "value"), [("workers", 0), ("threads", -1)])
def test_impossible_settings_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"local: {name} must be at least 1, got {value}; 1 would do"):
        LocalLauncher(**{name: value})


def test_a_command_that_cannot_start_has_127_and_gives_its_place_back(tmp_path: Path) -> None:
    jobs = [Job(str(i), ("no-such-program",), tmp_path / str(i) / "job.log") for i in range(3)]
    assert run(LocalLauncher(workers=1), jobs) == dict.fromkeys("012", 127)
    assert log(jobs[2]).startswith("launcher: no-such-program can't be started: ")


def test_an_error_of_the_listener_stops_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "GRACE", 0.2)
    lock = tmp_path / "lock"
    stubborn = python(tmp_path, ENDLESS, lock, "SIGINT", "SIGTERM", name="stubborn")

    def fail(job: Job, code: int) -> None:
        wait_for_lock(lock)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        LocalLauncher().run([stubborn, *relay(tmp_path, {})], fail)
    assert not locked(lock)


def test_off_the_main_thread_jobs_run_too(tmp_path: Path) -> None:
    codes: list[dict[str, int]] = []
    thread = threading.Thread(target=lambda: codes.append(run(LocalLauncher(), relay(tmp_path, {}))))
    thread.start()
    thread.join()
    assert codes == [{"0": 0}]
