"""What parts ask of their settings, refused by name: part, setting, what came, what would do."""

from __future__ import annotations

from calmkit.interfaces import EventSpec


def require_at_least(part: str, least: int, **values: int | float | None) -> None:
    """Refuse settings below `least`; None, which leaves the choice to the part, passes.

    Raises:
        ValueError: Naming part, setting and value.
    """
    for name, value in values.items():
        if value is not None and not value >= least:  # also refuses NaN
            raise ValueError(f"{part}: {name} must be at least {least}, got {value}; {least} would do.")


def require_probability(part: str, **values: int | float) -> None:
    """Refuse dropout rates outside [0, 1).

    Raises:
        ValueError: Naming part, setting and value.
    """
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{part}: {name} must be in [0, 1), got {value}; 0.15 would do.")


def latent_dim_of(part: str, event: EventSpec) -> int:
    """D, for a head that takes one latent vector per unit.

    Raises:
        ValueError: For token ids, or a value of another shape.
    """
    if event.kind != "continuous" or len(event.shape) != 1:
        raise ValueError(f"{part}: event must be one latent vector, got {event}; autoencoder vae would do.")
    return event.shape[0]
