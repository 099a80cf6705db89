"""The network of the flow and diffusion heads: an MLP on z_t that time and condition modulate.

Time and condition are added to one vector y. Each block normalises its input, shifts and scales it by
Linear(SiLU(y)), passes it through a two-layer MLP and adds it back through a gate, also from y. y holds
one row per *unit*, not per draw, wherever the time is the same for all draws (as in sampling): then three
fifths of a block's work are done once per unit.

Source: Li et al., Autoregressive Image Generation without Vector Quantization (MAR), 2024, section 4:
`SimpleMLPAdaLN` of the released code, which CALM takes over for both heads. https://arxiv.org/abs/2406.11838
Peebles and Xie, Scalable Diffusion Models with Transformers, 2023, section 3.2 (adaLN-Zero).
https://arxiv.org/abs/2212.09748
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from calmkit.interfaces import Guided
from calmkit.nn.linear_flops import linear_flops
from calmkit.nn.swiglu import NORM_EPS
from calmkit.nn.time_embedding import STEPS, TimeEmbedding

MAX_ROWS = 2**15  # of one network call in sampling: 128 MiB per activation at width 1024 in float32


def draw_blocks(num: int, units: int) -> list[int]:
    """`num` draws of `units` units, cut into passes of at most MAX_ROWS rows, and at least one draw each."""
    block = max(1, MAX_ROWS // max(1, units))
    return [min(block, num - first) for first in range(0, num, block)]


def modulate(
    x: Float[Tensor, "S N W"], shift: Float[Tensor, "#S N W"], scale: Float[Tensor, "#S N W"]
) -> Float[Tensor, "S N W"]:
    """x (1 + scale) + shift: the identity where both are zero."""
    return x * (1 + scale) + shift


@final
class AdaLNBlock(nn.Module):
    """x + gate * MLP(modulate(LayerNorm(x), shift, scale)), with SiLU between the MLP's two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 3 * width)

    def forward(self, x: Float[Tensor, "S N W"], y: Float[Tensor, "#S N W"]) -> Float[Tensor, "S N W"]:
        """`y` is SiLU(time + condition), one row for all draws or one for each."""
        shift, scale, gate = self.modulation(y).chunk(3, -1)
        return x + gate * self.down(F.silu(self.up(modulate(self.norm(x), shift, scale))))


@final
class AdaLNMLP(nn.Module):
    """(z_t, t, h) -> vectors as wide as z_t: a velocity, a noise, whatever the loss teaches it.

    Built with all gates and the output at zero: it gives 0, and every block is the identity.

    Args:
        latent_dim: D.
        hidden_dim: H.
        width: W, of the blocks.
        depth: Number of blocks.
        outputs: Vectors of width D that it gives, side by side.
        time_scale: See `TimeEmbedding`.
        quantize_time: See `TimeEmbedding`.
    """

    def __init__(
        self,
        latent_dim: int,
        hidden_dim: int,
        width: int,
        depth: int,
        *,
        outputs: int = 1,
        time_scale: float = STEPS,
        quantize_time: bool = False,
    ) -> None:
        super().__init__()
        self.input_proj = nn.Linear(latent_dim, width)
        self.cond_embed = nn.Linear(hidden_dim, width)
        self.blocks = nn.ModuleList(AdaLNBlock(width) for _ in range(depth))
        self.final_norm = nn.LayerNorm(width, eps=NORM_EPS, elementwise_affine=False)
        self.final_modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, outputs * latent_dim)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        modulations = [layer for name, layer in self.named_modules() if name.endswith("modulation")]
        for layer in (*modulations, self.output):
            nn.init.zeros_(layer.weight)
        # last: it keeps its own initialisation
        self.time_embed = TimeEmbedding(width, scale=time_scale, quantize=quantize_time)

    def condition(self, h: Float[Tensor, "N H"]) -> Float[Tensor, "N W"]:
        """The condition's share of y, computed once per unit for any number of draws and steps."""
        return self.cond_embed(h)

    def forward(
        self, z_t: Float[Tensor, "S N D"], t: Float[Tensor, "#S #N"], c: Float[Tensor, "N W"]
    ) -> Float[Tensor, "S N out"]:
        """Apply to S draws of N units.

        Args:
            z_t: Between noise and data. Any float dtype; it is cast to that of the weights.
            t: In [0, 1], 0 noise, 1 data, or whatever `time_scale` is for; `[1, 1]` where all rows share it,
                which is also the cheapest.
            c: From `condition`.
        """
        y = F.silu(self.time_embed(t) + c)
        x = self.input_proj(z_t.to(self.input_proj.weight.dtype))
        for block in self.blocks:
            x = block(x, y)
        shift, scale = self.final_modulation(y).chunk(2, -1)
        return self.output(modulate(self.final_norm(x), shift, scale))

    def flops(self, draws: int, times: int) -> int:
        """Of one call for one unit, without `condition`.

        Args:
            draws: S.
            times: Different times among them: what reads y is computed once for each.
        """
        modulations = [layer for name, layer in self.named_modules() if name.endswith("modulation")]
        per_time = linear_flops(self.time_embed, *modulations)
        per_draw = linear_flops(self) - per_time - linear_flops(self.cond_embed)
        return times * per_time + draws * per_draw

    def condition_flops(self) -> int:
        """Of `condition` for one unit."""
        return linear_flops(self.cond_embed)

    def training_flops(self, repeats: int) -> int:
        """Of one unit: the condition once, the network for each of `repeats` draws with a time of its own."""
        return self.condition_flops() + self.flops(repeats, times=repeats)

    def drawing_flops(self, num: int, calls: int) -> int:
        """Of `num` draws of one unit: the condition once, the network for each of `calls` and each draw."""
        return self.condition_flops() + calls * sum(
            self.flops(block, times=1) for block in draw_blocks(num, 1)
        )


def guided_network(
    net: AdaLNMLP, conditions: Float[Tensor, "T N W"], weights: Sequence[float]
) -> Callable[[Tensor, Tensor], Tensor]:
    """(z_t `[S, N, D]`, t) -> what the network gives, combined over T conditions of each unit, in one call.

    The first D numbers are combined as sum_j w_j net(z_t, t, c_j). Those beside them, a learned variance, are
    the first condition's, as in MAR's code: a variance is no direction. One condition is left as it is. In
    float32 at least, for the terms may be large and of opposite signs.

    Source: Ho and Salimans, Classifier-Free Diffusion Guidance, 2022, Eq. 6. https://arxiv.org/abs/2207.12598
    """
    terms = len(conditions)
    together = conditions.flatten(0, 1)  # [T * N, W], the terms of one unit N rows apart

    def network(z_t: Tensor, t: Tensor) -> Tensor:
        now = t[:1, :1]  # within a draw the time is the same in all rows
        if terms == 1:
            return net(z_t, now, together)
        given = net(z_t.repeat(1, terms, 1), now, together)
        given = given.to(torch.promote_types(given.dtype, torch.float32))
        each = given.unflatten(1, (terms, -1)).unbind(1)  # [S, N, out] of each term
        wide = z_t.shape[-1]
        scaled = [weight * one[..., :wide] for weight, one in zip(weights, each, strict=True)]
        return torch.cat([torch.stack(scaled).sum(0), each[0][..., wide:]], -1)

    return network


def draw_in_blocks(
    who: str,
    net: AdaLNMLP,
    guided: Guided,
    noise: Float[Tensor, "num *given"],
    draw: Callable[[Callable[[Tensor, Tensor], Tensor], Tensor], Tensor],
) -> Float[Tensor, "num *given"]:
    """Carry noise to latents, in passes of at most MAX_ROWS rows; the result has the dtype of `h`.

    Args:
        who: The head, for messages.
        net: Its network, which gives the condition.
        guided: Conditions of the units and their weights; one of weight 1 is a plain draw.
        noise: `[num, *units, D]`, standard normal: one start per draw and unit.
        draw: (network, start `[S, N, D]`) -> latents `[S, N, D]`, where the network is a `guided_network`.

    Raises:
        ValueError: For noise of other units or another D.
    """
    h = guided[0][0].h
    units, latent_dim = h.shape[:-1], net.input_proj.in_features
    if noise.shape[1:] != (*units, latent_dim):
        raise ValueError(
            f"{who}: from_noise got noise {list(noise.shape)} for {list(units)} units; "
            f"[num, *units, {latent_dim}] would do."
        )
    conditions = torch.stack([net.condition(term.h.reshape(-1, h.shape[-1])) for term, _ in guided])
    network = guided_network(net, conditions, [weight for _, weight in guided])
    terms, rows = conditions.shape[:2]  # T, N
    starts = noise.reshape(len(noise), rows, latent_dim).split(draw_blocks(len(noise), terms * rows))
    return torch.cat([draw(network, start) for start in starts]).reshape(noise.shape).to(h.dtype)
