"""Beam: of several draws per unit, the rows of highest density are kept side by side.

Source: Tschannen et al., GIVT: Generative Infinite-Vocabulary Transformers, 2023, and its code, proj/givt of
big_vision. https://arxiv.org/abs/2312.02116
"""

from __future__ import annotations

from typing import final

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Guidance, RowSampler
from calmkit.nn.settings import require_at_least
from calmkit.samplers.head_wishes import head_wishes


@final
class BeamSampler(RowSampler):
    """Beam search by exact log density (`calmkit.beams`); each row is the best of its beams.

    It wants a head that knows its density, and units drawn from left to right. It is not guided, as in GIVT.

    Args:
        beams: Rows kept side by side for each.
        fan: Draws per beam and unit, of which the best are kept.
        temperature: The head's own temperature of each draw; None: as the head was built. Rows are compared
            by the density at 1.

    Raises:
        ValueError: Less than one beam or draw, or a temperature that is not positive.

    Source:
        Beams and fan of GIVT's depth recipe, which draws at temperature 0.9.
    """

    def __init__(self, *, beams: int = 2, fan: int = 8, temperature: float | None = None) -> None:
        require_at_least("beam", 1, beams=beams, fan=fan)
        self.beams, self.fan = beams, fan
        self.options = head_wishes("beam", temperature, None, None, setting="temperature")
        self.guidance = Guidance()


@hookimpl
def calmkit_samplers() -> dict[str, type[RowSampler]]:
    """Register this part."""
    return {"beam": BeamSampler}
