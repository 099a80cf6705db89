"""Shape checking on, float64 by default, seeds fixed, one thread; warnings are errors by pyproject."""

from __future__ import annotations

import signal
from collections.abc import Iterator

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


@pytest.fixture(autouse=True)
def float64_and_seed() -> Iterator[None]:
    """Analytic values are compared in double precision; every test starts from the same seed."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)
