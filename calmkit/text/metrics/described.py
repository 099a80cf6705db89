"""Numbers that every evaluation holds where they are known, in words: what they mean, which way is better.

They come in by the same hook as a guest's measures, so tables, reports and `--primary` know one list. Here
they are only described: `calmkit.training` measures them, all from one stream of random numbers.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, sections 2 and 4. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Measure, MeasureInfo, Number
from calmkit.text.metrics.num_tokens import NUM_TOKENS

COLUMNS = (
    "document",
    *(f"accuracy_{n}" for n in range(1, NUM_TOKENS + 1)),
    *(f"collision_{n}" for n in range(1, NUM_TOKENS + 1)),
    "positions",
)
"""Of the table by document: sums over its positions, not means."""


@final
class Brier(Measure):
    """BrierLM and the Brier scores of the first one to four tokens, from draws alone."""

    data_kind = "text"
    info = MeasureInfo(
        {
            "lm": Number(
                "BrierLM",
                better="higher",
                meaning="100 times the geometric mean of Brier-1 to Brier-4.",
                digits=2,
                best=100.0,
            ),
            **{
                f"{n}": Number(
                    f"Brier-{n}",
                    better="higher",
                    meaning=f"Over the next {n}: twice their chance, less the chance that two draws agree.",
                    unit="%",
                    digits=2,
                    factor=100.0,
                    proper=True,
                    best=1.0,
                )
                for n in (1, 2, 3, 4)
            },
        }
    )
    sums: ClassVar[Mapping[str, tuple[str, ...]]] = {"brier_lm": COLUMNS[1:]}

    @classmethod
    def of_sums(cls, name: str, sums: np.ndarray) -> np.ndarray:
        """See `brier_lm_of`."""
        del name
        return brier_lm_of(sums)


def brier_lm_of(sums: np.ndarray) -> np.ndarray:
    """BrierLM of the sums of accuracy (4), collision (4) and positions, `[..., 9]` -> `[...]`; 0 where a
    factor is not positive.
    """
    accuracy, collision, positions = np.split(sums, [NUM_TOKENS, 2 * NUM_TOKENS], axis=-1)
    brier = (2 * accuracy - collision) / np.maximum(positions, 1e-300)
    return np.asarray(100 * np.clip(brier, 0, None).prod(-1) ** (1 / NUM_TOKENS))


@final
class Nll(Measure):
    """Cross-entropy per token of a head that knows its density: exact over ids, a bound over latents."""

    data_kind = "text"
    info = MeasureInfo(
        {
            "per_token": Number(
                "nats/token",
                better="lower",
                meaning="Minus the mean log probability of a token given its past, exact.",
                proper=True,
            ),
            "bound_per_token": Number(
                "nats/token, bound",
                better="lower",
                meaning="An upper bound on minus the mean log probability of a token given its past.",
            ),
        },
    )


@final
class LatentNll(Measure):
    """Minus the log density of the latents under a head that knows it; models of one autoencoder compare."""

    data_kind = "text"
    info = MeasureInfo(
        Number(
            "latent nats/chunk",
            better="lower",
            meaning="Minus the mean log density of a latent given its past; it may be negative.",
            proper=True,
        ),
    )


@final
class TokensPerSecond(Measure):
    """Speed of writing one text on the machine that measured it, with the recipe's sampler."""

    data_kind = "text"
    info = MeasureInfo(
        Number(
            "tokens/s", better="higher", meaning="Tokens written per second, one text at a time.", digits=0
        )
    )


@final
class Reconstruction(Measure):
    """What comes back from a draw of the autoencoder's posterior: the ceiling of all that rests on it."""

    data_kind = "text"
    info = MeasureInfo(
        {
            f"{what}_accuracy": Number(
                f"{what}s given back",
                better="higher",
                meaning=f"Share of the {what}s that come back from a draw of their posterior.",
                unit="%",
                digits=2,
                factor=100.0,
            )
            for what in ("token", "chunk")
        }
    )


@hookimpl
def calmkit_metrics() -> dict[str, type[Measure]]:
    """Register these."""
    return {
        "brier": Brier,
        "nll": Nll,
        "latent_nll": LatentNll,
        "tokens_per_second": TokensPerSecond,
        "reconstruction": Reconstruction,
    }
