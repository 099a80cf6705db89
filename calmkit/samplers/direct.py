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
from calmkit.interfaces import Choice, Draw, SampleOptions, Sampler


@final
class DirectSampler(Sampler):
    """One draw per unit; its settings are wishes to the head, which refuses those it does not honour.

    Args:
        temperature: The head's own temperature; None: as the head was built.
        num_steps: Steps of an iterative head; None: as it was built.
        solver: Solver of an iterative head; None: as it was built.

    Raises:
        ValueError: A temperature that is not positive, or no steps.

    Source:
        Shao et al., 2025, section 5.
    """

    def __init__(
        self, *, temperature: float | None = None, num_steps: int | None = None, solver: str | None = None
    ) -> None:
        if temperature is not None and not temperature > 0:
            raise ValueError(f"direct: temperature must be above 0, got {temperature}; null would do.")
        if num_steps is not None and num_steps < 1:
            raise ValueError(f"direct: num_steps must be at least 1, got {num_steps}; null would do.")
        self.options = SampleOptions(temperature=temperature, num_steps=num_steps, solver=solver)

    def choose(self, draw: Draw, rows: Int[Tensor, " R"]) -> Choice:
        """Take the only draw of each row; level 1."""
        (ids,) = draw(1, rows)
        once = torch.ones_like(rows, dtype=torch.long)
        return Choice(ids, index=once - 1, draws=once, level=once.to(torch.get_default_dtype()))


@hookimpl
def calmkit_samplers() -> dict[str, type[Sampler]]:
    """Register this part."""
    return {"direct": DirectSampler}
