"""Labels that no class has: the bad records of files in which images and labels are numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from calmkit.data.bad_records import BadRecord, OnBad, Skipped


def known_labels(
    labels: UInt8[np.ndarray, " N"], classes: int, path: Path, file: int, on_bad: OnBad, skipped: Skipped
) -> Bool[np.ndarray, " N"]:
    """Which images have a label below `classes`; the others are noted in `skipped`, or the first is refused.

    Args:
        labels: As they stand in the file.
        classes: How many there are.
        path: Of the file.
        file: Its index, for `skipped`.
        on_bad: What to do with the others.
        skipped: The good ones are counted there too.

    Raises:
        DataError: At the first label that no class has, unless they are to be skipped.
    """
    known = labels < classes
    skipped.records += int(known.sum())
    for number in np.flatnonzero(~known).tolist():
        label = int(labels[number])
        message = f"{path}: image {number} has label {label}, and {classes} classes have 0 to {classes - 1}"
        skipped.leave_out(BadRecord(message, number, f"label {label}"), file, on_bad)
    return known
