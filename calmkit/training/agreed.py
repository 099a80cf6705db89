"""agreed: what the processes of a training ask of each other, and what all then do behind one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final


class Asks(Protocol):
    """What a process asks all of them to do."""

    def asks(self) -> tuple[bool, bool, bool]:
        """Whether to stop and be started again, to stop for good, to save."""


@final
@dataclass(frozen=True)
class Agreed:
    """What all processes agree upon in a step.

    Attributes:
        stop: The exit code with which they stop behind it; 0: they go on.
        save: They save behind it.
    """

    stop: int = 0
    save: bool = False
