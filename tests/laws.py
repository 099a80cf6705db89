"""How laws are tested: the same examples every time, nothing kept on disk; how far a mean may stray."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from torch import Tensor

LAWS = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # conftest seeds once for all examples
)
FEW = settings(LAWS, max_examples=10, phases=(Phase.explicit, Phase.generate))
"""For examples that build a model: too slow to look for a smaller one that fails."""


def six_sigma(estimates: Tensor) -> float:
    """Tolerance of a mean of 300 or more independent estimates: false alarm below 1e-8 (Student's t)."""
    return 6 * estimates.std().item() / len(estimates) ** 0.5
