"""`config.json` of the official code <-> sections of a recipe.

What the official code does without a setting becomes an option of a part here: time told in thousandths or as
a timestep, a learned variance, a layer that is never run, an id for dropped tokens.

Source: Shao et al., Continuous Autoregressive Language Models, 2025. https://arxiv.org/abs/2510.27688
Official code shaochenze/calm: configuration_autoencoder.py, configuration_calm.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from calmkit.interfaces import DataError
from calmkit.nn.swiglu import NORM_EPS
from calmkit.text.interop.official_files import Config
from calmkit.text.interop.official_names import EMBEDDING

Section = dict[str, Any]
"""A part's `name` and its settings, as in a recipe."""

AUTOENCODER = "Autoencoder"
HEADS = {"EnergyTransformer": "energy", "FlowTransformer": "flow", "DiffusionTransformer": "diffusion"}
FLOW_SECTION: Mapping[str, Any] = {"num_steps": 10, "solver": "midpoint", "quantize_time": True}
"""What the official flow head has no setting for."""
DIFFUSION_SECTION: Mapping[str, Any] = {
    "prediction": "epsilon",
    "variance": "learned",
    "tell": "timestep",
    "spacing": "linspace",
    "train_timesteps": 1000,
    "scheduler": "ddpm",
    "num_steps": 100,
}
"""What the official diffusion head has no setting for."""


UNSAID: Mapping[str, Any] = {
    "bos_token_id": None,
    "eos_token_id": None,
    "initializer_range": 0.02,
    "max_position_embeddings": 2048,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}
"""Keys that no part of calmkit has a word for, as the official code's defaults are."""
UNSAID_OF_LANGUAGE: Mapping[str, Any] = {**UNSAID, "beta": 1.0, "noise_size": 64, "use_cache": True}


def autoencoder_section(config: Config) -> Section:
    """Of an `Autoencoder`.

    Raises:
        DataError: It asks for something that the part `vae` has not.
    """
    _refuse_other_networks(config, "vae")
    dropout = config.number("ae_dropout", float, 0.15)
    return {
        "name": "vae",
        "chunk_size": config.number("patch_size"),
        "latent_dim": config.number("latent_size"),
        "hidden_dim": config.number("hidden_size"),
        "ffn_dim": config.number("intermediate_size"),
        "encoder_layers": config.number("num_encoder_layers"),
        "decoder_layers": config.number("num_decoder_layers"),
        "kl_weight": config.number("kl_weight", float, 1e-3),
        "kl_floor": config.number("kl_clamp", float, 0.5),
        "token_dropout": dropout,
        "latent_dropout": dropout,
        "odd_layer": "unused",
        "mask_id": 0,
    }


def autoencoder_config_from_tensors(tensors: Mapping[str, Tensor], model: Config) -> Config:
    """The config of an autoencoder that is known by its tensors alone; training settings are the paper's.

    Args:
        tensors: Under the names that they have in the autoencoder's own checkpoint.
        model: Of the language model, which knows K and D.
    """

    def layers(kind: str) -> int:
        start = f"{kind}.{kind}_layers."
        return 1 + max((int(n.split(".")[2]) for n in tensors if n.startswith(start)), default=-1)

    if EMBEDDING not in tensors:
        raise DataError(
            f"{model.place}: the checkpoint holds no autoencoder, and none that fits was found at ae_path "
            f"{model.values.get('ae_path')!r}, inside the folder or beside it; name its folder "
            "(--autoencoder)."
        )
    vocab_size, hidden = tensors[EMBEDDING].shape
    gates = (value.shape[0] for name, value in tensors.items() if name.endswith("mlp.gate_proj.weight"))
    values = {
        "architectures": [AUTOENCODER],
        "vocab_size": vocab_size,
        "hidden_size": hidden,
        "intermediate_size": next(gates, hidden * 5 // 2),
        "num_encoder_layers": layers("encoder"),
        "num_decoder_layers": layers("decoder"),
        "patch_size": model.number("patch_size"),
        "latent_size": model.number("latent_size"),
    }
    return Config(f"{model.place} (sizes of the autoencoder from its tensors)", values)


def language_sections(config: Config) -> dict[str, Section]:
    """Embedder, backbone and head of a language model.

    Raises:
        DataError: It is another model, or asks for something that the parts have not.
    """
    if config.architecture not in HEADS:
        known = ", ".join([AUTOENCODER, *HEADS])
        raise DataError(
            f"{config.place}: architectures {config.values.get('architectures')} is no model of the official "
            f"CALM code; one of {known} would do."
        )
    _refuse_other_networks(config, "transformer")
    config.only("attention_bias", False, "the part transformer has no biases")
    config.only("attention_dropout", 0.0, "the part transformer has no dropout")
    heads, hidden = config.number("num_attention_heads"), config.number("hidden_size")
    config.only("head_dim", hidden // max(1, heads), "heads of the part transformer share hidden_size evenly")
    backbone = {
        "name": "transformer",
        "hidden_dim": hidden,
        "depth": config.number("num_hidden_layers"),
        "heads": heads,
        "kv_heads": config.number("num_key_value_heads", int, heads),
        "ffn_dim": config.number("intermediate_size"),
        "rope_theta": _rope_theta(config),
    }
    embedder = {"name": "tokens", "always_compress": True}
    return {"embedder": embedder, "backbone": backbone, "head": _head_section(config)}


def _energy(config: Config) -> Section:
    section = {"num_draws": config.number("num_samples"), "num_targets": 100}
    return section | {"exponent": config.number("beta", float), "noise_dim": config.number("noise_size")}


def _flow(config: Config) -> Section:
    return {"repeats": config.number("num_samples"), **FLOW_SECTION}


def _diffusion(config: Config) -> Section:
    return {"repeats": config.number("num_samples"), **DIFFUSION_SECTION}


HEAD_SETTINGS: Mapping[str, Callable[[Config], Section]] = {
    "EnergyTransformer": _energy,
    "FlowTransformer": _flow,
    "DiffusionTransformer": _diffusion,
}


def _head_section(config: Config) -> Section:
    shared = {"name": HEADS[config.architecture], "depth": config.number("num_mlp_layers")}
    return shared | HEAD_SETTINGS[config.architecture](config)


def _refuse_other_networks(config: Config, part: str) -> None:
    config.only("hidden_act", "silu", f"the part {part} has SwiGLU only")
    config.only("mlp_bias", False, f"the part {part} has no biases")
    config.only("rms_norm_eps", NORM_EPS, f"it is fixed in the part {part}")


def _rope_theta(config: Config) -> float:
    """The base of the rotary wavelengths, under its old name or in the mapping of newer transformers."""
    newer = config.values.get("rope_parameters") or {}
    scaling = {"rope_scaling": config.values.get("rope_scaling"), "rope_parameters": newer}
    for key, value in scaling.items():
        kind = (value or {}).get("rope_type", (value or {}).get("type", "default"))
        if kind != "default":
            raise DataError(
                f"{config.place}: {key} asks for '{kind}', which can't be honoured (the part transformer has "
                f"plain rotary positions); {'null' if key == 'rope_scaling' else 'default'} would do."
            )
    if "rope_theta" in newer:
        return Config(config.place, newer).number("rope_theta", float)
    return config.number("rope_theta", float, 10000.0)


def autoencoder_config(section: Mapping[str, Any], vocab_size: int, dtype: str) -> dict[str, Any]:
    """What the official code reads of a `vae` whose sizes are all stated."""
    return {
        "architectures": [AUTOENCODER],
        "ae_dropout": section["token_dropout"],
        "hidden_act": "silu",
        "hidden_size": section["hidden_dim"],
        "intermediate_size": section["ffn_dim"],
        "kl_clamp": section["kl_floor"],
        "kl_weight": section["kl_weight"],
        "latent_size": section["latent_dim"],
        "mlp_bias": False,
        "num_decoder_layers": section["decoder_layers"],
        "num_encoder_layers": section["encoder_layers"],
        "patch_size": section["chunk_size"],
        "rms_norm_eps": NORM_EPS,
        "torch_dtype": dtype,
        "vocab_size": vocab_size,
    }


def language_config(
    backbone: Mapping[str, Any], head: Section, vocab_size: int, dtype: str
) -> dict[str, Any]:
    """What the official code reads of backbone and head whose sizes are all stated."""
    energy = head["name"] == "energy"
    only_energy = {"beta": head["exponent"], "noise_size": head["noise_dim"]} if energy else {}
    return {
        **only_energy,
        "architectures": [next(a for a, name in HEADS.items() if name == head["name"])],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": backbone["hidden_dim"],
        "intermediate_size": backbone["ffn_dim"],
        "mlp_bias": False,
        "num_attention_heads": backbone["heads"],
        "num_hidden_layers": backbone["depth"],
        "num_key_value_heads": backbone["kv_heads"],
        "num_mlp_layers": head["depth"],
        "num_samples": head["num_draws"] if energy else head["repeats"],
        "rms_norm_eps": NORM_EPS,
        "rope_scaling": None,
        "rope_theta": backbone["rope_theta"],
        "torch_dtype": dtype,
        "vocab_size": vocab_size,
    }
