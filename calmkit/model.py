"""CalmModel: the parts meet here and nowhere else.

    data -> autoencoder.encode (frozen) -> transform -> posterior -----------------------------.
         -> embedder, behind the conditioner's prefix -> backbone (in an order) -> context -> keep = valid
            & predict -> head.loss -> one value per unit

What the data are made of is known to their kind and its autoencoders alone; how a head is called, to
`calmkit.head_calls`. A discrete model is the same thing with an identity autoencoder and a head over ids.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, sections 2 and 3. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from calmkit.decoding import behind, data_of, decoded, require_past
from calmkit.head_calls import UnitLoss, head_draws, head_log_prob, unit_loss
from calmkit.head_calls import guided_draws as guided_draws  # the docs import it from here
from calmkit.interfaces import (
    AnyOrderBackbone,
    Autoencoder,
    Backbone,
    Batch,
    Conditioner,
    Context,
    DensityHead,
    Embedder,
    EventSpec,
    GenerativeHead,
    LatentTransform,
    Order,
    Past,
    Posterior,
    SampleOptions,
    UnitwiseAutoencoder,
)
from calmkit.transforms.chain import Chain


@final
class CalmModel(nn.Module):
    """A continuous autoregressive model, composed of its parts.

    The autoencoder is frozen in all three senses: no gradient, hence no optimiser entry, and eval mode that
    survives `model.train()`. So is a transform that learns nothing, and any part whose parameters take none.

    Args:
        autoencoder: Between data and values.
        embedder: What the backbone reads.
        backbone: From the units that are known to the condition of others.
        head: p(z | context).
        transform: Between the autoencoder's values and those of the model; None: they are the same.
        conditioner: What stands before the first unit; None: nothing.
        order: Which units are known when one is predicted; None: those before it.
        predict_first: False leaves unit 0 of a row out of the loss, as official checkpoints do.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        embedder: Embedder,
        backbone: Backbone | AnyOrderBackbone,
        head: GenerativeHead,
        *,
        transform: LatentTransform | Chain | None = None,
        conditioner: Conditioner | None = None,
        order: Order | None = None,
        predict_first: bool = True,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder.requires_grad_(False)
        self.embedder = embedder
        self.backbone = backbone
        self.head = head
        self.transform = transform
        self.conditioner = conditioner
        self.order = order
        self.predict_first = predict_first
        if transform is not None and not transform.learned:
            transform.requires_grad_(False)
        self._keep_frozen()

    @property
    def event(self) -> EventSpec:
        """Of the values that the head predicts."""
        return self.autoencoder.event if self.transform is None else self.transform.event

    @property
    def layout(self) -> tuple[int, ...] | None:
        """How the units of a row lie; None: a sequence, as long as its row."""
        return self.autoencoder.layout if self.transform is None else self.transform.layout

    @property
    def causal(self) -> Backbone:
        """The backbone of a model whose units come one after the other.

        Raises:
            TypeError: Its units come in any order.
        """
        if not isinstance(self.backbone, Backbone):
            raise TypeError(
                f"{type(self.backbone).__name__} reads units in any order; a causal one is needed."
            )
        return self.backbone

    def train(self, mode: bool = True) -> CalmModel:
        """Switch the mode of every part but the frozen ones, which stay in eval mode."""
        super().train(mode)
        self._keep_frozen()
        return self

    @torch.no_grad()
    def encode(self, data: Shaped[Tensor, "*rows_and_data"]) -> Posterior:
        """The targets of data, outside autocast: they don't depend on the precision of training. Where a
        transform keeps no Gaussian, a point: the transformed mean.
        """
        with torch.autocast(data.device.type, enabled=False):
            posterior = self.autoencoder.encode(data)
            if self.transform is None:
                return posterior
            if self.transform.keeps_gaussians:
                return self.transform.posterior(posterior)
            return Posterior(self.transform(posterior.mean)[0])

    def context(
        self,
        data: Shaped[Tensor, "*rows_and_data"],
        valid: Bool[Tensor, "B U"] | None = None,
        z: Tensor | None = None,
        *,
        known: Bool[Tensor, "B L"] | None = None,
        condition: Mapping[str, Tensor] | None = None,
        drop: Bool[Tensor, " B"] | None = None,
    ) -> Context:
        """Conditions of all units, `h` `[B, L, H]`: `h[:, i]` has read the units before i, or those known.

        Args:
            data: As the autoencoder reads them.
            valid: Which units are real, of the data or of the model (see `by_unit`); None: all.
            z: `[B, L, *E]`, what a latent-reading embedder sees; None: the posterior's mean.
            known: For a backbone of any order: the units it may read; None: all real ones.
            condition: Of each row, for the conditioner.
            drop: Rows that get the null condition; None: none does.
        """
        if z is None:
            z = self.encode(data).mean
        if valid is None:
            valid = torch.ones(z.shape[:2], dtype=torch.bool, device=z.device)
        valid = self.by_unit(valid)
        x = self.embedder(self.unit_data(data), z)
        context = self.conditions(x, valid, known, self.prefix(len(x), condition, drop))
        return behind(self.autoencoder, context, data, valid)

    def conditions(
        self,
        x: Float[Tensor, "B L H"],
        valid: Bool[Tensor, "B L"],
        known: Bool[Tensor, "B L"] | None,
        prefix: Float[Tensor, "B P H"] | None,
    ) -> Context:
        """What the backbone makes of embedded units behind a prefix.

        A causal backbone reads the prefix as units in front, so that every one of them can take one.
        """
        if isinstance(self.backbone, AnyOrderBackbone):
            return self.backbone(x, valid if known is None else known & valid, prefix)
        if prefix is None:
            return self.backbone(x, valid)
        front = torch.ones(prefix.shape[:2], dtype=torch.bool, device=valid.device)
        context = self.backbone(torch.cat([prefix.to(x.dtype), x], 1), torch.cat([front, valid], 1))
        return context[:, prefix.shape[1] :]

    def prefix(
        self,
        rows: int,
        condition: Mapping[str, Tensor] | None = None,
        drop: Bool[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B P H"] | None:
        """What stands before the first unit of each row; None for a model without a conditioner.

        Args:
            rows: B.
            condition: Of each row; None or empty: all get the null condition.
            drop: Rows that get it anyway.
        """
        if self.conditioner is None:
            return None
        device = next(self.parameters()).device
        if not condition:
            drop = torch.ones(rows, dtype=torch.bool, device=device)
        elif drop is None:
            drop = torch.zeros(rows, dtype=torch.bool, device=device)
        return self.conditioner(condition or {}, drop)

    def unit_data(self, data: Shaped[Tensor, "*rows_and_data"]) -> Tensor | None:
        """The data of each unit, for an embedder; None where only whole rows have any."""
        return data if isinstance(self.autoencoder, UnitwiseAutoencoder) else None

    def by_unit(self, said: Bool[Tensor, "B U"]) -> Bool[Tensor, "B L"]:
        """What data say of the units of their autoencoder, said of those of the model. Where a transform
        makes other units of a row, each of them holds for the whole row or for none of it.
        """
        if self.layout is None or said.shape[1] == math.prod(self.layout):
            return said
        return said.all(1, keepdim=True).expand(-1, math.prod(self.layout))

    def predict(self, valid: Bool[Tensor, "B L"]) -> Bool[Tensor, "B L"]:
        """Which units are predicted: all real ones, or all but the first real one of each row."""
        return valid if self.predict_first else valid & (valid.long().cumsum(1) > 1)

    def counted(self, batch: Batch) -> Bool[Tensor, "B L"]:
        """Which units of a batch count: predicted, and wanted by the data."""
        predicted = self.predict(self.by_unit(batch.valid))
        return predicted if batch.predict is None else predicted & self.by_unit(batch.predict)

    def loss(self, batch: Batch, instead: Posterior | None = None) -> UnitLoss:
        """Loss of each unit that counts; `instead`: other targets than those that the data give."""
        target, z, log_det = self.target(batch.data)
        target = target if instead is None else instead
        keep, known = self.counted(batch), None
        if self.order is not None and self.order.reads == "any":
            plan = self.order.plan(self.by_unit(batch.valid))
            keep, known = keep & plan.predict, plan.known
        drop = self._dropped(len(batch))
        context = self.context(batch.data, batch.valid, z, known=known, condition=batch.condition, drop=drop)
        found = unit_loss(self.head, context, target, keep)
        if log_det is not None and isinstance(self.head, DensityHead):  # else volume could be shrunk for free
            return UnitLoss(found.per_unit - log_det[keep], keep)
        return found

    def target(self, data: Tensor) -> tuple[Posterior, Tensor, Tensor | None]:
        """What the head shall predict, the values that the backbone reads (one draw), and the log volume by
        unit of a transform that learns, nats. Unlike `encode`, which has nothing random, a draw goes through
        a transform that keeps no Gaussian.
        """
        if self.transform is None or self.transform.keeps_gaussians:
            target = self.encode(data)
            return target, target.sample(1)[0], None
        with torch.no_grad(), torch.autocast(data.device.type, enabled=False):
            drawn = self.autoencoder.encode(data).sample(1)[0]
        with torch.autocast(data.device.type, enabled=False):
            z, log_det = self.transform(drawn)
        return Posterior(z), z, log_det if self.transform.learned else None

    def draw(
        self, context: Context, num: int, options: SampleOptions | None = None
    ) -> tuple[Shaped[Tensor, "*num_units_and_data"], Shaped[Tensor, "num *units_and_event"]]:
        """`num` draws per unit, as data and as the values they were decoded from.

        Raises:
            TypeError: The autoencoder maps whole rows only, so a unit alone is no data.
            ValueError: Its decoder reads the past, and the context has none.
        """
        if not isinstance(self.autoencoder, UnitwiseAutoencoder):
            raise TypeError(f"{type(self.autoencoder).__name__} decodes whole rows; a unit alone is no data.")
        if context.h[..., 0].numel() == 0:
            return self._no_draws(self.autoencoder, context.h, num)
        require_past(self.autoencoder, context)
        z = head_draws(self.head, context, num, options)
        return self.to_data(z, context.past), z

    def decode(self, z: Shaped[Tensor, "*rows_and_event"], past: Past | None = None) -> Tensor:
        """Values of the model, back through the transform, as the autoencoder decodes them."""
        return decoded(self.autoencoder, z if self.transform is None else self.transform.inverse(z), past)

    def to_data(self, z: Shaped[Tensor, "*rows_and_event"], past: Past | None = None) -> Tensor:
        """Values of the model, back through the transform, as data, behind what stands before."""
        return data_of(self.autoencoder, z if self.transform is None else self.transform.inverse(z), past)

    def log_prob(self, context: Context, z: Shaped[Tensor, "*units_and_event"]) -> Float[Tensor, "*units"]:
        """Exact log density of values, nats per unit, of a model whose head is a `DensityHead`."""
        assert isinstance(self.head, DensityHead)
        return head_log_prob(self.head, context, z)

    def _dropped(self, rows: int) -> Bool[Tensor, " B"] | None:
        """Rows that train without their condition, by torch's default generator."""
        if self.conditioner is None or not self.training or not self.conditioner.drop:
            return None
        return torch.rand(rows, device=next(self.parameters()).device) < self.conditioner.drop

    def _no_draws(self, autoencoder: UnitwiseAutoencoder, h: Tensor, num: int) -> tuple[Tensor, Tensor]:
        """`draw` of no unit: the shapes, and nobody asked."""
        leading = (num, *h.shape[:-1])
        data = h.new_empty(*leading, *autoencoder.unit_shape)
        data = data.long() if autoencoder.discrete else data
        return data, h.new_empty(*leading, *self.event.shape) if self.event.kind == "continuous" else data

    def _keep_frozen(self) -> None:
        fixed = None if self.transform is None or self.transform.learned else self.transform
        for part in self.children():
            if part in (self.autoencoder, fixed) or {p.requires_grad for p in part.parameters()} == {False}:
                part.eval()
