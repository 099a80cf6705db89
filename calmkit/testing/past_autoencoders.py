"""The laws of autoencoders whose decoder reads the units before, beside those of all that map units alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from calmkit.interfaces import Past, PastReadingAutoencoder
from calmkit.testing import laws
from calmkit.testing.laws import Subject

UNKNOWN = "what stands where nothing is known is not read"
SHARED = "draws share the past of their unit"
READ = "the decoder reads the past"
NO_FUTURE = "the loss of a unit reads no unit behind it"


@laws.law(READ)
def check_past_read(
    part: Subject, autoencoder: PastReadingAutoencoder, data_of: Callable[[], Tensor]
) -> None:
    """No past is one of which nothing is known; draws share it; it is read; and no loss reads the future.

    Args:
        part: Whose autoencoder it is.
        autoencoder: In eval mode, a little trained.
        data_of: Other data at every call, `[B, L, *unit_shape]`.
    """
    data, other = data_of(), data_of()
    valid = torch.ones(data.shape[:2], dtype=torch.bool)
    past = Past.of_rows(data, valid, autoencoder.past)[:, :-1]
    unknown = Past(past.data, torch.zeros_like(past.known))
    with torch.no_grad():
        z = autoencoder.encode(data).mean
        behind, alone = autoencoder.decode(z, past), autoencoder.decode(z)
        part.close(autoencoder.decode(z, unknown), alone, UNKNOWN, "behind an unknown past, and behind none")
        draws = torch.stack([z, z.flip(0)])
        both = autoencoder.decode(draws, past)
        part.close(both[1], autoencoder.decode(z.flip(0), past), SHARED, "one of two draws, and it alone")
        one, own = autoencoder.to_data(draws, past)[0], autoencoder.to_data(z, past)
        part.close(one, own, SHARED, "the data of one of two draws, and it alone")
        part.require(not torch.equal(behind, alone), READ, "with it and without it decode gives the same")
        if not list(autoencoder.parameters()):
            return
        first = laws.with_seed(0, lambda: autoencoder.loss(data).per_unit)
        changed = torch.cat([data[:, :-1], other[:, -1:]], 1)
        again = laws.with_seed(0, lambda: autoencoder.loss(changed).per_unit)
    part.close(first[:, :-1], again[:, :-1], NO_FUTURE, "losses before a unit, and with that unit changed")
