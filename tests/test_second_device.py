"""The tests that need an accelerator, on one that is none: what they would find there is found everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from second_device import NAME

HERE = Path(__file__).parent


def on_second_device(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", *words]
    environment = os.environ | {"CALMKIT_TEST_DEVICE": NAME}
    return subprocess.run(command, env=environment, cwd=HERE.parent, capture_output=True, text=True)


def test_system_tests_of_an_accelerator_hold_on_a_second_device() -> None:
    """But those that train, by Lightning, which must know the device; of heads that write alike; and of those
    that derive forwards through their network, which a dispatch mode does not survive.
    """
    alike, forwards = "diffusion or mixture or regression", "mean_flow or consistency"
    left_out = f"trains or loaded_run or {forwards} or (follow_the_seed and ({alike}))"
    done = on_second_device("tests/on_second_device.py", "tests/test_gpu.py", "-k", f"not ({left_out})")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
