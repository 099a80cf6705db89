"""Seconds from typing a command to its answer, beside what `import torch` alone takes on this machine.

    python benchmarks/startup.py

`calmkit --help` must come in 0.5 s and `calmkit validate tiny/energy` in 4 s on two CPU cores. It exits
with 1 if the medians are above; the ratio to `import torch` says how much of it is ours.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

CALMKIT = str(Path(sys.executable).with_name("calmkit"))
COMMANDS = {
    "import torch": ([sys.executable, "-c", "import torch"], None),
    "calmkit --help": ([CALMKIT, "--help"], 0.5),
    "calmkit validate tiny/energy": ([CALMKIT, "validate", "tiny/energy"], 4.0),
}
REPEATS = 5


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> int:
    """Print medians and ratios."""
    for command, _ in COMMANDS.values():
        seconds(command)  # warm the disk
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(REPEATS):
        for name, (command, _) in COMMANDS.items():
            times[name].append(seconds(command))
    base = statistics.median(times["import torch"])
    late = 0
    for name, (_, limit) in COMMANDS.items():
        median = statistics.median(times[name])
        verdict = "" if limit is None else f"  (limit {limit} s)"
        print(f"{name:30s} {median:6.2f} s  {median / base:5.2f} x import torch{verdict}")
        late += limit is not None and median > limit
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
