"""How long a study still takes, by hand: 90 FLOPs of training are 100 of work, evaluation included."""

from __future__ import annotations

import math
import random

import pytest

from calmkit.studies.time_left import Share, pace_of, seconds_left, seconds_left_of
from calmkit.training.standing import Standing

LM = {"lm": 90.0}


def at(
    step: int, seconds: float, phase: str = "lm", before: float = 0.0, over: tuple[str, ...] = ()
) -> Share:
    """A process that has taken `step` of 100 steps, or rows, in so many seconds."""
    return Share(
        LM, Standing(phase, "step", step, 100, phase_seconds=seconds, seconds=seconds + before, over=over)
    )


def ended(seconds: float) -> Share:
    return Share(LM, ended=True, seconds=seconds)


def test_before_anything_was_seen_nothing_is_said() -> None:
    started = Share(LM, Standing(seconds=50.0))
    assert seconds_left([([started, Share(LM)], 1)]) is None
    assert seconds_left([([started, at(1, 30.0)], 2)]) is None  # one step of a hundred says too much
    assert seconds_left([]) is None


def test_a_stage_tells_its_own_pace() -> None:
    """50 of 100 steps in 45 s, one second a FLOP: 45 FLOPs of training and 10 of evaluation are left."""
    one = at(50, 45.0, before=1000.0)  # a long start says nothing of what is left
    assert seconds_left([([one], 1)]) == pytest.approx(55.0)


def test_an_evaluation_is_most_of_the_last_tenth() -> None:
    """All is trained and half the rows are read, after 188 s: 2 s a FLOP, 4 of its 8 FLOPs done, 6 left."""
    one = at(50, 8.0, "evaluation", before=180.0, over=("starting", "lm"))
    assert one.done == pytest.approx(94.0)
    assert seconds_left([([one], 1)]) == pytest.approx(6.0 * 2.0)


def test_time_left_never_rises_because_a_phase_after_training_begins() -> None:
    """Whatever follows, in however many phases; and it is 0 only when all of it is over."""
    over, seen = ["starting", "evaluation, untrained", "lm"], list[float]()
    for phase in ("evaluation", "reconstruction", "metrics", "counting n-grams", "writing a sample"):
        for step in (0, 10, 100) if phase != "counting n-grams" else (0,):
            left = seconds_left([([at(step, 0.0, phase, before=110.0, over=tuple(over))], 1)])
            assert left is not None
            seen.append(left)
        over.append(phase)
    assert seen == sorted(seen, reverse=True)
    assert seen[0] == pytest.approx(10.0 * 110.0 / 90.0)
    assert 0.0 < seen[-1] < 0.02


def test_an_evaluation_before_training_is_no_progress() -> None:
    assert at(50, 10.0, "evaluation, untrained", over=("starting",)).done == 0.0


def test_what_has_ended_tells_the_pace_of_what_waits() -> None:
    """50 s each, two at once: of three that wait two run together and the third alone."""
    waits = [Share(LM)] * 3
    assert seconds_left([([ended(50.0), *waits], 2)]) == pytest.approx(100.0)
    assert seconds_left([([ended(50.0), *waits], 3)]) == pytest.approx(50.0)
    assert seconds_left([([ended(50.0), *waits], 1)]) == pytest.approx(150.0)


def test_what_waits_begins_where_a_place_is_free_first() -> None:
    """Places are free after 11 and 55 s at 1 s a FLOP; the one that waits takes 100 s after the first."""
    running = [at(90, 81.0), at(50, 45.0)]
    assert seconds_left([([*running, Share(LM)], 2)]) == pytest.approx(19.0 + 100.0)


def test_batches_follow_each_other() -> None:
    first = Share({"autoencoder": 90.0}, Standing("autoencoder", "step", 50, 100, phase_seconds=45.0))
    assert seconds_left([([first], 1), ([Share(LM)] * 2, 2)]) == pytest.approx(55.0 + 100.0)


def test_a_failed_one_takes_no_more_time_and_tells_no_pace() -> None:
    assert seconds_left([([ended(0.0), Share(LM)], 1)]) is None
    assert seconds_left([([ended(0.0), ended(50.0)], 1)]) == 0.0


def test_its_own_pace_goes_before_that_of_the_others() -> None:
    assert seconds_left_of(at(50, 45.0), 9.0) == pytest.approx(55.0)
    assert seconds_left_of(at(1, 45.0), 2.0) == pytest.approx((100.0 - 0.9) * 2.0)
    assert seconds_left_of(Share(LM), None) is None


def test_it_is_never_absurd() -> None:
    """Whatever stands in the files: no negative time, none without an end, and none but of processes."""
    pick = random.Random(0)
    for _ in range(2000):
        shares = [
            Share(
                pick.choice([LM, {}, {"lm": 0.0}, {"autoencoder": 3.0, "lm": 1e18}]),
                pick.choice(
                    [
                        None,
                        Standing(),
                        Standing(
                            pick.choice(["lm", "evaluation", "autoencoder"]),
                            "step",
                            pick.choice([-5, 0, 3, 10**9]),
                            pick.choice([None, 0, 1, 100]),
                            phase_seconds=pick.choice([0.0, 1e-9, 1e6]),
                            seconds=pick.choice([0.0, 1e9]),
                            over=pick.choice([(), ("lm",), ("autoencoder", "lm")]),
                        ),
                    ]
                ),
                ended=pick.random() < 0.3,
                seconds=pick.choice([0.0, 7.0]),
            )
            for _ in range(pick.randrange(5))
        ]
        left = seconds_left([(shares, pick.randrange(1, 4))])
        assert left is None or (left >= 0 and math.isfinite(left))
        pace = pace_of(shares)
        assert pace is None or (pace > 0 and math.isfinite(pace))
