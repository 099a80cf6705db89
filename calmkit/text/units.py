"""Units of text: chunks of K tokens."""

from __future__ import annotations

from calmkit.interfaces import Autoencoder, TokenAutoencoder
from calmkit.model import CalmModel


def chunk_size_of(part: CalmModel | Autoencoder) -> int:
    """K, tokens per unit, of a model of text or its autoencoder.

    Raises:
        TypeError: Its units are no chunks of tokens.
    """
    autoencoder = part.autoencoder if isinstance(part, CalmModel) else part
    if not isinstance(autoencoder, TokenAutoencoder):
        raise TypeError(f"{type(autoencoder).__name__} has no chunks of tokens; text needs one that has.")
    return autoencoder.chunk_size
