"""Checkpoints of the official CALM code as models of calmkit.

    model = load("energy")
    h = model.context(chunks).h  # h[:, i + 1] is the official code's hidden state of chunk i

Source: Shao et al., Continuous Autoregressive Language Models, 2025. https://arxiv.org/abs/2510.27688
Official code shaochenze/calm. Agreement: tests/interop/test_official_parity.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from calmkit.autoencoders.vae import VAE
from calmkit.backbones.transformer import TransformerBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.heads.diffusion import DiffusionHead
from calmkit.heads.energy import EnergyHead
from calmkit.heads.flow import FlowHead
from calmkit.interfaces import Autoencoder, DataError
from calmkit.model import CalmModel
from calmkit.recipe.shapes_only import shapes_only
from calmkit.text.interop.official_config import (
    AUTOENCODER,
    Section,
    autoencoder_config_from_tensors,
    autoencoder_section,
    language_sections,
)
from calmkit.text.interop.official_export import save
from calmkit.text.interop.official_files import CONFIG, Config, autoencoder_folders, read_config, read_tensors
from calmkit.text.interop.official_names import (
    EMBEDDING,
    IGNORED,
    SECOND_NAMES,
    Layers,
    Names,
    autoencoder_names,
    denoiser_names,
    energy_names,
    language_names,
    second_names,
    under,
)

__all__ = ["AutoencoderOnly", "Checkpoint", "build", "load", "read", "save"]

HEADS: Mapping[str, type[EnergyHead | FlowHead | DiffusionHead]] = {
    "energy": EnergyHead,
    "flow": FlowHead,
    "diffusion": DiffusionHead,
}
INSIDE = "ae_model."  # what the autoencoder's names begin with in a language model's checkpoint


@final
@dataclass(frozen=True)
class Checkpoint:
    """What an official checkpoint says, in calmkit's words.

    Attributes:
        sections: `autoencoder` and, of a language model, `embedder`, `backbone` and `head`, as in a recipe.
        vocab_size: V.
        autoencoder_config: As found, or made from the tensors' sizes.
        config: Of the language model; None for an autoencoder alone.
        tensors: Under the names of a `CalmModel`, in the precision of the files.
        autoencoder_place: Where the autoencoder's config was found, such as `FOLDER (beside the checkpoint)`,
            or `sizes from the tensors`; for an autoencoder alone its own folder.
    """

    sections: Mapping[str, Section]
    vocab_size: int
    autoencoder_config: Config
    config: Config | None
    tensors: Mapping[str, Tensor]
    autoencoder_place: str


@final
class AutoencoderOnly(nn.Module):
    """What `load` makes of a checkpoint of stage 1: an autoencoder, and no language model beside it."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder


def load(folder: Path | str, autoencoder: Path | str | None = None) -> CalmModel | AutoencoderOnly:
    """The model of an official checkpoint, in eval mode, in the precision of its files.

    Args:
        folder: Of an autoencoder, energy, flow or diffusion model: `config.json` and `pytorch_model.bin` or
            safetensors, sharded or not.
        autoencoder: Folder of a language model's autoencoder, or its `config.json`. None: looked for at
            `ae_path`, inside `folder` and beside it; where none fits, its sizes come from the tensors.

    Returns:
        The whole model; for an autoencoder's checkpoint an `AutoencoderOnly`, whose `.autoencoder` it is.

    Raises:
        DataError: A file is missing or damaged, or asks for something that calmkit's parts have not.
    """
    return build(read(folder, autoencoder))


def build(checkpoint: Checkpoint) -> CalmModel | AutoencoderOnly:
    """The model of a checkpoint that was read; see `load`."""
    model = _modules(checkpoint)
    _check_shapes(checkpoint, model)
    model.load_state_dict(dict(checkpoint.tensors), assign=True)
    return model.eval()


def _check_shapes(checkpoint: Checkpoint, model: nn.Module) -> None:
    asked, differing = model.state_dict(), []
    for theirs, ours in _names(checkpoint.sections).items():
        shape, wanted = list(checkpoint.tensors[ours].shape), list(asked[ours].shape)
        if shape != wanted:
            differing.append(f"{theirs} is {shape}, {CONFIG} asks for {wanted}")
    if differing:
        config = checkpoint.config or checkpoint.autoencoder_config
        more = f", and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise DataError(
            f"The tensors of {config.place} have other sizes than it says: {differing[0]}{more}. "
            "Take sizes and tensors from one checkpoint."
        )


def _modules(checkpoint: Checkpoint) -> CalmModel | AutoencoderOnly:
    """On the meta device."""
    sections = {name: dict(section) for name, section in checkpoint.sections.items()}
    names = {name: section.pop("name") for name, section in sections.items()}
    place = checkpoint.autoencoder_config.place
    with shapes_only():
        try:
            vae = VAE(checkpoint.vocab_size, **sections["autoencoder"])
            if checkpoint.config is None:
                return AutoencoderOnly(vae)
            place = checkpoint.config.place
            backbone = TransformerBackbone(**sections["backbone"])
            sizes = (backbone.hidden_dim, vae.event)
            embedder = TokensEmbedder(*sizes, vae.chunk_size, checkpoint.vocab_size, **sections["embedder"])
            head: Any = HEADS[names["head"]](*sizes, **sections["head"])
        except ValueError as error:
            raise DataError(f"{place}: {error}") from error
    end_of_text(checkpoint.config)  # or it is refused: nothing else would end a text
    return CalmModel(vae, embedder, backbone, head, predict_first=False)


def end_of_text(config: Config) -> int:
    """The id of end-of-text; the first where there are several.

    Raises:
        DataError: There is none.
    """
    value = config.values.get("eos_token_id")
    return Config(config.place, {"eos_token_id": value[0] if isinstance(value, list) else value}).number(
        "eos_token_id"
    )


def read(folder: Path | str, autoencoder: Path | str | None = None) -> Checkpoint:
    """Read a checkpoint without building its model; see `load`."""
    folder = Path(folder)
    config = read_config(folder)
    if config.architecture == AUTOENCODER:
        alone = {"autoencoder": autoencoder_section(config)}
        tensors = _mine(read_tensors(folder), _names(alone), config.place)
        return Checkpoint(alone, config.number("vocab_size"), config, None, tensors, str(folder))
    sections = language_sections(config)
    tensors = read_tensors(folder)
    inside = {n.removeprefix(INSIDE): value for n, value in tensors.items() if n.startswith(INSIDE)}
    inside |= {SECOND_NAMES[n]: value for n, value in inside.items() if n in SECOND_NAMES}
    found = _find_autoencoder(folder, config, inside, autoencoder)
    if not inside and found.folder is not None:
        tensors |= {INSIDE + name: value for name, value in read_tensors(found.folder).items()}
    sections = {"autoencoder": autoencoder_section(found.config), **sections}
    mine = _mine(tensors, _names(sections), config.place)
    norm = mine["backbone.norm.weight"]
    mine["backbone.first"] = torch.zeros_like(norm)  # the official code never predicts the first chunk
    return Checkpoint(sections, config.number("vocab_size"), found.config, config, mine, found.place)


def _names(sections: Mapping[str, Section]) -> Names:
    """Of all tensors of a checkpoint, official name -> that in a `CalmModel`."""
    section, prefix, names = sections["autoencoder"], "", Names()
    if "head" in sections:
        head_names = energy_names if sections["head"]["name"] == "energy" else denoiser_names
        names = language_names(sections["backbone"]["depth"]) | head_names(sections["head"]["depth"])
        prefix = INSIDE
    cuts = Layers.cut(section["encoder_layers"]), Layers.cut(section["decoder_layers"])
    return names | under(prefix, "autoencoder.", autoencoder_names(*cuts))


def _mine(tensors: Mapping[str, Tensor], names: Names, place: str) -> dict[str, Tensor]:
    """The tensors under calmkit's names: all of them and nothing else."""
    found = {name: value for name, value in tensors.items() if not name.endswith(IGNORED)}
    for second, first in second_names(names).items():
        value = found.pop(second, None)
        if value is not None and not torch.equal(found.setdefault(first, value), value):
            raise DataError(
                f"The tensors of {place} have two values for {first} and {second}, which are one in the "
                "official code; delete the wrong one."
            )
    missing, unknown = names.keys() - found.keys(), found.keys() - names.keys()
    if missing or unknown:
        raise DataError(
            f"The tensors of {place} are not those of its model: missing {_some(missing)}; not known "
            f"{_some(unknown)}. Sizes and tensors must come from one checkpoint."
        )
    return {ours: found[theirs] for theirs, ours in names.items()}


def _some(names: set[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(sorted(names)[:3]) or "none") + more


@dataclass(frozen=True)
class _Found:
    """The config of an autoencoder, the folder it lies in, if it lies in one, and that in words."""

    config: Config
    folder: Path | None
    place: str


def _find_autoencoder(
    folder: Path, config: Config, inside: Mapping[str, Tensor], given: Path | str | None
) -> _Found:
    if given is not None:
        found, path = read_config(Path(given)), Path(given)
        misfit = _misfit(found, config, inside)
        if misfit:
            raise DataError(f"{found.place} is not of the autoencoder of {config.place}: {misfit}.")
        home = path if path.is_dir() else path.parent
        return _Found(found, home, f"{_brief(home)} (as named)")
    for candidate, where in autoencoder_folders(folder, config.values.get("ae_path")):
        if not (candidate / CONFIG).is_file():
            continue
        try:
            found = read_config(candidate)
        except DataError:  # something else that happens to lie there
            continue
        if _misfit(found, config, inside) is None:
            return _Found(found, candidate, f"{_brief(candidate)} ({where})")
    return _Found(autoencoder_config_from_tensors(inside, config), None, "sizes from the tensors")


def _brief(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _misfit(found: Config, model: Config, inside: Mapping[str, Tensor]) -> str | None:
    """Why a config is not that of a language model's autoencoder; None where it may be."""
    if found.architecture != AUTOENCODER:
        return f"architectures is {found.values.get('architectures')}, not ['{AUTOENCODER}']"
    wanted = {key: model.values.get(key) for key in ("patch_size", "latent_size", "vocab_size")}
    if EMBEDDING in inside:
        mine = autoencoder_config_from_tensors(inside, model).values
        wanted |= {key: value for key, value in mine.items() if key != "architectures"}
        if not any("_layers." in name for name in inside):
            del wanted["intermediate_size"]  # no tensor tells it
    differing = [key for key, value in wanted.items() if found.values.get(key) != value]
    return ", ".join(f"{key} is {found.values.get(key)}, not {wanted[key]}" for key in differing) or None
