"""The conformance kit sees what is wrong with a latent transform, and which law it breaks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calmkit.interfaces import EventSpec, LatentTransform, Posterior
from calmkit.testing import check_transform
from calmkit.transforms.adaptor import AdaptorTransform
from calmkit.transforms.normalise import NormaliseTransform


class Scaled(LatentTransform):
    """A normaliser, wrapped: each subclass breaks one law."""

    keeps_gaussians = True

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__()
        self.event, self.layout = event, layout
        self.inner: Any = NormaliseTransform(event, layout)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(z)

    def inverse(self, z: Tensor) -> Tensor:
        return self.inner.inverse(z)

    def posterior(self, posterior: Posterior) -> Posterior:
        return self.inner.posterior(posterior)

    def fit(self, batches: Iterable[Tensor]) -> None:
        self.inner.fit(batches)


class Bent(LatentTransform):
    """Learned coupling blocks, wrapped: each subclass breaks one law."""

    keeps_gaussians = False
    learned = True

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__()
        self.event, self.layout = event, layout
        self.inner: Any = AdaptorTransform(event, layout, blocks=2, mixing="unit")

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(z)

    def inverse(self, z: Tensor) -> Tensor:
        return self.inner.inverse(z)


class Clipped(Scaled):
    """Cuts outliers off."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        out, log_det = super().forward(z)
        return out.clamp(-1, 1), log_det


class Positive(Bent):
    """Gives positive values only, so that not every value comes from one."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        out, log_det = super().forward(z)
        return out.exp(), log_det + out.sum(-1)

    def inverse(self, z: Tensor) -> Tensor:
        return super().inverse(z.clamp(min=1e-9).log())


class WrongSign(Scaled):
    """Its log_det is that of the inverse."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        out, log_det = super().forward(z)
        return out, -log_det


class Unshared(Scaled):
    """Every unit gets the log_det of its row."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        out, log_det = super().forward(z)
        return out, log_det.sum(-1, keepdim=True).expand(log_det.shape)


class PerRow(Scaled):
    """One log_det for a row, without a dimension for the units."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        out, log_det = super().forward(z)
        return out, log_det.sum(-1)


class Batchwise(Bent):
    """Leans on the mean over the batch."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        out, log_det = super().forward(z)
        return out + out.reshape(-1, *out.shape[-2:]).mean(0), log_det

    def inverse(self, z: Tensor) -> Tensor:
        return super().inverse(z - z.reshape(-1, *z.shape[-2:]).mean(0) / 2)


class SameWidth(Scaled):
    """Moves the mean of a Gaussian and leaves its width."""

    def posterior(self, posterior: Posterior) -> Posterior:
        return Posterior(super().posterior(posterior).mean, posterior.log_std)


class OffCenter(Scaled):
    """Forgets to move the mean of a Gaussian."""

    def posterior(self, posterior: Posterior) -> Posterior:
        return Posterior(posterior.mean / self.inner.scale, super().posterior(posterior).log_std)


class Pointed(Scaled):
    """Gives a point some width."""

    def posterior(self, posterior: Posterior) -> Posterior:
        found = super().posterior(posterior)
        return Posterior(found.mean, torch.zeros_like(found.mean) if found.log_std is None else found.log_std)


class Optimist(Bent):
    """Bends, and says that Gaussians stay what they are."""

    keeps_gaussians = True

    def posterior(self, posterior: Posterior) -> Posterior:
        return Posterior(self(posterior.mean)[0], posterior.log_std)


class Sheared(LatentTransform):
    """Adds each dimension to the one before: Gaussian still, but no longer diagonal."""

    keeps_gaussians = True

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__()
        self.event, self.layout = event, layout

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z + nn.functional.pad(z[..., 1:], (0, 1)), z.new_zeros(z.shape[:-1])

    def inverse(self, z: Tensor) -> Tensor:
        signs = torch.ones_like(z).cumsum(-1) % 2 * 2 - 1
        return (z * signs).flip(-1).cumsum(-1).flip(-1) * signs

    def posterior(self, posterior: Posterior) -> Posterior:
        return Posterior(self(posterior.mean)[0], posterior.log_std)


class Pessimist(Bent):
    """Says that it keeps no Gaussian, and gives one."""

    def posterior(self, posterior: Posterior) -> Posterior:
        return posterior


class Drowsy(Bent):
    """Another map in train mode."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        out, log_det = super().forward(z)
        return out + (1.0 if self.training else 0.0), log_det


class Remembers(Bent):
    """Counts its calls."""

    calls = 0

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        out, log_det = super().forward(z)
        return out + self.calls, log_det


class Guesses(Scaled):
    """Fits to a part of the values that torch's generator picks."""

    def fit(self, batches: Iterable[Tensor]) -> None:
        super().fit([z[:, torch.randperm(z.shape[1])[:3]] for z in batches])


class Twice(Scaled):
    """Goes over the batches two times."""

    def fit(self, batches: Iterable[Tensor]) -> None:
        self.count = sum(len(z) for z in batches)
        super().fit(batches)


class Greedy(Scaled):
    """Normalises what it is fitted to, in place."""

    def fit(self, batches: Iterable[Tensor]) -> None:
        kept = list(batches)
        super().fit(kept)
        for z in kept:
            z.copy_(self(z)[0])


class Eager(Scaled):
    """Before it is fitted its scale is one."""

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__(event, layout)
        self.inner.fitted.fill_(True)


class Mute(Scaled):
    """Refuses without saying why."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if not self.inner.fitted.is_meta and not self.inner.fitted:
            raise RuntimeError("no")
        return super().forward(z)


class Forgets(LatentTransform):
    """Keeps its center in a plain number, which is not saved."""

    keeps_gaussians = True
    center = 0.0

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__()
        self.event, self.layout = event, layout

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z - self.center, z.new_zeros(z.shape[:-1])

    def inverse(self, z: Tensor) -> Tensor:
        return z + self.center

    def posterior(self, posterior: Posterior) -> Posterior:
        return Posterior(posterior.mean - self.center, posterior.log_std)

    def fit(self, batches: Iterable[Tensor]) -> None:
        self.center = torch.stack([z.mean() for z in batches]).mean().item()


class Reads(Scaled):
    """Looks at numbers that are not there on the meta device."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if not self.inner.fitted:
            raise RuntimeError("not fitted")
        return super().forward(z)


class Idle(Bent):
    """Has a parameter that nothing reads."""

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__(event, layout)
        self.idle = nn.Parameter(torch.zeros(3))


class Modest(Bent):
    """Has parameters and says that nothing is learned."""

    learned = False


class Boast(Scaled):
    """Says that it learns, and has nothing to learn with."""

    learned = True


class Hides(Scaled):
    """Keeps a tensor where torch does not find it."""

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__(event, layout)
        self.kept = [torch.zeros(3)]


class NoLayout(Scaled):
    """Loses the grid."""

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__(event, layout)
        self.layout = None


class OtherLayout(Scaled):
    """Promises more units than it gives."""

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__(event, layout)
        if layout is not None:
            self.layout = (2 * layout[0], *layout[1:])


class Unlaid(Scaled):
    """Says nothing of its layout."""

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__(event, layout)
        del self.layout


class Ids(Scaled):
    """Gives ids, it says."""

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__(event, layout)
        self.event = EventSpec(event.shape, vocab_size=3)


class Picky(Scaled):
    """Takes no layout."""

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        raise ValueError(f"picky: not {layout}")


class Trips(Scaled):
    """Fails over a sequence instead of refusing it."""

    def __init__(self, event: EventSpec, layout: tuple[int, ...] | None) -> None:
        super().__init__(event, layout)
        self.size = len(layout)  # type: ignore[arg-type]


class OwnDtype(Scaled):
    """Gives log_det in torch's default dtype."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        out, log_det = super().forward(z)
        return out, log_det.to(torch.get_default_dtype())


class LeavesNaN(Scaled):
    """Takes a logarithm of what may be negative."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        out, log_det = super().forward(z)
        return out.log(), log_det


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (Clipped, "inverse undoes forward"),
        (Positive, "forward undoes inverse"),
        (WrongSign, "log_det is that of the Jacobian"),
        (Unshared, "log_det is that of the Jacobian"),
        (PerRow, r"values \[\*, l, d\] and log_det \[\*, l\]"),
        (LeavesNaN, r"values \[\*, l, d\] and log_det \[\*, l\]': not finite"),
        (Batchwise, "a row alone gives what it gives in a batch"),
        (SameWidth, "posterior is the law of transformed draws': the covariance"),
        (OffCenter, "posterior is the law of transformed draws': the mean"),
        (Sheared, "posterior is the law of transformed draws': the covariance"),
        (Optimist, "posterior is the law of transformed draws': a draw"),
        (Pointed, "a point stays a point"),
        (Pessimist, "without keeps_gaussians, posterior is a TypeError"),
        (Drowsy, "equal in train and eval mode"),
        (Remembers, "a transform keeps no state"),
        (Guesses, "fit is repeatable and sees its batches once': a second fit"),
        (Twice, "fit is repeatable and sees its batches once': .* raised"),
        (Greedy, "fit leaves the values alone"),
        (Eager, "before it is fitted it refuses': forward gave numbers"),
        (Mute, "before it is fitted it refuses': .* says nothing of fit: no"),
        (Forgets, "state_dict round trip"),
        (Reads, "it works on the meta device"),
        (Idle, "gradient reaches every parameter"),
        (Modest, "learned says whether it has parameters"),
        (Boast, "learned says whether it has parameters"),
        (Hides, "what a part keeps is registered"),
        (NoLayout, "event and layout say what comes out': .* without a layout"),
        (OtherLayout, "event and layout say what comes out': 144 numbers of a row come out of 72"),
        (Unlaid, "event and layout say what comes out': .* AttributeError"),
        (Ids, "event and layout say what comes out': .* is no latent vector"),
        (Picky, "it takes some layout of its units"),
        (Trips, "a layout is taken or refused with a ValueError': .* TypeError"),
        (OwnDtype, "dtype follows the input': log_det"),
    ],
)
def test_a_broken_transform_is_seen(cls: type[LatentTransform], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_transform(cls)


@pytest.mark.parametrize("cls", [Scaled, Bent])
def test_the_wrapped_transforms_themselves_keep_every_law(cls: type[LatentTransform]) -> None:
    check_transform(cls)


def test_one_that_states_no_fact_is_refused_before_it_is_built() -> None:
    class Silent(Scaled):
        """Says nothing of Gaussians."""

        keeps_gaussians = None  # type: ignore[assignment]

    with pytest.raises(AssertionError, match="keeps_gaussians is stated': it states no keeps_gaussians"):
        check_transform(Silent)
