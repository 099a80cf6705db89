"""How often a training may be killed: 100 times with SIGKILL, and it ends as if nobody had killed it.

    python benchmarks/kill.py [KILLS] [SEED] [AT ONCE]

Runs of a small recipe with both stages, five kills each, two at a time, at random moments of which half wait
until a checkpoint is being written. Each is gone on with until it is done, and compared with one that nobody
disturbed, bit for bit: weights, metrics.csv, samples, evaluation. It exits with 1 if one differs.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from killed_runs import kill_many
from small_runs import workshop

KILLS, AT_ONCE = 100, 2


def main() -> int:
    """Print a line for each run, and where the kills hit."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(10**6)
    at_once = int(sys.argv[3]) if len(sys.argv) > 3 else AT_ONCE
    began = time.monotonic()
    print(f"{kills} kills, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="calmkit-kill-") as folder, workshop(Path(folder)) as place:
        found = kill_many(place, kills, seed, at_once)
    for one in found:
        verdict = "; ".join(one.differs) or "equal"
        print(f"seed {one.seed:>6}  {len(one.hits)} kills  {one.seconds:4.0f} s  {verdict}")
    places = Counter(hit for one in found for hit in one.hits)
    for name, count in places.most_common():
        print(f"{count:>5}  {name}")
    failed = sum(bool(one.differs) for one in found)
    print(
        f"{places.total():>5}  in all, {time.monotonic() - began:.0f} s; {failed} of {len(found)} runs differ"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
