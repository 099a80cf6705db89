"""Trainings that are killed at random moments and gone on with, each start a process of its own.

    python tests/killed_runs.py RECIPE NUMBER KILLS SEED

trains the recipe in forks of this process, which has imported all it needs, until so many were killed, and
prints what was found of each run as JSON, a line each.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, final

from calmkit.training.resume_check import compare_runs
from calmkit.training.run import Run, read_json

WORDS = (
    "stages.autoencoder.max_steps=30",
    "stages.autoencoder.eval_every=12",
    "stages.lm.max_steps=40",
    "stages.lm.eval_every=12",
    "trainer.log_every=1",
    "trainer.ema=0.9",
    "trainer.checkpoint.every=1",
)
TIME_LIMIT = 1800.0  # seconds of all
EARLY, WRITING = 0.1, 0.5
"""Of the kills, how many come before the run has begun, and how many wait for a checkpoint to be written."""
PART = 0.3  # of the time that a whole training takes: the latest moment of a kill, behind the beginning
BEGUN = "run: "  # the line with which a training begins


@dataclass(frozen=True)
class Undisturbed:
    """A training that nobody killed.

    Attributes:
        folder: Of the run.
        before: Seconds until it began, most of them for imports.
        training: Seconds from there to its end.
    """

    folder: Path
    before: float
    training: float


@dataclass
class Killed:
    """A training that was killed.

    Attributes:
        seed: Of its moments.
        hits: Where it was, for each kill.
        differs: In what it differs from the undisturbed one; empty: in nothing.
        seconds: Of all its starts.
    """

    seed: int
    hits: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    seconds: float = 0.0


@final
class Forked:
    """This very process once more, which saves the seconds that imports take."""

    def __init__(self, words: Sequence[str], log: IO[str]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            _become(words, log)

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None: it goes on."""
        return self._look(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int:
        """Until it ends."""
        until = time.monotonic() + (timeout or TIME_LIMIT)
        while self.poll() is None:
            assert time.monotonic() < until, f"{self.pid} hangs"
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send it one."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _look(self, how: int) -> int | None:
        if self.returncode is None and (found := os.waitpid(self.pid, how))[0]:
            self.returncode = os.waitstatus_to_exitcode(found[1])
        return self.returncode


def _become(words: Sequence[str], log: IO[str]) -> None:
    """A child becomes the command, and never comes back."""
    from calmkit.cli.main import main

    code = 1
    try:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        sys.stdout, sys.stderr = open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115
        sys.argv = ["calmkit", *words]
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stdout.flush()
        os._exit(code)


def kill_many(folder: Path, kills: int, seed: int, at_once: int) -> list[Killed]:
    """Kill trainings of the recipe of a workshop so often, in so many processes at once.

    Half of the processes train with one that reads ahead, which may outlive one that is killed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    shares = [kills // at_once + (kills % at_once > number) for number in range(at_once)]
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder / "small.yaml"), *map(str, (number, share, seed + number))],
            cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for number, share in enumerate(shares) if share
    ]  # fmt: skip
    told = [process.communicate(timeout=TIME_LIMIT) for process in started]
    assert not any(process.returncode for process in started), (seed, told)
    return [Killed(**json.loads(line)) for out, _ in told for line in out.splitlines()]


def undisturbed(recipe: Path, folder: Path, words: Sequence[str]) -> Undisturbed:
    """Train to the end, and take the time."""
    started, begun = time.monotonic(), 0.0
    with (folder / "whole.log").open("w+") as log:
        process = Forked(["train", str(recipe), "--out", str(folder / "whole"), *words], log)
        while process.poll() is None and not begun:
            begun = time.monotonic() if _has_begun(log) else 0.0
            time.sleep(0.01)
        assert process.wait(TIME_LIMIT) == 0, _read(log)
    return Undisturbed(folder / "whole", begun - started, time.monotonic() - begun)


def killed(
    recipe: Path,
    folder: Path,
    words: Sequence[str],
    whole: Undisturbed,
    seed: int,
    most: int,
) -> Killed:
    """Train the same, killed at most so often, and compare."""
    draw, found, run = random.Random(seed), Killed(seed), folder / f"killed-{seed}"
    began = time.monotonic()
    while True:
        begin = ["train", str(recipe), "--out", str(run), *words]
        command = ["train", str(run)] if (run / "resolved.yaml").is_file() else begin
        with (folder / f"killed-{seed}.log").open("w+") as log:
            process = Forked(command, log)
            if len(found.hits) < most and _kill(process, log, run, whole, draw):
                found.hits.append(where(run, log))
                continue
            assert process.wait(TIME_LIMIT) == 0, f"seed {seed}, {found.hits}:\n{_read(log)}"
            break
    found.seconds = time.monotonic() - began
    found.differs = differences(whole.folder, run)
    return found


def differences(whole: Path, run: Path) -> list[str]:
    """Weights, losses, samples, and numbers of the evaluation but speeds; and what was left lying about."""
    found = [f"{one.what}: {one.differs}" for one in compare_runs(whole, run) if one.differs]
    mine, theirs = Run(whole).evaluation, Run(run).evaluation
    found += [
        f"evaluation.json: {name}"
        for name in sorted(mine.keys() | theirs.keys())
        if not name.endswith("per_second") and mine.get(name) != theirs.get(name)
    ]
    return found + [f"left: {path.relative_to(run)}" for path in run.rglob("*") if path.name.startswith(".")]


def where(run: Path, log: IO[str]) -> str:
    """What a training was doing when it was killed, as far as its files tell."""
    if being_written(run / "checkpoints"):
        return "writing a checkpoint"
    if any(run.rglob(".*.tmp")):
        return "writing another file"
    if not _has_begun(log):
        return "before it began"
    facts = read_json(run / "model" / "config.json") if (run / "model" / "config.json").is_file() else {}
    if "lm_steps" in facts:
        return "measuring at the end"
    if "reconstruction" not in facts:
        return "stage autoencoder"
    return "stage lm" if any((run / "checkpoints").glob("lm/*.json")) else "between the stages"


def being_written(checkpoints: Path) -> bool:
    """Whether a checkpoint is there in part."""
    names = [path for path in checkpoints.glob("*/*") if path.suffix != ".json"]
    return any(path.name.startswith(".") or not path.with_suffix(".json").exists() for path in names)


def _until_writing(process: Forked, checkpoints: Path, draw: random.Random, latest: float) -> None:
    """Let a process go on until it writes a checkpoint: it is stopped now and then, and looked at."""
    while time.monotonic() < latest and process.poll() is None:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if being_written(checkpoints):
            return  # SIGKILL ends it where it stands
        process.send_signal(signal.SIGCONT)
        time.sleep(0.005 * draw.random())


def _kill(process: Forked, log: IO[str], run: Path, whole: Undisturbed, draw: random.Random) -> bool:
    """Kill a process at a drawn moment; False: it ended before."""
    how, share = draw.random(), draw.random()
    if how < EARLY:
        time.sleep(share * whole.before)
    else:
        while process.poll() is None and not _has_begun(log):
            time.sleep(0.005)
        time.sleep(share * PART * whole.training)
        if how < EARLY + WRITING:
            _until_writing(process, run / "checkpoints", draw, time.monotonic() + PART * whole.training)
    if process.poll() is not None:
        assert process.returncode == 0, _read(log)
        return False
    process.kill()
    return process.wait(TIME_LIMIT) == -9


def _has_begun(log: IO[str]) -> bool:
    return any(line.startswith(BEGUN) for line in _read(log).splitlines())


def _read(log: IO[str]) -> str:
    return Path(log.name).read_text()


def main() -> None:
    """What is found of each run; a run takes at most five kills."""
    import calmkit.training.train  # noqa: F401  before the first fork

    recipe, number, kills, seed = sys.argv[1:]
    left, draw = int(kills), random.Random(int(seed))
    folder, words = Path(recipe).parent / f"process-{number}", (*WORDS, f"trainer.workers={int(number) % 2}")
    folder.mkdir()
    whole = undisturbed(Path(recipe), folder, WORDS)
    print(f"undisturbed: {whole.before:.1f} s to begin, {whole.training:.1f} s to train", file=sys.stderr)
    while left > 0:
        most = min(5, left)
        found = killed(Path(recipe), folder, words, whole, draw.randrange(10**6), most)
        left -= len(found.hits)
        print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main()
