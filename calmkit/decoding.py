"""How values are decoded: behind their past, where the autoencoder reads one.

Whoever decodes a unit asks here or through `CalmModel`; an autoencoder that reads no past is called as ever.
"""

from __future__ import annotations

from jaxtyping import Bool, Shaped
from torch import Tensor

from calmkit.interfaces import Autoencoder, Context, Past, PastReadingAutoencoder


def past_of(
    autoencoder: Autoencoder, data: Shaped[Tensor, "*rows_and_data"], valid: Bool[Tensor, "B U"]
) -> Past | None:
    """What stands before every unit of rows and before the one to follow, `[B, L + 1]`.

    None where the autoencoder reads no past; data may then be of whole rows, such as images.
    """
    if not isinstance(autoencoder, PastReadingAutoencoder):
        return None
    return Past.of_rows(data, valid, autoencoder.past)


def behind(
    autoencoder: Autoencoder,
    context: Context,
    data: Shaped[Tensor, "*rows_and_data"],
    valid: Bool[Tensor, "B U"],
) -> Context:
    """Conditions of all units of rows, `[B, L]`, with the true units before each: teacher forcing."""
    past = past_of(autoencoder, data, valid)
    return context if past is None else context.behind(past[:, :-1])


def decoded(
    autoencoder: Autoencoder, z: Shaped[Tensor, "*rows_and_event"], past: Past | None = None
) -> Tensor:
    """What the autoencoder decodes values to, behind what stands before."""
    if isinstance(autoencoder, PastReadingAutoencoder):
        return autoencoder.decode(z, past)
    return autoencoder.decode(z)


def data_of(
    autoencoder: Autoencoder, z: Shaped[Tensor, "*rows_and_event"], past: Past | None = None
) -> Tensor:
    """Values as data, behind what stands before."""
    if isinstance(autoencoder, PastReadingAutoencoder):
        return autoencoder.to_data(z, past)
    return autoencoder.to_data(z)


def require_past(autoencoder: Autoencoder, context: Context) -> None:
    """Refuse conditions without a past where the decoder reads it: the data would be another's.

    Raises:
        ValueError: Naming the autoencoder and what would do.
    """
    if context.past is None and isinstance(autoencoder, PastReadingAutoencoder):
        raise ValueError(
            f"{type(autoencoder).__name__} decodes a unit behind the {autoencoder.past} before it, and these "
            "conditions have none; Context.behind gives them a past."
        )
