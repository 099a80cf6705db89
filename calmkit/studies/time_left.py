"""How long a study still takes, going by the FLOPs that its plan foresees and by what has been seen of them.

    pace of a process   seconds per FLOP: of its stage under way; of all of it, once it has ended
    pace of the others  all seconds seen by all FLOPs seen
    time of a batch     each process as soon as one before it has ended, as many at once as the launcher runs

Before anything was seen nothing is known, and nothing is said.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from calmkit.training.standing import Standing

EVALUATION = 1 / 9
"""What evaluation takes beside training, in FLOPs that are never counted, until a process has ended."""

NEXT = 0.8
"""Of what is left of an evaluation, what its next phase takes: how many follow is not known beforehand."""

ENOUGH = 0.02
"""Of a stage: before, its first slow steps would say too much."""

MOSTLY = 0.2
"""Of a training: from there on the whole of a process tells its pace."""


@dataclass(frozen=True)
class Share:
    """What is known of one process.

    Attributes:
        stages: Phase -> FLOPs that it spends there.
        standing: Where it stands; None where it has not begun.
        ended: Whether it is over.
        seconds: What it took in all, once it is over; 0 where nobody knows.
    """

    stages: Mapping[str, float]
    standing: Standing | None = None
    ended: bool = False
    seconds: float = 0.0

    @property
    def work(self) -> float:
        """FLOPs, evaluation included."""
        return sum(self.stages.values()) * (1 + EVALUATION)

    @property
    def done(self) -> float:
        """Of its work that is behind it."""
        if self.ended or self.standing is None:
            return self.work if self.ended else 0.0
        now, total = self.standing, sum(self.stages.values())
        trained = sum(flops for phase, flops in self.stages.items() if phase in now.over)
        trained += self.stages.get(now.phase, 0.0) * now.fraction
        return trained + EVALUATION * total * (self._evaluated(now) if trained >= total else 0.0)

    def _evaluated(self, now: Standing) -> float:
        """Of an evaluation, 0 to 1: what is over stays so when the next phase begins."""
        if now.phase in self.stages:
            return 0.0
        before = len(now.over) - max(
            (n for n, phase in enumerate(now.over, 1) if phase in self.stages), default=0
        )
        return float(1 - (1 - NEXT) ** before * (1 - NEXT * now.fraction))

    @property
    def pace(self) -> float | None:
        """Seconds per FLOP; None where too little is seen."""
        now = self.standing
        if self.ended:
            return self.seconds / self.work if self.seconds and self.work else None
        if now is None:
            return None
        if now.phase in self.stages and now.fraction >= ENOUGH:
            return now.phase_seconds / (self.stages[now.phase] * now.fraction or 1.0) or None
        return now.seconds / self.done or None if self.done >= MOSTLY * self.work > 0 else None


def pace_of(shares: Iterable[Share]) -> float | None:
    """Seconds per FLOP over all that is seen; None before."""
    seen = [(share.pace, share.done) for share in shares]
    known = [(pace, done) for pace, done in seen if pace is not None and done > 0]
    work = sum(done for _, done in known)
    return sum(pace * done for pace, done in known) / work if work else None


def seconds_left_of(share: Share, others: float | None) -> float | None:
    """Of one process; None where no pace is known.

    Args:
        share: The process.
        others: The pace of all.
    """
    pace = share.pace or others
    return None if pace is None else max(0.0, share.work - share.done) * pace


def seconds_left(batches: Sequence[tuple[Sequence[Share], int]]) -> float | None:
    """Of a whole study; None where nothing is known yet.

    Args:
        batches: One after the other: processes, and how many run at once.
    """
    pace = pace_of(share for shares, _ in batches for share in shares)
    if pace is None:
        return None
    return sum(_of_batch(shares, at_once, pace) for shares, at_once in batches)


def _of_batch(shares: Sequence[Share], at_once: int, pace: float) -> float:
    opened = [(share, seconds_left_of(share, pace) or 0.0) for share in shares if not share.ended]
    places = [seconds for share, seconds in opened if share.standing is not None]
    places += [0.0] * (at_once - len(places))
    heapq.heapify(places)
    for seconds in (seconds for share, seconds in opened if share.standing is None):
        heapq.heapreplace(places, places[0] + seconds)
    return max(places, default=0.0)
