"""The official code's formulas over a state dict of its names, in plain torch: what calmkit is compared with.

Written from the description of the official code (commit c556310) alone; nothing of calmkit is used.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-6


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model, under names of their own; `configs` gives the official ones."""

    kind: str = "EnergyTransformer"
    vocab: int = 23
    k: int = 4
    latent: int = 6
    ae_hidden: int = 8
    ae_ffn: int = 12
    encoder: int = 2
    decoder: int = 2
    hidden: int = 16
    ffn: int = 24
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    theta: float = 10000.0
    head_depth: int = 2
    noise: int = 5
    draws: int = 3
    beta: float = 1.0

    def but(self, **changes: Any) -> Sizes:
        return replace(self, **changes)

    def __str__(self) -> str:
        plain = asdict(Sizes())
        return (
            ",".join(f"{key}={value}" for key, value in asdict(self).items() if value != plain[key])
            or "plain"
        )

    def configs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of the language model and of the autoencoder."""
        shared = {"patch_size": self.k, "latent_size": self.latent, "vocab_size": self.vocab}
        shared |= {"rms_norm_eps": EPS, "hidden_act": "silu", "mlp_bias": False}
        language = {
            **shared,
            "architectures": [self.kind],
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "rope_theta": self.theta,
            "rope_scaling": None,
            "num_mlp_layers": self.head_depth,
            "noise_size": self.noise,
            "num_samples": self.draws,
            "beta": self.beta,
            "eos_token_id": 2,
            "bos_token_id": 1,
            "pad_token_id": 3,
            "ae_path": "/nowhere/autoencoder",
        }
        autoencoder = {
            **shared,
            "architectures": ["Autoencoder"],
            "hidden_size": self.ae_hidden,
            "intermediate_size": self.ae_ffn,
            "num_encoder_layers": self.encoder,
            "num_decoder_layers": self.decoder,
            "ae_dropout": 0.15,
            "kl_weight": 1e-3,
            "kl_clamp": 0.5,
        }
        return language, autoencoder


def autoencoder_shapes(s: Sizes) -> dict[str, tuple[int, ...]]:
    d, f = s.ae_hidden, s.ae_ffn
    shapes: dict[str, tuple[int, ...]] = {"encoder.embed_tokens.weight": (s.vocab, d)}
    for half, count in (("encoder", s.encoder), ("decoder", s.decoder)):
        for i in range(count):
            name = f"{half}.{half}_layers.{i}"
            shapes |= {f"{name}.mlp.gate_proj.weight": (f, d), f"{name}.mlp.up_proj.weight": (f, d)}
            shapes |= {f"{name}.mlp.down_proj.weight": (d, f), f"{name}.layernorm.weight": (d,)}
        shapes[f"{half}.norm.weight"] = (d,)
    linears = {"encoder.squeeze_layer": (d, s.k * d), "encoder.hidden_to_latent": (2 * s.latent, d)}
    linears |= {"decoder.latent_to_hidden": (d, s.latent), "decoder.expand_layer": (s.k * d, d)}
    return shapes | with_bias(linears)


def with_bias(linears: dict[str, tuple[int, int]]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (out, into) in linears.items():
        shapes |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
    return shapes


def norm_shapes(*names: str, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (dim,) for name in names for part in ("weight", "bias")}


def language_shapes(s: Sizes) -> dict[str, tuple[int, ...]]:
    d, e = s.hidden, s.hidden // s.heads
    shapes: dict[str, tuple[int, ...]] = {"transformer.embed_tokens.weight": (s.vocab, d)}
    shapes |= with_bias({"embed_proj.0": (2 * d, s.k * d), "embed_proj.2": (d, 2 * d)})
    shapes |= norm_shapes("embed_proj.3", dim=d)
    for i in range(s.layers):
        name = f"transformer.layers.{i}"
        for part, width in (("q", d), ("k", s.kv_heads * e), ("v", s.kv_heads * e)):
            shapes[f"{name}.self_attn.{part}_proj.weight"] = (width, d)
        shapes[f"{name}.self_attn.o_proj.weight"] = (d, d)
        shapes |= {f"{name}.mlp.gate_proj.weight": (s.ffn, d), f"{name}.mlp.up_proj.weight": (s.ffn, d)}
        shapes |= {f"{name}.mlp.down_proj.weight": (d, s.ffn)}
        shapes |= {f"{name}.input_layernorm.weight": (d,), f"{name}.post_attention_layernorm.weight": (d,)}
    shapes["transformer.norm.weight"] = (d,)
    return shapes | (energy_shapes(s) if s.kind == "EnergyTransformer" else denoiser_shapes(s))


def energy_shapes(s: Sizes) -> dict[str, tuple[int, ...]]:
    d, g = s.hidden, "mlp_generator"
    shapes = with_bias({f"{g}.noise_embd": (d, s.noise), f"{g}.hidden_embd": (d, d)})
    shapes |= norm_shapes(f"{g}.norm_hidden", f"{g}.norm_noise", f"{g}.final_layer.in_ln", dim=d)
    for i in range(s.head_depth):
        block = f"{g}.mlp_blocks.{i}"
        linears = {f"{block}.linears.0": (d, 2 * d), f"{block}.linears.2": (d, d)}
        linears |= {f"{block}.linears.4": (2 * d, d), f"{block}.down_proj": (d, d)}
        shapes |= with_bias(linears) | norm_shapes(f"{block}.in_ln", dim=d)
    final = {f"{g}.final_layer.linears.0": (d, d), f"{g}.final_layer.linears.2": (s.latent, d)}
    return shapes | with_bias(final)


def denoiser_shapes(s: Sizes) -> dict[str, tuple[int, ...]]:
    d, g = s.hidden, "generative_head.net"
    out = s.latent * (2 if s.kind == "DiffusionTransformer" else 1)
    linears = {f"{g}.time_embed.mlp.0": (d, 256), f"{g}.time_embed.mlp.2": (d, d)}
    linears |= {f"{g}.cond_embed": (d, d), f"{g}.input_proj": (d, s.latent)}
    linears |= {f"{g}.final_layer.linear": (out, d), f"{g}.final_layer.adaLN_modulation.1": (2 * d, d)}
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(s.head_depth):
        block = f"{g}.res_blocks.{i}"
        linears |= {f"{block}.mlp.0": (d, d), f"{block}.mlp.2": (d, d)}
        linears |= {f"{block}.adaLN_modulation.1": (3 * d, d)}
        shapes |= norm_shapes(f"{block}.in_ln", dim=d)
    return shapes | with_bias(linears)


def random_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights that keep activations near 1; norms near 1."""
    return {
        name: torch.randn(shape) / shape[-1] ** 0.5 if len(shape) == 2 else _vector(name, shape)
        for name, shape in shapes.items()
    }


def _vector(name: str, shape: tuple[int, ...]) -> Tensor:
    return 0.2 * torch.randn(shape) + (1 if name.endswith("weight") else 0)


def autoencoder_state(s: Sizes) -> dict[str, Tensor]:
    state = random_state(autoencoder_shapes(s))
    return state | {"decoder.lm_head_weight": state["encoder.embed_tokens.weight"]}


def language_state(s: Sizes, autoencoder: dict[str, Tensor]) -> dict[str, Tensor]:
    state = random_state(language_shapes(s))
    heads = {n: v for n, v in state.items() if n.startswith("mlp_generator.")}
    state |= {n.replace("mlp_generator.", "generative_head."): v for n, v in heads.items()}
    return state | {f"ae_model.{name}": value for name, value in autoencoder.items()}


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x / (x.square().mean(-1, keepdim=True) + EPS).sqrt()


def linear(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    out = x @ w[f"{name}.weight"].T
    return out + w[f"{name}.bias"] if f"{name}.bias" in w else out


def norm(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], EPS)


def swiglu(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    gate, up = linear(w, f"{name}.gate_proj", x), linear(w, f"{name}.up_proj", x)
    return linear(w, f"{name}.down_proj", F.silu(gate) * up)


def ae_layer(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x + swiglu(w, f"{name}.mlp", rms(x, w[f"{name}.layernorm.weight"]))


def encode(w: dict[str, Tensor], s: Sizes, chunks: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log_std; an odd layer is created and never run."""
    x, half = w["encoder.embed_tokens.weight"][chunks], s.encoder // 2
    for i in range(half):
        x = ae_layer(w, f"encoder.encoder_layers.{i}", x)
    x = linear(w, "encoder.squeeze_layer", x.flatten(-2))
    for i in range(half, 2 * half):
        x = ae_layer(w, f"encoder.encoder_layers.{i}", x)
    mean, log_std = linear(w, "encoder.hidden_to_latent", rms(x, w["encoder.norm.weight"])).chunk(2, -1)
    return mean, log_std


def decode(w: dict[str, Tensor], s: Sizes, z: Tensor) -> Tensor:
    x, half = linear(w, "decoder.latent_to_hidden", z), s.decoder // 2
    for i in range(half):
        x = ae_layer(w, f"decoder.decoder_layers.{i}", x)
    x = linear(w, "decoder.expand_layer", x).unflatten(-1, (s.k, s.ae_hidden))
    for i in range(half, 2 * half):
        x = ae_layer(w, f"decoder.decoder_layers.{i}", x)
    return rms(x, w["decoder.norm.weight"]) @ w["decoder.lm_head_weight"].T


def clipped_kl(mean: Tensor, log_std: Tensor) -> Tensor:
    kl = 0.5 * (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std)
    return kl.clamp(min=0.5).sum(-1).mean()


def embed(w: dict[str, Tensor], s: Sizes, chunks: Tensor) -> Tensor:
    x = w["transformer.embed_tokens.weight"][chunks].flatten(-2)
    x = linear(w, "embed_proj.2", F.silu(linear(w, "embed_proj.0", x)))
    return norm(w, "embed_proj.3", x)


def llama(w: dict[str, Tensor], s: Sizes, x: Tensor) -> Tensor:
    rows, n, e = x.shape[0], x.shape[1], s.hidden // s.heads
    angle = torch.arange(n)[:, None] * s.theta ** (-torch.arange(0, e, 2) / e)
    cos, sin = (torch.cat([part, part], -1) for part in (angle.cos(), angle.sin()))

    def turned(v: Tensor) -> Tensor:
        return v * cos + torch.cat([-v[..., e // 2 :], v[..., : e // 2]], -1) * sin

    for i in range(s.layers):
        name = f"transformer.layers.{i}"
        y = rms(x, w[f"{name}.input_layernorm.weight"])
        q, k, v = (
            linear(w, f"{name}.self_attn.{part}_proj", y).view(rows, n, -1, e).transpose(1, 2)
            for part in "qkv"
        )
        k, v = (part.repeat_interleave(s.heads // s.kv_heads, 1) for part in (k, v))
        scores = turned(q) @ turned(k).transpose(-1, -2) / e**0.5
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(rows, n, -1)
        x = x + linear(w, f"{name}.self_attn.o_proj", mixed)
        x = x + swiglu(w, f"{name}.mlp", rms(x, w[f"{name}.post_attention_layernorm.weight"]))
    return rms(x, w["transformer.norm.weight"])


def energy_samples(w: dict[str, Tensor], s: Sizes, noise: Tensor, h: Tensor) -> Tensor:
    g = "mlp_generator"
    x = norm(w, f"{g}.norm_noise", linear(w, f"{g}.noise_embd", noise))
    c = norm(w, f"{g}.norm_hidden", linear(w, f"{g}.hidden_embd", h)).expand_as(x)
    for i in range(s.head_depth):
        block = f"{g}.mlp_blocks.{i}"
        u = torch.cat([norm(w, f"{block}.in_ln", x), c], -1)
        u = F.silu(linear(w, f"{block}.linears.2", F.silu(linear(w, f"{block}.linears.0", u))))
        gate, up = linear(w, f"{block}.linears.4", u).chunk(2, -1)
        x = x + linear(w, f"{block}.down_proj", F.silu(gate) * up)
    x = linear(w, f"{g}.final_layer.linears.0", norm(w, f"{g}.final_layer.in_ln", x))
    return linear(w, f"{g}.final_layer.linears.2", F.silu(x))


def energy_score(draws: Tensor, targets: Tensor, beta: float) -> Tensor:
    """The score, whose negative is the loss."""
    n = len(draws)
    selves = torch.linalg.norm(draws[:, None] - draws[None], dim=-1).pow(beta).sum((0, 1)) / (n * (n - 1))
    cross = torch.linalg.norm(draws[:, None] - targets[None], dim=-1).pow(beta).mean((0, 1))
    return selves - 2 * cross


def denoiser(w: dict[str, Tensor], s: Sizes, x: Tensor, steps: Tensor, h: Tensor) -> Tensor:
    """The network of flow and diffusion; `steps` is what it is told, in whole steps."""
    g = "generative_head.net"
    waves = torch.exp(-math.log(10000) * torch.arange(128) / 128)
    angle = steps[..., None] * waves
    time = linear(w, f"{g}.time_embed.mlp.0", torch.cat([angle.cos(), angle.sin()], -1))
    y = F.silu(linear(w, f"{g}.time_embed.mlp.2", F.silu(time)) + linear(w, f"{g}.cond_embed", h))
    x = linear(w, f"{g}.input_proj", x)
    for i in range(s.head_depth):
        block = f"{g}.res_blocks.{i}"
        shift, scale, gate = linear(w, f"{block}.adaLN_modulation.1", y).chunk(3, -1)
        u = norm(w, f"{block}.in_ln", x) * (1 + scale) + shift
        x = x + gate * linear(w, f"{block}.mlp.2", F.silu(linear(w, f"{block}.mlp.0", u)))
    shift, scale = linear(w, f"{g}.final_layer.adaLN_modulation.1", y).chunk(2, -1)
    x = F.layer_norm(x, x.shape[-1:], eps=EPS) * (1 + scale) + shift
    return linear(w, f"{g}.final_layer.linear", x)


def velocity(w: dict[str, Tensor], s: Sizes, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
    return denoiser(w, s, x, (t * 1000).long(), h)


def flow_sample(w: dict[str, Tensor], s: Sizes, x: Tensor, h: Tensor, steps: int = 10) -> Tensor:
    """By the midpoint rule; times are taken as the thousandths that they are."""
    for i in range(steps):
        first, middle = 1000 * i // steps, 1000 * (2 * i + 1) // (2 * steps)
        half = x + denoiser(w, s, x, torch.full(x.shape[:-1], first), h) / (2 * steps)
        x = x + denoiser(w, s, half, torch.full(x.shape[:-1], middle), h) / steps
    return x


def cosine_betas(steps: int = 1000) -> Tensor:
    def level(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return torch.tensor([min(1 - level((i + 1) / steps) / level(i / steps), 0.999) for i in range(steps)])


@dataclass(frozen=True)
class Chain:
    """A Gaussian diffusion, respaced to some of its timesteps."""

    kept: list[int]
    abar: Tensor
    before: Tensor
    beta: Tensor
    log_least: Tensor

    @classmethod
    def of(cls, kept: list[int]) -> Chain:
        abar = torch.cumprod(1 - cosine_betas(), 0)[kept]
        before = torch.cat([torch.ones(1), abar[:-1]])
        beta = 1 - abar / before
        variance = beta * (1 - before) / (1 - abar)
        return cls(kept, abar, before, beta, torch.cat([variance[1:2], variance[1:]]).log())

    def mean(self, i: int, x: Tensor, z: Tensor) -> Tensor:
        on_z = self.beta[i] * self.before[i].sqrt() / (1 - self.abar[i])
        on_x = (1 - self.before[i]) * (1 - self.beta[i]).sqrt() / (1 - self.abar[i])
        return on_z * z + on_x * x

    def guess(self, i: int, x: Tensor, eps: Tensor) -> Tensor:
        return (x - (1 - self.abar[i]).sqrt() * eps) / self.abar[i].sqrt()

    def log_variance(self, i: int, v: Tensor) -> Tensor:
        part = (v + 1) / 2
        return part * self.beta[i].log() + (1 - part) * self.log_least[i]


def respaced(steps: int, count: int) -> list[int]:
    """Which of `steps` timesteps a run of `count` keeps: evenly, both ends among them."""
    stride, at, kept = (steps - 1) / (count - 1), 0.0, []
    for _ in range(count):
        kept.append(round(at))
        at += stride
    return kept


def diffusion_sample(
    w: dict[str, Tensor], s: Sizes, x: Tensor, h: Tensor, noises: list[Tensor], temperature: float = 1.0
) -> Tensor:
    """Ancestral sampling in len(noises) + 1 steps."""
    chain = Chain.of(respaced(1000, len(noises) + 1))
    for i in reversed(range(len(chain.kept))):
        eps, v = denoiser(w, s, x, torch.full(x.shape[:-1], chain.kept[i]), h).chunk(2, -1)
        mean = chain.mean(i, x, chain.guess(i, x, eps))
        std = (chain.log_variance(i, v) / 2).exp()
        x = mean + (temperature * std * noises[len(noises) - i] if i else 0)
    return x


def variance_bits(z: Tensor, x: Tensor, k: int, eps: Tensor, v: Tensor) -> Tensor:
    """KL of the step in bits per dimension, for k > 0."""
    chain = Chain.of(list(range(1000)))
    true = torch.distributions.Normal(chain.mean(k, x, z), (chain.log_least[k] / 2).exp())
    mean, std = chain.mean(k, x, chain.guess(k, x, eps)), (chain.log_variance(k, v) / 2).exp()
    kl = torch.distributions.kl_divergence(true, torch.distributions.Normal(mean, std))
    return kl.mean(-1) / math.log(2)
