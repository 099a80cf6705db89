"""Libraries that keep the numbers of a run, each behind the same few calls."""
