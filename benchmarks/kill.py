"""How often a training may be killed: 100 times with SIGKILL, and it ends as if nobody had killed it.

    python benchmarks/kill.py [KILLS] [SEED] [AT ONCE]

Runs of a small recipe, six kills each, two at a time, at random moments of which half wait until a checkpoint
is being written. Each is gone on with until it is done, and compared with one that nobody disturbed: weights,
metrics.csv, samples and the numbers of the evaluation, bit for bit. It exits with 1 if any differs.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from killed_runs import WORDS, Killed, killed, undisturbed
from small_runs import workshop

KILLS, PER_RUN, AT_ONCE = 100, 6, 2


def tried(folder: Path, kills: int, seed: int, at_once: int) -> Iterator[Killed]:
    """Runs until so many kills have hit."""
    recipe, draw, left = folder / "small.yaml", random.Random(seed), kills
    whole = undisturbed(recipe, folder, WORDS)
    print(
        f"undisturbed: {whole.before:.0f} s to begin, {whole.training:.0f} s to train and measure", flush=True
    )

    def one(given: tuple[int, int]) -> Killed:
        number, most = given
        words = (*WORDS, f"trainer.workers={number % 2}")
        return killed(recipe, folder, words, whole, number, most)

    with ThreadPoolExecutor(at_once) as pool:
        while left > 0:
            most = [min(PER_RUN, left // at_once + (left % at_once > at)) for at in range(at_once)]
            for found in pool.map(one, [(draw.randrange(10**6), count) for count in most if count]):
                left -= len(found.hits)
                yield found


def main() -> int:
    """Print a line for each run, and where the kills hit."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(10**6)
    at_once = int(sys.argv[3]) if len(sys.argv) > 3 else AT_ONCE
    began, places, failed = time.monotonic(), Counter[str](), 0
    print(f"{kills} kills, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="calmkit-kill-") as folder, workshop(Path(folder)) as place:
        for found in tried(place, kills, seed, at_once):
            places.update(found.hits)
            failed += bool(found.differs)
            verdict = "; ".join(found.differs) or "equal"
            print(
                f"seed {found.seed:>6}  {len(found.hits)} kills  {found.seconds:4.0f} s  {verdict}",
                flush=True,
            )
    for name, count in places.most_common():
        print(f"{count:>5}  {name}")
    print(f"{places.total():>5}  in all, {time.monotonic() - began:.0f} s; {failed} runs differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
