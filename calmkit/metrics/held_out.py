"""HeldOut of a batch: what measures see, and the draws that they share.

Source: teacher forcing, as for BrierLM: Shao et al., Continuous Autoregressive Language Models, 2025,
section 4. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from calmkit.generation import SeededRandomness
from calmkit.interfaces import HeldOut
from calmkit.metrics.rollout import draw_units
from calmkit.model import CalmModel


@torch.no_grad()
def held_out(
    model: CalmModel,
    chunks: Int[Tensor, "B L K"],
    valid: Bool[Tensor, "B L"],
    documents: Int[Tensor, "B L"] | None = None,
    *,
    num_draws: int,
    seed: int,
) -> HeldOut | None:
    """The predicted units of a batch as measures see them; None where there is none.

    Args:
        model: In eval mode.
        chunks: Evaluation rows.
        valid: True where a unit is real.
        documents: The document of each unit, where it is known.
        num_draws: What `HeldOut.draws` gives a measure that names no number.
        seed: Of the draws. Torch's default generators stay as they are.
    """
    keep = model.predict(valid)
    rows = keep.nonzero()[:, 0]
    if len(rows) == 0:
        return None
    target = model.encode(chunks)
    context = model.backbone(model.embedder(chunks, target.mean), valid)
    made: dict[int, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def draw(num: int | None) -> tuple[Tensor, Tensor]:
        count = num_draws if num is None else num
        if count not in made:
            with SeededRandomness(seed, chunks.device).borrowed():
                made[count] = draw_units(model, context, keep, count, None)
        return made[count]

    return HeldOut(
        head=model.head,
        autoencoder=model.autoencoder,
        context=context,
        keep=keep,
        target=target[keep],
        ids=chunks[keep],
        rows=rows,
        documents=None if documents is None else documents[keep],
        draw=draw,
        density=model.log_prob,
    )
