"""What a study says when it is stopped on its way: how much is done, and how to go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from calmkit.studies.launchers.children import terminable
from calmkit.studies.plan import StudyPlan
from calmkit.training.progress import Say


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def told_where_it_stopped(planned: StudyPlan, tell: Say = _to_standard_error) -> Iterator[None]:
    """Where Ctrl-C or SIGTERM ends what is inside, tell how far the study came, and let it end.

    Args:
        planned: The study.
        tell: Takes the line.
    """
    try:
        with terminable():
            yield
    except (KeyboardInterrupt, SystemExit):
        done = len(planned.trials) - len(planned.open_trials())
        tell(
            f"{done} of {len(planned.trials)} trials done; go on with: "
            f"calmkit study resume {planned.places.study}"
        )
        raise
