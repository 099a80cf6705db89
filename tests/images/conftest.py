"""One tiny run of digits for all tests of this folder that look at a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_digits import digits_run, workshop_of_digits


@pytest.fixture(scope="session")
def trained_digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The workshop that holds the run `first`, and the lines that were said while it was trained."""
    folder, said = tmp_path_factory.mktemp("digits"), list[str]()
    with workshop_of_digits(folder):
        digits_run(folder, "first", say=said.append)
    return folder, said


@pytest.fixture
def digits(trained_digits: tuple[Path, list[str]]) -> Iterator[Path]:
    """The workshop, as a user stands in it; the run `first` is there, and no test changes it."""
    with workshop_of_digits(trained_digits[0]) as folder:
        yield folder
