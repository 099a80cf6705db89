"""Shape checking on, float64 by default, seeds fixed, one thread; warnings are errors by pyproject.

Shapes are checked wherever numbers are: in the tests of parts, contracts and laws, and in whole runs of text
and images (`tests/integration`, `tests/images`). The small runs of the rooms in `UNCHECKED` train with the
same parts; there it would double the time and find nothing new.
"""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

hook = jaxtyping.install_import_hook("calmkit", "beartype.beartype")

torch.set_num_threads(1)

# Whoever runs the tests in the background of a script, or under nohup, hands them signals that are
# ignored, and the jobs of the launchers' tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


UNCHECKED = {"cli", "launchers", "recipe", "report", "results", "studies", "training"}
UNCHECKED_FILES = {"test_text_golden.py", "test_ceiling.py", "test_kill.py"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool | None, bool | None]:
    """Checked or not, from the first fixture to the last."""
    room = item.path.relative_to(Path(__file__).parent).parts[0]
    jaxtyping.config.update("jaxtyping_disable", room in UNCHECKED or item.path.name in UNCHECKED_FILES)
    return (yield)


@pytest.fixture(autouse=True)
def float64_and_seed() -> Iterator[None]:
    """Analytic values are compared in double precision; every test starts from the same seed."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)
