"""CalmModel: the parts meet here and nowhere else.

    chunks -> autoencoder.encode (frozen) -> posterior ----------------------.
           -> embedder -> backbone -> context -> keep = valid & predict -> head.loss -> one value per unit

Whoever wants something of a head asks here, with or without a model: `head_loss`, `head_log_prob`,
`head_draws` and `guided_draws` call it in the precision that its `HeadInfo` allows, and never with zero
units.

A discrete model is the same thing with an identity autoencoder and a head over ids, so one training loop,
one metric and one table serve both.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, sections 2 and 3. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from calmkit.interfaces import (
    Autoencoder,
    Backbone,
    Context,
    DensityHead,
    Embedder,
    GenerativeHead,
    Guided,
    GuidedHead,
    Posterior,
    SampleOptions,
)


@dataclass(frozen=True)
class UnitLoss:
    """The head's loss of the units that count, and which ones they are.

    Attributes:
        per_unit: `[N]`, in the head's own unit.
        keep: `[B, L]`, true where a unit counts; N of them, in row-major order.
    """

    per_unit: Float[Tensor, " N"]
    keep: Bool[Tensor, "B L"]


@final
class CalmModel(nn.Module):
    """A continuous autoregressive model, composed of four parts.

    The autoencoder is frozen in all three senses: no gradient, hence no optimiser entry, and eval mode that
    survives `model.train()`.

    Args:
        autoencoder: Between data and values.
        embedder: What the backbone reads.
        backbone: From the past to the condition.
        head: p(z | context).
        eos_id: End-of-text.
        predict_first: False leaves unit 0 of a row out of the loss, as official checkpoints do.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        embedder: Embedder,
        backbone: Backbone,
        head: GenerativeHead,
        *,
        eos_id: int,
        predict_first: bool = True,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder.requires_grad_(False)
        self.embedder = embedder
        self.backbone = backbone
        self.head = head
        self.eos_id = eos_id
        self.predict_first = predict_first
        self.autoencoder.eval()

    @property
    def chunk_size(self) -> int:
        """K, tokens per unit."""
        return self.autoencoder.chunk_size

    def train(self, mode: bool = True) -> CalmModel:
        """Switch the mode of every part but the frozen autoencoder, which stays in eval mode."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    @torch.no_grad()
    def encode(self, chunks: Int[Tensor, "*units K"]) -> Posterior:
        """The targets of chunks. Outside autocast: they don't depend on the precision of training."""
        with torch.autocast(chunks.device.type, enabled=False):
            return self.autoencoder.encode(chunks)

    def context(
        self, chunks: Int[Tensor, "B L K"], valid: Bool[Tensor, "B L"] | None = None, z: Tensor | None = None
    ) -> Context:
        """Conditions of all units, `h` `[B, L, H]`: `h[:, i]` has read the units before i.

        Args:
            chunks: Ids.
            valid: Which units are real; None: all.
            z: `[B, L, *E]`, what a latent-reading embedder sees; None: the posterior's mean.
        """
        if valid is None:
            valid = torch.ones(chunks.shape[:2], dtype=torch.bool, device=chunks.device)
        if z is None:
            z = self.encode(chunks).mean
        return self.backbone(self.embedder(chunks, z), valid)

    def predict(self, valid: Bool[Tensor, "B L"]) -> Bool[Tensor, "B L"]:
        """Which units are predicted: all real ones, or all but the first real one of each row."""
        return valid if self.predict_first else valid & (valid.long().cumsum(1) > 1)

    def loss(self, chunks: Int[Tensor, "B L K"], valid: Bool[Tensor, "B L"]) -> UnitLoss:
        """Loss of each unit that counts; the mean is taken by whoever trains."""
        target = self.encode(chunks)
        context = self.context(chunks, valid, target.sample(1)[0])
        keep = self.predict(valid)
        if self.head.info.needs_memory:
            per_unit = head_loss(self.head, context, target)[keep]
        else:
            per_unit = head_loss(self.head, context[keep], target[keep])
        return UnitLoss(per_unit, keep)

    def draw(
        self, context: Context, num: int, options: SampleOptions | None = None
    ) -> tuple[Int[Tensor, "num *units K"], Shaped[Tensor, "num *units_and_event"]]:
        """`num` draws per unit, as ids and as the values they were decoded from."""
        if context.h[..., 0].numel() == 0:
            return self._no_draws(context.h, num)
        z = head_draws(self.head, context, num, options)
        return self.autoencoder.to_data(z), z

    def log_prob(self, context: Context, z: Shaped[Tensor, "*units_and_event"]) -> Float[Tensor, "*units"]:
        """Exact log density of values, nats per unit, of a model whose head is a `DensityHead`."""
        assert isinstance(self.head, DensityHead)
        return head_log_prob(self.head, context, z)

    def _no_draws(self, h: Tensor, num: int) -> tuple[Tensor, Tensor]:
        """`draw` of no unit: the shapes, and nobody asked."""
        event, leading = self.autoencoder.event, (num, *h.shape[:-1])
        ids = torch.empty(*leading, self.chunk_size, dtype=torch.long, device=h.device)
        return ids, ids if event.kind == "tokens" else h.new_empty(*leading, *event.shape)


HALF = (torch.bfloat16, torch.float16)


def head_loss(head: GenerativeHead, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
    """The head's loss of each unit, as its facts ask to be called."""
    if context.h[..., 0].numel() == 0:
        return context.h.sum(-1)
    with _precision_of(head, context.h.device):
        if head.info.half_precision:
            return head.loss(context, target)
        mean, log_std = _wide(target.mean), None if target.log_std is None else _wide(target.log_std)
        return head.loss(_wide_context(context), Posterior(mean, log_std))


def head_log_prob(
    head: DensityHead, context: Context, z: Shaped[Tensor, "*units_and_event"]
) -> Float[Tensor, "*units"]:
    """The head's log density of each value, as its facts ask to be called."""
    if context.h[..., 0].numel() == 0:
        return context.h.sum(-1)
    with _precision_of(head, context.h.device):
        if head.info.half_precision:
            return head.log_prob(context, z)
        return head.log_prob(_wide_context(context), _wide(z))


def head_draws(
    head: GenerativeHead, context: Context, num: int = 1, options: SampleOptions | None = None
) -> Shaped[Tensor, "num *units_and_event"]:
    """`num` draws of each unit, of which there is one at least, as the head's facts ask to be called."""
    with _precision_of(head, context.h.device):
        return head.sample(context if head.info.half_precision else _wide_context(context), num, options)


def guided_draws(
    head: GenerativeHead, guided: Guided, num: int = 1, options: SampleOptions | None = None
) -> Shaped[Tensor, "num *units_and_event"]:
    """`num` draws of each unit under an affine combination of conditions, taken where the head says.

    Terms of weight 0 are left out. One term that is left is `head_draws`, bit for bit, for any head.

    Args:
        head: Its `info.guidance` says where the combination is taken.
        guided: Conditions of the same units and their weights, the condition wished for before the null ones.
        num: Draws per unit.
        options: Of each draw.

    Raises:
        ValueError: If the weights do not sum to 1, the head can't be guided, or it refuses the combination.
    """
    total = sum(weight for _, weight in guided)
    if not abs(total - 1) <= 1e-6:  # also refuses NaN
        weights = ", ".join(f"{weight:g}" for _, weight in guided)
        raise ValueError(f"guided_draws: weights must sum to 1, got {weights}; w and 1 - w would do.")
    terms = tuple((context, float(weight)) for context, weight in guided if weight != 0)
    if len(terms) == 1:
        return head_draws(head, terms[0][0], num, options)
    if isinstance(head, GuidedHead):
        if not head.info.half_precision:
            terms = tuple((_wide_context(context), weight) for context, weight in terms)
        with _precision_of(head, terms[0][0].h.device):
            return head.sample_guided(terms, num, options)
    if head.info.guidance == "none":
        name = type(head).__name__
        raise ValueError(
            f"{name} can't be guided (its HeadInfo.guidance is 'none'), and {len(terms)} conditions came; "
            "guidance 1 would do."
        )
    mixed = torch.stack([weight * _wide(context.h) for context, weight in terms]).sum(0)
    return head_draws(head, Context(mixed.to(terms[0][0].h.dtype)), num, options)


@contextmanager
def _precision_of(head: GenerativeHead, device: torch.device) -> Iterator[None]:
    """Outside autocast for a head that does not hold in half precision.

    Raises:
        ValueError: If the weights of such a head are of half precision.
    """
    if head.info.half_precision:
        yield
        return
    half = next((name for name, value in head.named_parameters() if value.dtype in HALF), None)
    if half is not None:
        name = type(head).__name__
        raise ValueError(
            f"{name} does not hold in half precision (its HeadInfo.half_precision is false), and its "
            f"parameter '{half}' is of half precision; keep the model in float32 and use autocast."
        )
    with torch.autocast(device.type, enabled=False):
        yield


def _wide(value: Tensor) -> Tensor:
    return value.float() if value.dtype in HALF else value


def _wide_context(context: Context) -> Context:
    memory = None if context.memory is None else _wide(context.memory)
    return Context(_wide(context.h), memory, context.visible)


def fill_after_end(
    ids: Int[Tensor, "*rows K"], eos_id: int, at_document_start: Bool[Tensor, "*rows"] | None = None
) -> Int[Tensor, "*rows K"]:
    """Replace everything after an end-of-text inside a chunk by end-of-text.

    Where a chunk opens a document, the end-of-text tokens at its left are the fill that packing puts there (a
    document's length is made a multiple of K on its left), so only one that follows another token ends the
    text.
    """
    is_end = ids == eos_id
    if at_document_start is not None:
        is_fill = is_end.long().cumprod(-1).bool() & at_document_start.unsqueeze(-1)
        is_end = is_end & ~is_fill
    after = is_end.long().cumsum(-1) - is_end.long() > 0
    return torch.where(after, torch.full_like(ids, eos_id), ids)


def has_ended(
    ids: Int[Tensor, "*rows K"], eos_id: int, at_document_start: Bool[Tensor, "*rows"]
) -> Bool[Tensor, "*rows"]:
    """True where a chunk that `fill_after_end` returned ends its text."""
    last_is_end = ids[..., -1] == eos_id
    any_end = (ids == eos_id).any(-1)
    return torch.where(at_document_start, last_is_end, any_end)
