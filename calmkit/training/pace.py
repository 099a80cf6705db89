"""Pace: when a person who reads plain lines is told again, and how long a time is in words."""

from __future__ import annotations

import math

SILENCE = 20.0
"""Seconds without a line, at most, in the first quarter of an hour."""

SHARE = 1 / 50
"""Of the time gone by, later on: a week of training is told of in hundreds of lines, not in thousands."""


def patience(elapsed: float) -> float:
    """Seconds that may pass without a line, this long after the beginning."""
    return max(SILENCE, elapsed * SHARE)


def time_in_words(seconds: float) -> str:
    """`40 s`, `3.2 min`, `2 h 10 min`, `3 d 4 h`."""
    if not math.isfinite(seconds):
        return "an unknown time"
    seconds = max(0.0, seconds)
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if seconds < 600:
        return f"{seconds / 60:.1f} min"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"
