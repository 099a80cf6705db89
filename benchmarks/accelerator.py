"""Everything that wants an accelerator, in one go.

    python benchmarks/accelerator.py --out found                # within the hour
    python benchmarks/accelerator.py --out found --small        # the same lines in minutes, on a CPU too

Four parts, each in a process of its own with a time limit, so that one that fails or hangs takes nothing from
the others: the GPU tests (`pytest -m gpu`), speed at real sizes (`benchmarks/gpu.py`), the states of branches
(`benchmarks/branch_states.py`), and a small study on the built-in corpus. The folder gets the output of each
(`NAME.log`), what it made, and `summary.json` and `summary.txt` with the hardware; both are written anew
after every part. The exit code is 1 where a part failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
CALMKIT = "from calmkit.cli.main import cli; cli()"


@dataclass(frozen=True)
class Part:
    """One thing to run, and the most minutes it may take."""

    name: str
    command: tuple[str, ...]
    minutes: float


@dataclass(frozen=True)
class Outcome:
    """What became of a part."""

    name: str
    state: str
    seconds: float
    said: str


def parts(out: Path, device: torch.device, small: bool) -> list[Part]:
    """What there is to run; small, in sizes for a CPU."""
    python, there = sys.executable, ["--device", str(device)]
    size = ["--small", "--repeats", "1", "--write", "4"] if small else []
    steps = "2" if small else "200"
    study = out / "study.yaml"
    _write_study(study, steps, small)
    return [
        Part("tests", (python, "-m", "pytest", "-n", "0", "-m", "gpu", "tests"), 15),
        Part("speed", (python, "benchmarks/gpu.py", *there, *size, "--out", str(out / "speed.json")), 25),
        Part("branches", (python, "benchmarks/branch_states.py", *there, "--steps", "1"), 5),
        Part("study", (python, "-c", CALMKIT, "study", "run", str(study), "--out", str(out / "study")), 10),
    ]


def _write_study(file: Path, steps: str, small: bool) -> None:
    """Two heads, two seeds, a few steps each."""
    names = {"stages.autoencoder.max_steps": steps, "stages.lm.max_steps": steps}
    fixed = {"stages.autoencoder.gate": "null", "evaluation.max_rows": "8" if small else "64"}
    file.write_text(
        "calmkit_study: 1\nname: accelerator\ndescription: Two heads for a few steps.\nbase: tiny/k2\n"
        f"share: [autoencoder]\nset: {{{', '.join(f'{k}: {v}' for k, v in (names | fixed).items())}}}\n"
        "grid:\n  head: [energy, mixture]\nseeds: [1, 2]\n",
        encoding="utf-8",
    )


def hardware(device: torch.device) -> dict[str, Any]:
    """What the numbers were measured on."""
    facts = {"python": platform.python_version(), "torch": torch.__version__, "device": str(device)}
    found: dict[str, Any] = facts | {"machine": platform.machine(), "cores": os.cpu_count()}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {"card": card.name, "memory_gib": round(card.total_memory / 2**30, 1)}
        found |= {"cards": torch.cuda.device_count(), "cuda": torch.version.cuda}
    return found


def run(part: Part, out: Path, environment: dict[str, str]) -> Outcome:
    """Run a part to its end or to its limit."""
    begin, log = time.perf_counter(), out / f"{part.name}.log"
    with log.open("w", encoding="utf-8") as file:
        try:
            process = subprocess.Popen(
                part.command,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environment,
                start_new_session=True,  # so that a stop reaches what it started
            )
            code = process.wait(timeout=60 * part.minutes)
            state = "done" if code == 0 else f"failed with code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            state = f"stopped after {part.minutes:g} minutes"
        except OSError as error:
            state = f"could not start: {error}"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return Outcome(part.name, state, round(time.perf_counter() - begin, 1), lines[-1] if lines else "")


def write(out: Path, facts: dict[str, Any], outcomes: list[Outcome]) -> None:
    """`summary.json` and the same in words."""
    told = {"hardware": facts, "parts": [asdict(outcome) for outcome in outcomes]}
    (out / "summary.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    lines = [f"{key}: {value}" for key, value in facts.items()]
    lines += [f"{o.name}: {o.state}, {o.seconds:g} s: {o.said}" for o in outcomes]
    (out / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for logs, results and the summary")
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    parser.add_argument("--only", nargs="+", help="names of the parts to run")
    args = parser.parse_args(argv)
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = found or torch.device("cpu")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    if found is None:
        environment |= {"CALMKIT_TEST_DEVICE": "cpu"}  # the tests hold together, and need no accelerator
    outcomes: list[Outcome] = []
    for part in parts(out, device, args.small):
        if args.only and part.name not in args.only:
            continue
        outcomes.append(run(part, out, environment))
        write(out, hardware(device), outcomes)
        print(f"{outcomes[-1].name}: {outcomes[-1].state}, {outcomes[-1].seconds:g} s", flush=True)
    return int(any(outcome.state != "done" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
