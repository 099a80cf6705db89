"""Direct: one draw of the head, taken as it comes.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 5 (temperature 1).
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Choice, Draw, Sampler, StatesDraws
from calmkit.samplers.head_wishes import head_wishes


@final
class DirectSampler(Sampler, StatesDraws):
    """One draw per unit; its settings are wishes to the head, which refuses those it does not honour.

    Args:
        head_temperature: The head's own temperature; None: as the head was built.
        num_steps: Steps of an iterative head; None: as it was built.
        solver: Solver of an iterative head; None: as it was built.

    Raises:
        ValueError: A temperature that is not positive, or no steps.

    Source:
        Shao et al., 2025, section 5.
    """

    def __init__(
        self,
        *,
        head_temperature: float | None = None,
        num_steps: int | None = None,
        solver: str | None = None,
    ) -> None:
        self.options = head_wishes("direct", head_temperature, num_steps, solver)

    def draws_per_unit(self) -> int:
        """One."""
        return 1

    def choose(self, draw: Draw, rows: Int[Tensor, " R"], generator: torch.Generator | None = None) -> Choice:
        """Take the only draw of each row; level 1."""
        del generator  # nothing is left to chance once the draw is there
        (ids,) = draw(1, rows)
        once = torch.ones_like(rows, dtype=torch.long)
        return Choice(ids, index=once - 1, draws=once, level=once.to(torch.get_default_dtype()))


@hookimpl
def calmkit_samplers() -> dict[str, type[Sampler]]:
    """Register this part."""
    return {"direct": DirectSampler}
