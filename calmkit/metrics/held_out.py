"""HeldOut of a batch: what measures see, and the draws that they share.

Source: teacher forcing, as for BrierLM: Shao et al., Continuous Autoregressive Language Models, 2025,
section 4. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import torch
from torch import Tensor

from calmkit.generation import SeededRandomness
from calmkit.interfaces import Batch, HeldOut
from calmkit.metrics.draws import draw_units
from calmkit.model import CalmModel


@torch.no_grad()
def held_out(
    model: CalmModel,
    batch: Batch,
    *,
    num_draws: int,
    seed: int,
) -> HeldOut | None:
    """The predicted units of a batch as measures see them; None where there is none.

    Args:
        model: In eval mode.
        batch: Evaluation rows.
        num_draws: What `HeldOut.draws` gives a measure that names no number.
        seed: Of the draws. Torch's default generators stay as they are.
    """
    keep = model.counted(batch)
    rows = keep.nonzero()[:, 0]
    if len(rows) == 0:
        return None
    target = model.encode(batch.data)
    context = model.context(batch.data, batch.valid, target.mean, condition=batch.condition)
    made: dict[int, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def draw(num: int | None) -> tuple[Tensor, Tensor]:
        count = num_draws if num is None else num
        if count not in made:
            with SeededRandomness(seed, batch.valid.device).borrowed():
                made[count] = draw_units(model, context, keep, count, None)
        return made[count]

    return HeldOut(
        head=model.head,
        autoencoder=model.autoencoder,
        context=context,
        keep=keep,
        target=target[keep],
        data=batch.data[keep],
        rows=rows,
        groups=None if batch.group is None else batch.group[keep],
        draw=draw,
        density=model.log_prob,
    )
