"""NeedsLibraries: a part that works only where certain libraries are installed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping


class NeedsLibraries(ABC):
    """A part of any kind that imports, when it works, what its distribution does not bring.

    `calmkit validate` and the start of `calmkit train` look for the libraries without importing them. The
    constructor needs none of them: a recipe can be checked and planned for another machine.
    """

    @abstractmethod
    def libraries(self) -> Mapping[str, str]:
        """What its settings need: name of a top-level module -> the command that installs it."""
