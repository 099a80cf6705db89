"""Names of tensors: the official code's on the left, those of calmkit's parts on the right.

Source: official code shaochenze/calm, as its checkpoints show it. https://github.com/shaochenze/calm
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Names = dict[str, str]

SWIGLU = {
    "mlp.gate_proj.weight": "mlp.gate.weight",
    "mlp.up_proj.weight": "mlp.up.weight",
    "mlp.down_proj.weight": "mlp.down.weight",
    "layernorm.weight": "norm.weight",
}
LLAMA_LAYER = {
    "input_layernorm.weight": "norm.weight",
    **{f"self_attn.{name}_proj.weight": f"attention.{name}.weight" for name in "qkvo"},
    **{f"mlp.{name}_proj.weight": f"feed_forward.mlp.{name}.weight" for name in ("gate", "up", "down")},
    "post_attention_layernorm.weight": "feed_forward.norm.weight",
}
NOISE_BLOCK = {"in_ln": "norm", "linears.0": "join", "linears.2": "middle", "linears.4": "gate_up"}
NOISE_BLOCK |= {"down_proj": "down"}
ADALN_BLOCK = {"in_ln": "norm", "mlp.0": "up", "mlp.2": "down", "adaLN_modulation.1": "modulation"}

EMBEDDING = "encoder.embed_tokens.weight"
SECOND_NAMES = {
    "decoder.lm_head_weight": EMBEDDING,
    "ae_model.decoder.lm_head_weight": f"ae_model.{EMBEDDING}",
    "generative_head.": "mlp_generator.",
}
"""A second name of a tensor (or, with a dot at its end, of all that begin so) -> its first."""

IGNORED = ("rotary_emb.inv_freq",)
"""Ends of names that older versions of transformers saved and that say nothing new."""


@dataclass(frozen=True)
class Layers:
    """How many layers of an autoencoder's half are run on tokens, run on chunks, and never run."""

    tokens: int
    chunk: int
    unused: int

    @classmethod
    def cut(cls, count: int) -> Layers:
        """As the official code does: both kinds get half, and the last of an odd count is never run."""
        return cls(count // 2, count // 2, count % 2)

    @property
    def count(self) -> int:
        """All that there are."""
        return self.tokens + self.chunk + self.unused


def both(names: Mapping[str, str]) -> Names:
    """Weight and bias of each."""
    return {f"{a}.{kind}": f"{b}.{kind}" for a, b in names.items() for kind in ("weight", "bias")}


def under(theirs: str, ours: str, names: Mapping[str, str]) -> Names:
    """The same names with something in front."""
    return {f"{theirs}{a}": f"{ours}{b}" for a, b in names.items()}


def autoencoder_names(encoder: Layers, decoder: Layers) -> Names:
    """Of an `Autoencoder` and a `VAE`. First, an encoder reads tokens, a decoder z."""
    ours = [f"encoder.tokens.{i}." for i in range(encoder.tokens)]
    ours += [f"encoder.chunk.{i}." for i in range(encoder.chunk)]
    ours += [f"encoder.unused.{i}." for i in range(encoder.unused)]
    names = {EMBEDDING: "net.embedding.weight"}
    for i, mine in enumerate(ours):
        names |= under(f"encoder.encoder_layers.{i}.", f"net.{mine}", SWIGLU)
    ours = [f"decoder.chunk.{i}." for i in range(decoder.chunk)]
    ours += [f"decoder.tokens.{i}." for i in range(decoder.tokens)]
    ours += [f"decoder.unused.{i}." for i in range(decoder.unused)]
    for i, mine in enumerate(ours):
        names |= under(f"decoder.decoder_layers.{i}.", f"net.{mine}", SWIGLU)
    linears = {"encoder.squeeze_layer": "encoder.squeeze", "encoder.hidden_to_latent": "encoder.out"}
    linears |= {"decoder.latent_to_hidden": "decoder.into", "decoder.expand_layer": "decoder.expand"}
    norms = {f"{half}.norm.weight": f"{half}.norm.weight" for half in ("encoder", "decoder")}
    return names | under("", "net.", both(linears) | norms)


def language_names(depth: int) -> Names:
    """Of embeddings, their projection and the Llama, without the head and the autoencoder."""
    names = {"transformer.embed_tokens.weight": "embedder.embedding.weight"}
    names |= both({f"embed_proj.{i}": f"embedder.compress.{i}" for i in (0, 2, 3)})
    for i in range(depth):
        names |= under(f"transformer.layers.{i}.", f"backbone.layers.{i}.", LLAMA_LAYER)
    return names | {"transformer.norm.weight": "backbone.norm.weight"}


def energy_names(depth: int) -> Names:
    """Of an energy head."""
    parts = {"noise_embd": "noise_in", "norm_noise": "noise_norm"}
    parts |= {"hidden_embd": "condition_in", "norm_hidden": "condition_norm"}
    for i in range(depth):
        parts |= under(f"mlp_blocks.{i}.", f"blocks.{i}.", NOISE_BLOCK)
    parts |= {"final_layer.in_ln": "out_norm"}
    parts |= {"final_layer.linears.0": "out_hidden", "final_layer.linears.2": "out"}
    return under("mlp_generator.", "head.network.", both(parts))


def denoiser_names(depth: int) -> Names:
    """Of a flow or diffusion head."""
    parts = {"time_embed.mlp.0": "time_embed.first", "time_embed.mlp.2": "time_embed.second"}
    parts |= {"cond_embed": "cond_embed", "input_proj": "input_proj"}
    for i in range(depth):
        parts |= under(f"res_blocks.{i}.", f"blocks.{i}.", ADALN_BLOCK)
    parts |= {"final_layer.linear": "output", "final_layer.adaLN_modulation.1": "final_modulation"}
    return under("generative_head.net.", "head.net.", both(parts))


def second_names(names: Mapping[str, str]) -> Names:
    """Second name -> first name, for those first names that have one."""
    found: Names = {}
    for second, first in SECOND_NAMES.items():
        if first.endswith("."):
            found |= {second + name.removeprefix(first): name for name in names if name.startswith(first)}
        elif first in names:
            found[second] = first
    return found
