"""Models of calmkit as checkpoints that the official CALM code reads.

What its format can't say is refused by name, and what it leaves out is said.

Source: Shao et al., Continuous Autoregressive Language Models, 2025. https://arxiv.org/abs/2510.27688
Official code shaochenze/calm.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from calmkit.autoencoders.vae import VAE
from calmkit.backbones.transformer import TransformerBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.heads.diffusion import DiffusionHead
from calmkit.heads.energy import EnergyHead
from calmkit.heads.flow import FlowHead
from calmkit.heads.noise_mlp import NoiseMLP
from calmkit.interfaces import Autoencoder, Backbone, DataError, Embedder, GenerativeHead
from calmkit.model import CalmModel
from calmkit.text.interop.official_config import (
    DIFFUSION_SECTION,
    UNSAID,
    UNSAID_OF_LANGUAGE,
    Section,
    autoencoder_config,
    language_config,
)
from calmkit.text.interop.official_files import write_checkpoint
from calmkit.text.interop.official_names import (
    Layers,
    Names,
    autoencoder_names,
    denoiser_names,
    energy_names,
    language_names,
    second_names,
)

Say = Callable[[str], object]
Saved = tuple[dict[str, Any], dict[str, Tensor]]  # config and tensors, under the official names


def save(
    model: CalmModel | Autoencoder,
    folder: Path | str,
    *,
    safetensors: bool = False,
    config: Mapping[str, Any] | None = None,
    ae_config: Mapping[str, Any] | None = None,
    eos_id: int | None = None,
    say: Say = warnings.warn,
) -> None:
    """Write `config.json` and `pytorch_model.bin`; of a whole model also its autoencoder, in `autoencoder`.

    Args:
        model: Of the parts vae, tokens, transformer and energy, flow or diffusion; or a vae alone.
        folder: Must not hold a checkpoint. `ae_path` in its config is the absolute path of the folder inside.
        safetensors: Write `model.safetensors` instead.
        config: The language model's keys that no part has a word for, such as `pad_token_id`; others in it
            are not read.
        ae_config: The same of the autoencoder.
        eos_id: End-of-text; None: as `config` says, else the last id.
        say: Takes each thing that the format leaves out.

    Raises:
        DataError: The format can't say a setting or a part; nothing is written then.
    """
    folder = Path(folder).absolute()
    if isinstance(model, Autoencoder):
        written = {folder: _autoencoder(model, ae_config or {}, say)}
    else:
        alone = _autoencoder(model.autoencoder, ae_config or {}, say)
        whole = _language(model, alone, config or {}, eos_id, say)
        whole[0]["ae_path"] = str(folder / "autoencoder")
        written = {folder: whole, folder / "autoencoder": alone}
    for home, (values, tensors) in written.items():
        write_checkpoint(home, values, tensors, safetensors=safetensors)


def _autoencoder(part: Autoencoder, config: Mapping[str, Any], say: Say) -> Saved:
    vae, section = _vae(part, say)
    state = {name: value.detach().cpu() for name, value in vae.state_dict().items()}
    table, vocab_size = state["net.embedding.weight"], vae.net.vocab_size
    if len(table) > vocab_size:
        say("the vector of dropped tokens is left out: stage 1 of the official code reads them as id 0")
        state["net.embedding.weight"] = table[:vocab_size].clone()
    names = autoencoder_names(*_layers(vae))
    values = {**UNSAID, **config, **autoencoder_config(section, vocab_size, _dtype(table))}
    return values, _renamed(state, names)


def _language(
    model: CalmModel, alone: Saved, config: Mapping[str, Any], eos_id: int | None, say: Say
) -> Saved:
    backbone = _backbone(model.causal)
    _check_embedder(model.embedder, backbone["hidden_dim"])
    head = _head(model.head, backbone["hidden_dim"], say)
    head_names = energy_names if head["name"] == "energy" else denoiser_names
    names = language_names(backbone["depth"]) | head_names(head["depth"])
    state = {
        name: value.detach().cpu()
        for name, value in model.state_dict().items()
        if not name.startswith("autoencoder.")
    }
    left = state.keys() - names.values() - {"head.log_scale"}
    assert left == {"backbone.first"}, left
    if model.predict_first:
        say("the learned condition of the first unit is left out: the official code never predicts that unit")
    dtype, vocab_size = _dtype(state["backbone.norm.weight"]), alone[0]["vocab_size"]
    sizes = {key: alone[0][key] for key in ("patch_size", "latent_size")}
    values = {**UNSAID_OF_LANGUAGE, **config, **language_config(backbone, head, vocab_size, dtype), **sizes}
    known = config.get("eos_token_id")
    if eos_id is not None and not (isinstance(known, list) and known[:1] == [eos_id]):
        values["eos_token_id"] = eos_id
    elif known is None:
        values["eos_token_id"] = vocab_size - 1
    inside = {f"ae_model.{name}": value for name, value in alone[1].items()}
    return values, inside | _renamed(state, names)


def _renamed(state: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    tensors = {theirs: state[ours] for theirs, ours in names.items()}
    return tensors | {second: tensors[first] for second, first in second_names(names).items()}


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _refuse(setting: str, got: object, would_do: str) -> DataError:
    return DataError(f"the official format can't say {setting} {got}; {would_do}")


def _vae(part: Autoencoder, say: Say) -> tuple[VAE, Section]:
    if not isinstance(part, VAE):
        raise _refuse("autoencoder", type(part).__name__, "autoencoder vae would do.")
    encoder, decoder = _layers(part)
    blocks = [*part.net.encoder.tokens, *part.net.encoder.unused]
    blocks += [*part.net.decoder.tokens, *part.net.decoder.unused]
    hidden_dim = part.net.embedding.embedding_dim
    if part.token_dropout != part.latent_dropout:
        say(
            f"latent_dropout {part.latent_dropout} is left out: ae_dropout, one number for both, says what "
            f"token_dropout does, {part.token_dropout}"
        )
    if part.net.mask_id not in (0, part.net.vocab_size):
        say(f"mask_id {part.net.mask_id} is left out: the official code reads dropped tokens as id 0")
    return part, {
        "chunk_size": part.chunk_size,
        "latent_dim": part.event.shape[0],
        "hidden_dim": hidden_dim,
        "ffn_dim": next((block.mlp.gate.out_features for block in blocks), hidden_dim * 5 // 2),
        "encoder_layers": encoder.count,
        "decoder_layers": decoder.count,
        "kl_weight": part.kl_weight,
        "kl_floor": part.kl_floor,
        "token_dropout": part.token_dropout,
    }


def _layers(part: VAE) -> tuple[Layers, Layers]:
    halves = [
        Layers(len(half.tokens), len(half.chunk), len(half.unused))
        for half in (part.net.encoder, part.net.decoder)
    ]
    for name, half in zip(("encoder_layers", "decoder_layers"), halves, strict=True):
        if half.tokens != half.chunk:
            odd = f"{half.count} with odd_layer chunk"
            raise _refuse(f"autoencoder.{name}", odd, "an even number, or odd_layer unused, would do.")
    return halves[0], halves[1]


def _check_embedder(part: Embedder, hidden_dim: int) -> None:
    if not isinstance(part, TokensEmbedder):
        raise _refuse("embedder", type(part).__name__, "embedder tokens would do.")
    width = part.embedding.embedding_dim
    if width != hidden_dim:
        raise _refuse("embedder.token_dim", width, f"backbone.hidden_dim {hidden_dim} would do.")
    if not any(True for _ in part.compress.parameters()):
        raise _refuse("embedder.always_compress", False, "true would do at chunk_size 1.")


def _backbone(part: Backbone) -> Section:
    if not isinstance(part, TransformerBackbone):
        raise _refuse("backbone", type(part).__name__, "backbone transformer would do.")
    return {
        "hidden_dim": part.hidden_dim,
        "depth": len(part.layers),
        "heads": part.hidden_dim // part.head_dim,
        "kv_heads": part.kv_heads,
        "ffn_dim": part.ffn_dim,
        "rope_theta": part.rope_theta,
    }


def _head(part: GenerativeHead, hidden_dim: int, say: Say) -> Section:
    if isinstance(part, EnergyHead):
        section, width = _energy(part, say), part.network.condition_in.out_features
    elif isinstance(part, FlowHead):
        section, width = _flow(part, say), part.net.cond_embed.out_features
    elif isinstance(part, DiffusionHead):
        section, width = _diffusion(part, say), part.net.cond_embed.out_features
    else:
        raise _refuse("head", type(part).__name__, "head energy, flow or diffusion would do.")
    if width != hidden_dim:
        raise _refuse("head.width", width, f"backbone.hidden_dim {hidden_dim} would do.")
    return section


def _energy(part: EnergyHead, say: Say) -> Section:
    if not isinstance(part.network, NoiseMLP):
        raise _refuse("head.noise", "modulation", "a head trained with input would do.")
    if part.network.num_codes > 0:
        raise _refuse("head.num_codes", part.network.num_codes, "a head trained with 0 would do.")
    if part.num_targets != 100:
        say(f"head.num_targets {part.num_targets} is left out: it is 100 in the official code")
    if part.repulsion != 1:
        say(f"head.repulsion {part.repulsion} is left out: it is 1 in the official code")
    for name, value in (("offset", part.offset), ("marginal", part.marginal)):
        if value != 0:
            say(f"head.{name} {value} is left out: the official code has none")
    if part.schedule.first_exponent is not None:
        first = part.schedule.first_exponent
        say(f"head.first_exponent {first} is left out: the official code trains with one exponent")
    if part.log_scale is not None:
        say("head.likelihood_until and its learned scale are left out: the official code has no likelihood")
    noise_dim, depth = part.network.noise_dim, len(part.network.blocks)
    section: Section = {"name": "energy", "depth": depth, "noise_dim": noise_dim}
    return section | {"num_draws": part.num_draws, "exponent": part.exponent}


def _flow(part: FlowHead, say: Say) -> Section:
    if not part.net.time_embed.quantize:
        raise _refuse("head.quantize_time", False, "a head trained with true would do.")
    if (part.solver, part.num_steps) != ("midpoint", 10):
        say(f"{part.num_steps} steps of {part.solver} are left out: the official code takes 10 of midpoint")
    return {"name": "flow", "depth": len(part.net.blocks), "repeats": part.repeats}


def _diffusion(part: DiffusionHead, say: Say) -> Section:
    schedule = part.schedule
    for key in ("prediction", "variance", "tell", "train_timesteps"):
        if getattr(schedule, key) != DIFFUSION_SECTION[key]:
            would_do = f"a head trained with {DIFFUSION_SECTION[key]} would do."
            raise _refuse(f"head.{key}", getattr(schedule, key), would_do)
    steps = part.network_calls()
    if (part.scheduler, steps, schedule.spacing) != ("ddpm", 100, "linspace"):
        sampling = f"{steps} steps of {part.scheduler}, {schedule.spacing}"
        say(f"{sampling}, are left out: the official code takes 100 of ddpm, linspace")
    return {"name": "diffusion", "depth": len(part.net.blocks), "repeats": part.repeats}
