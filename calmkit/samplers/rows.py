"""Rows: every unit of a row is one draw of the head, guided where it is wished.

Source: Ho and Salimans, Classifier-Free Diffusion Guidance, 2022, section 3.2.
https://arxiv.org/abs/2207.12598
"""

from __future__ import annotations

import math
from typing import final

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Guidance, RowSampler
from calmkit.interfaces.sampler import Schedule
from calmkit.samplers.head_wishes import head_wishes


@final
class RowsSampler(RowSampler):
    """One draw per unit, whatever the order of the units; guided away from the null condition.

    Args:
        temperature: The head's own temperature; None: as the head was built.
        num_steps: Steps of an iterative head; None: as it was built.
        solver: Solver of an iterative head; None: as it was built.
        guidance: Weight w of the condition beside 1 - w of the null condition; 1 is no guidance. GIVT counts
            from 0: its 0.4 is 1.4 here.
        guidance_schedule: How w moves while the units of a row become known; `rising` begins near no
            guidance and ends at w (MAR), `falling` the other way round (NextStep-1).

    Raises:
        ValueError: A temperature that is not positive, no steps, or a weight that is no number.

    Source:
        Ho and Salimans, 2022, section 3.2; the schedules: see `calmkit.interfaces.Guidance`.
    """

    def __init__(
        self,
        *,
        temperature: float | None = None,
        num_steps: int | None = None,
        solver: str | None = None,
        guidance: float = 1.0,
        guidance_schedule: Schedule = "constant",
    ) -> None:
        if not math.isfinite(guidance):
            raise ValueError(f"rows: guidance must be a finite number, got {guidance}; 1.0 would do.")
        self.options = head_wishes("rows", temperature, num_steps, solver, setting="temperature")
        self.guidance = Guidance(guidance, guidance_schedule)


@hookimpl
def calmkit_samplers() -> dict[str, type[RowSampler]]:
    """Register this part."""
    return {"rows": RowsSampler}
