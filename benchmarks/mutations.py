"""What happens to a recipe that something happened to: random mutations of every shipped one, each judged.

    python benchmarks/mutations.py [COUNT] [SEED]

Every one must be refused in words, with the place of what is wrong, or accepted, and then it can be planned,
shown and built. It prints counts by what was done and what became of it, and exits with 1 if one was not.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from mutated_recipes import mutated, outcome

from calmkit.registry import make_manager

COUNT, SECONDS = 2000, 20
"""And the longest that one may take."""


class TooSlow(BaseException):
    """None that calmkit would catch and tell."""


def _too_slow(*_: object) -> None:
    raise TooSlow(f"took more than {SECONDS} s")


def main() -> int:
    """Print every fault, then the counts."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(10**6)
    print(f"{count} mutations, seed {seed}", flush=True)
    warnings.simplefilter("error")
    signal.signal(signal.SIGALRM, _too_slow)
    manager, began = make_manager(guests=[]), time.monotonic()
    kinds, codes, faults, slowest = Counter[tuple[str, bool]](), Counter[str](), 0, (0.0, "")
    with tempfile.TemporaryDirectory(prefix="calmkit-mutations-") as folder, contextlib.chdir(folder):
        for number in range(count):
            mutation = mutated(random.Random(f"{seed}/{number}"), manager)
            start = time.monotonic()
            signal.alarm(SECONDS)
            try:
                found = outcome(mutation, Path(folder), manager)
                accepted, fault = found.accepted, found.fault
                codes.update(found.codes)
            except (Exception, TooSlow) as error:
                accepted, fault = True, f"{type(error).__name__}: {error}"
            signal.alarm(0)
            took = time.monotonic() - start
            slowest = max(slowest, (took, f"{number} ({mutation.what} of {mutation.base})"))
            kinds[mutation.what, accepted] += 1
            if fault:
                faults += 1
                print(f"FAULT {seed}/{number}: {mutation.what} of {mutation.base}: {fault}", flush=True)
                if keep := os.environ.get("CALMKIT_KEEP_FAULTS"):
                    Path(keep, f"{seed}-{number}.yaml").write_bytes(mutation.text)
        left = sorted(set(os.listdir(folder)) - {"mutated.yaml", "again.yaml"})
    seconds = time.monotonic() - began
    for what in sorted({what for what, _ in kinds}):
        print(f"  {what}: {kinds[what, False]} refused, {kinds[what, True]} accepted")
    print(f"codes: {', '.join(f'{code} {n}' for code, n in sorted(codes.items()))}")
    print(f"files that something else wrote: {', '.join(left) or 'none'}")
    refused = sum(n for (_, accepted), n in kinds.items() if not accepted)
    print(f"the slowest took {slowest[0]:.1f} s: {slowest[1]}")
    each = 1000 * seconds / count
    print(
        f"{count} mutations in {seconds:.0f} s ({each:.0f} ms each): {refused} refused, "
        f"{count - refused} accepted, {faults} faults"
    )
    return 1 if faults or left else 0


if __name__ == "__main__":
    sys.exit(main())
