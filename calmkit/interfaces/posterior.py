"""What one unit's value is, and what is believed of it: the target of every head.

A *unit* is what one autoregressive step produces. Its value is a latent vector (CALM and its continuous
relatives) or a tuple of token ids (MegaByte, the softmax baseline); `EventSpec` says which.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 2. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


@final
@dataclass(frozen=True)
class EventSpec:
    """The value of one unit.

    Attributes:
        shape: `(D,)` for a latent vector, `(K,)` for token ids.
        vocab_size: Number of ids, or None where the value is continuous.
    """

    shape: tuple[int, ...]
    vocab_size: int | None = None

    @property
    def kind(self) -> str:
        """`"continuous"` or `"tokens"`: the word that `HeadInfo.events` uses."""
        return "continuous" if self.vocab_size is None else "tokens"


@final
@dataclass(frozen=True)
class Posterior:
    """q(z | unit): a diagonal Gaussian, or a point where `log_std` is None; or R values that were drawn.

    Leading dimensions are free; the event's dimensions come last. A point may hold integer ids.

    Attributes:
        mean: `[*, *E]`; of several ids, which have none, the first.
        log_std: `[*, *E]`, natural logarithm of the standard deviation (not of the variance), or None.
        values: `[R, *, E]`, what the unit may be, instead of a Gaussian (`among`); None: there is nothing
            but mean and log_std. Only a head that is `TakesDraws` is ever shown some.
        weights: `[R, *]`, the chance of each of them, which sum to 1 over R; None: they are alike.
    """

    mean: Shaped[Tensor, "*units_and_event"]
    log_std: Float[Tensor, "*units_and_event"] | None = None
    values: Shaped[Tensor, "num *units_and_event"] | None = None
    weights: Float[Tensor, "num *units"] | None = None

    @classmethod
    def among(
        cls,
        values: Shaped[Tensor, "num *units_and_event"],
        weights: Float[Tensor, "num *units"] | None = None,
    ) -> Posterior:
        """One of R values for each unit, by their weights."""
        if not values.is_floating_point():
            return cls(values[0], None, values, weights)
        if weights is None:
            return cls(values.mean(0), None, values)
        return cls((weights.unsqueeze(-1).to(values.dtype) * values).sum(0), None, values, weights)

    def sample(
        self, num: int = 1, generator: torch.Generator | None = None
    ) -> Shaped[Tensor, "num *units_and_event"]:
        """Draw `num` values, reparameterised: `[num, *, *E]`. A point gives itself, `num` times."""
        if self.values is not None:
            return self._pick(self.values, num, generator)
        if self.log_std is None:
            return self.mean.expand(num, *self.mean.shape)
        noise = torch.randn(
            (num, *self.mean.shape), dtype=self.mean.dtype, device=self.mean.device, generator=generator
        )
        return self.mean + noise * self.log_std.exp()

    def points(self, num: int) -> Shaped[Tensor, "few *units_and_event"]:
        """Values for a loss over several targets, of what is no Gaussian: a point once; all values that were
        drawn where they are alike, else `num` of them by their weights.
        """
        if self.values is None:
            return self.mean.unsqueeze(0)
        return self.values if self.weights is None else self.sample(num)

    def flattened(self) -> Posterior:
        """The same with its leading dimensions made one, the event's being one: `[N, E]`."""

        def flat(value: Tensor | None, *shape: int) -> Tensor | None:
            return None if value is None else value.reshape(*shape)

        num = 0 if self.values is None else len(self.values)
        width = self.mean.shape[-1]
        return Posterior(
            self.mean.reshape(-1, width),
            flat(self.log_std, -1, width),
            flat(self.values, num, -1, width),
            flat(self.weights, num, -1),
        )

    def kl(self) -> Float[Tensor, "*units_and_event"]:
        """KL(q || N(0, I)) in nats per dimension, `[*, *E]`.

        Raises:
            ValueError: For a point, whose divergence is infinite.
        """
        if self.log_std is None:
            raise ValueError(
                "A point posterior has no finite KL to N(0, I); an autoencoder with a log_std has."
            )
        return 0.5 * (self.mean.square() + torch.expm1(2 * self.log_std) - 2 * self.log_std)

    def __getitem__(self, index: Tensor | slice | int | tuple[slice | int, ...]) -> Posterior:
        """Pick along the leading dimensions, as indexing `mean` and `log_std` would."""
        behind = (slice(None), *(index if isinstance(index, tuple) else (index,)))
        return Posterior(
            self.mean[index],
            None if self.log_std is None else self.log_std[index],
            None if self.values is None else self.values[behind],
            None if self.weights is None else self.weights[behind],
        )

    def _pick(
        self, values: Shaped[Tensor, "num *units_and_event"], num: int, generator: torch.Generator | None
    ) -> Tensor:
        """`num` of the values of each unit, with replacement."""
        units = values.shape[1:-1]
        if self.weights is None:
            size = (num, *units)
            index = torch.randint(len(values), size, generator=generator, device=values.device)
        else:
            chances = self.weights.reshape(len(values), -1).T
            index = torch.multinomial(chances, num, replacement=True, generator=generator).T
        index = index.reshape(num, *units, 1).expand(num, *values.shape[1:])
        return values.gather(0, index)
