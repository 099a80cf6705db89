"""schedule: the learning rate over the steps of a stage.

Source: cosine: Loshchilov and Hutter, SGDR, 2017, section 3. https://arxiv.org/abs/1608.03983
"""

from __future__ import annotations

import math


def learning_rate_factor(step: int, warmup_steps: int, max_steps: int, schedule: str) -> float:
    """Factor on the learning rate at a step: linear warm-up, then constant, or a cosine to a tenth."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
    return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))
