"""What a study says when it is stopped on its way: how much is done, and how to go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calmkit.launchers.children import terminable
from calmkit.studies.plan import StudyPlan
from calmkit.training.progress import Say


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def told_where_it_stopped(planned: StudyPlan, tell: Say = _to_standard_error) -> Iterator[None]:
    """Where Ctrl-C or SIGTERM ends what is inside, tell how far the study came, and let it end.

    Args:
        planned: The study.
        tell: Takes the line after SIGTERM.

    Raises:
        KeyboardInterrupt: After Ctrl-C, with the line: whoever shows it shows it last.
    """
    try:
        with terminable():
            yield
    except KeyboardInterrupt as stopped:
        raise KeyboardInterrupt(_how_far(planned)) from stopped
    except SystemExit:
        tell(_how_far(planned))
        raise


@contextmanager
def told_that_nothing_began(how: str) -> Iterator[None]:
    """The same while a study is planned.

    Args:
        how: It begins, or goes on.

    Raises:
        KeyboardInterrupt: After Ctrl-C, with that line.
    """
    try:
        yield
    except KeyboardInterrupt as stopped:
        raise KeyboardInterrupt(f"nothing was begun by this call; {how}") from stopped


def _how_far(planned: StudyPlan) -> str:
    done = len(planned.trials) - len(planned.open_trials())
    return f"{done} of {len(planned.trials)} trials done; go on with: {resume_of(planned.places.study)}"


def resume_of(folder: Path) -> str:
    """The command that goes on with a study."""
    return f"calmkit study resume {folder}"
