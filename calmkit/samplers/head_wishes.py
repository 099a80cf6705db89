"""What every built-in sampler may ask of the head for a single draw: one set of settings, one meaning.

A head's own temperature acts inside each draw (`HeadInfo.temperature` says on what), a sampler's temperature
on the law of chunks. They are different things, so they have different names. Samplers of whole rows choose
nothing among draws: the head's temperature is their only one, and is called so.
"""

from __future__ import annotations

from calmkit.interfaces import SampleOptions


def head_wishes(
    sampler: str,
    head_temperature: float | None,
    num_steps: int | None,
    solver: str | None,
    *,
    setting: str = "head_temperature",
) -> SampleOptions:
    """The settings of these names as options of each draw; None: as the head was built.

    Args:
        sampler: Name for the error.
        head_temperature: The head's own temperature.
        num_steps: Steps of an iterative head.
        solver: Solver of an iterative head.
        setting: What the sampler calls the first of them.

    Raises:
        ValueError: A temperature that is not positive, or no steps.
    """
    if head_temperature is not None and not head_temperature > 0:
        raise ValueError(f"{sampler}: {setting} must be above 0, got {head_temperature}; null would do.")
    if num_steps is not None and num_steps < 1:
        raise ValueError(f"{sampler}: num_steps must be at least 1, got {num_steps}; null would do.")
    return SampleOptions(temperature=head_temperature, num_steps=num_steps, solver=solver)
