"""Where things are looked for, what is refused and how, and what comes back from a round trip."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from official_reference import Sizes, autoencoder_state, language_state
from torch import Tensor

from calmkit.autoencoders.deterministic import DeterministicAutoencoder
from calmkit.autoencoders.vae import VAE
from calmkit.backbones.gru import GRUBackbone
from calmkit.backbones.transformer import TransformerBackbone
from calmkit.embedders.latents import LatentsEmbedder
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.heads.diffusion import DiffusionHead
from calmkit.heads.energy import EnergyHead
from calmkit.heads.flow import FlowHead
from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import DataError, EventSpec
from calmkit.model import CalmModel
from calmkit.text.interop import official
from calmkit.text.interop.official_config import DIFFUSION_SECTION

SIZES = Sizes()
ODD = SIZES.but(k=2, encoder=3, decoder=1)
KINDS = ("EnergyTransformer", "FlowTransformer", "DiffusionTransformer")


def write(folder: Path, config: dict[str, Any], state: dict[str, Tensor] | None) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if state is not None:
        torch.save(state, folder / "pytorch_model.bin")
    return folder


def checkpoint(folder: Path, sizes: Sizes = SIZES, **changes: Any) -> Path:
    """A language model in `folder / model`, with no autoencoder's config anywhere."""
    state = language_state(sizes, autoencoder_state(sizes))
    config = sizes.configs()[0] | changes
    return write(folder / "model", config, state)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def kl_floor(folder: Path, autoencoder: Path | None = None) -> float:
    """Which config was read: each of these tests writes a `kl_clamp` of its own."""
    return official.load(folder, autoencoder).autoencoder.kl_floor


def place(folder: Path, autoencoder: Path | None = None) -> str:
    return official.read(folder, autoencoder).autoencoder_place


def test_the_autoencoder_is_looked_for_at_five_places_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, alone = checkpoint(tmp_path / "home"), SIZES.configs()[1]
    monkeypatch.chdir(tmp_path)
    assert kl_floor(model) == 0.5  # nowhere: sizes from the tensors, the paper's floor
    assert place(model) == "sizes from the tensors"
    write(tmp_path / "home" / "other", alone | {"kl_clamp": 0.1}, None)
    assert kl_floor(model) == 0.1  # beside it, under any name
    assert place(model) == "home/other (beside the checkpoint)"
    write(tmp_path / "home" / "autoencoder", alone | {"kl_clamp": 0.2}, None)
    assert kl_floor(model) == 0.2  # beside it, under its own
    write(model / "inside", alone | {"kl_clamp": 0.3}, None)
    assert kl_floor(model) == 0.3
    assert place(model) == "home/model/inside (inside the checkpoint)"
    write(tmp_path / "there", alone | {"kl_clamp": 0.4}, None)
    edit(model, ae_path=str(tmp_path / "there"))
    assert kl_floor(model) == 0.4
    assert place(model) == "there (at ae_path)"
    edit(model, ae_path="there")  # from the current folder, as the official code reads it
    assert kl_floor(model) == 0.4
    edit(model, ae_path="inside")  # from the folder itself
    assert kl_floor(model) == 0.3
    write(tmp_path / "given", alone | {"kl_clamp": 0.6}, None)
    assert kl_floor(model, tmp_path / "given") == 0.6
    assert place(model, tmp_path / "given") == "given (as named)"
    monkeypatch.chdir(tmp_path / "given")
    assert place(model, tmp_path / "given") == ". (as named)"
    assert kl_floor(model, tmp_path / "given" / "config.json") == 0.6


def test_a_neighbour_of_other_sizes_is_passed_over_and_a_given_one_is_refused(tmp_path: Path) -> None:
    model, alone = checkpoint(tmp_path), SIZES.configs()[1]
    write(tmp_path / "autoencoder", alone | {"kl_clamp": 0.1, "num_encoder_layers": 4}, None)
    write(tmp_path / "aa", {"architectures": ["LlamaForCausalLM"]}, None)
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "config.json").write_text("{")
    assert kl_floor(model) == 0.5
    with pytest.raises(DataError, match=r"num_encoder_layers is 4, not 2"):
        official.load(model, tmp_path / "autoencoder")
    with pytest.raises(DataError, match=r"architectures is \['LlamaForCausalLM'\], not \['Autoencoder'\]"):
        official.load(model, tmp_path / "aa")


def test_tensors_of_the_autoencoder_may_lie_in_its_own_folder(tmp_path: Path) -> None:
    alone = autoencoder_state(SIZES)
    write(tmp_path / "autoencoder", SIZES.configs()[1], alone)
    state = {n: v for n, v in language_state(SIZES, alone).items() if not n.startswith("ae_model.")}
    model = official.load(write(tmp_path / "model", SIZES.configs()[0], state))
    table = model.autoencoder.net.embedding.weight
    assert torch.equal(table, alone["encoder.embed_tokens.weight"])
    shutil.rmtree(tmp_path / "autoencoder")
    with pytest.raises(DataError, match=r"holds no autoencoder.*--autoencoder"):
        official.load(tmp_path / "model")


@pytest.mark.parametrize("kind", ["bin", "safetensors", "bin shards", "safetensors shards"])
def test_every_kind_of_file_is_read(tmp_path: Path, kind: str) -> None:
    from safetensors.torch import save_file

    folder = checkpoint(tmp_path)
    whole = torch.load(folder / "pytorch_model.bin", weights_only=True)
    (folder / "pytorch_model.bin").unlink()
    names = sorted(whole)
    halves = [names] if "shards" not in kind else [names[::2], names[1::2]]
    base, end = ("pytorch_model", "bin") if kind.startswith("bin") else ("model", "safetensors")
    weight_map = {}
    for number, half in enumerate(halves):
        file = f"{base}.{end}" if len(halves) == 1 else f"{base}-{number}.{end}"
        tensors = {name: whole[name].clone() for name in half}
        torch.save(tensors, folder / file) if end == "bin" else save_file(tensors, folder / file)
        weight_map |= dict.fromkeys(half, file)
    if len(halves) == 2:
        (folder / f"{base}.{end}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    read = official.read(folder).tensors
    assert torch.equal(read["backbone.norm.weight"], whole["transformer.norm.weight"])
    assert torch.equal(read["head.network.out.weight"], whole["mlp_generator.final_layer.linears.2.weight"])


def test_one_of_two_names_is_enough_and_two_values_are_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    whole = torch.load(folder / "pytorch_model.bin", weights_only=True)
    seconds = ("mlp_generator.", "ae_model.encoder.embed_tokens")
    torch.save({n: v for n, v in whole.items() if not n.startswith(seconds)}, folder / "pytorch_model.bin")
    read = official.read(folder).tensors
    wanted = whole["mlp_generator.noise_embd.weight"]
    assert torch.equal(read["head.network.noise_in.weight"], wanted)
    name = "generative_head.noise_embd.weight"
    torch.save(whole | {name: wanted + 1}, folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"two values for mlp_generator.noise_embd.weight and " + name):
        official.read(folder)


REFUSED = [
    (
        "attention_bias",
        True,
        r"attention_bias true can't be honoured \(the part .* no biases\); false",
    ),
    ("mlp_bias", True, "mlp_bias true can't be honoured"),
    ("hidden_act", "gelu", r'hidden_act "gelu" can\'t be honoured .*; "silu" would do'),
    ("rms_norm_eps", 1e-5, "rms_norm_eps 1e-05 can't be honoured"),
    ("attention_dropout", 0.1, "attention_dropout 0.1 can't be honoured"),
    ("head_dim", 8, "head_dim 8 can't be honoured"),
    ("rope_scaling", {"rope_type": "llama3", "factor": 8}, "rope_scaling asks for 'llama3'.*null would do"),
    ("rope_scaling", {"type": "linear", "factor": 2}, "rope_scaling asks for 'linear'"),
    ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4}, "rope_parameters asks for 'yarn'"),
    ("architectures", ["LlamaForCausalLM"], r"\['LlamaForCausalLM'\] is no model of the official CALM code"),
    ("num_mlp_layers", None, "num_mlp_layers must be a whole number, got None"),
    ("num_hidden_layers", 2.0, "num_hidden_layers must be a whole number, got 2.0"),
    ("beta", float("nan"), "beta must be a finite number, got nan"),
    ("rope_theta", float("inf"), "rope_theta must be a finite number, got inf"),
    ("rope_theta", 10**400, "rope_theta must be a finite number, got 1000"),
    ("beta", 2.5, r"energy: exponent must lie in \(0, 2\), got 2.5"),
    ("num_attention_heads", 3, "hidden_dim must be a multiple of 2"),
    ("eos_token_id", None, "eos_token_id must be a whole number"),
    ("num_hidden_layers", 3, r"missing transformer.layers.2.input_layernorm.weight"),
    ("num_hidden_layers", 1, r"not known transformer.layers.1.input_layernorm.weight"),
    ("intermediate_size", 20, "have other sizes than it says"),
]


@pytest.mark.parametrize(("key", "value", "message"), REFUSED)
def test_what_cannot_be_honoured_is_refused_by_file_and_key(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    folder = checkpoint(tmp_path, **{key: value})
    with pytest.raises(DataError, match=message) as raised:
        official.load(folder)
    assert str(folder / "config.json") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_sizes_that_the_tensors_have_not_are_told_by_the_first_culprit(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, hidden_size=32)  # the tensors are 16 wide, V is 23
    with pytest.raises(DataError) as raised:
        official.load(folder)
    said = str(raised.value)
    assert "transformer.embed_tokens.weight is [23, 16], config.json asks for [23, 32], and " in said
    assert " more. Take sizes and tensors from one checkpoint." in said
    whole = torch.load(folder / "pytorch_model.bin", weights_only=True)
    edit(folder, hidden_size=16)
    one = {"transformer.norm.weight": torch.ones(3)}
    torch.save(whole | one, folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"norm.weight is \[3\], config.json asks for \[16\]\. Take"):
        official.load(folder)


def test_what_says_nothing_new_is_passed_over(tmp_path: Path) -> None:
    newer = {"rope_type": "default", "rope_theta": 500000.0}
    folder = checkpoint(tmp_path, rope_scaling={"rope_type": "default"}, rope_parameters=newer, head_dim=4)
    whole = torch.load(folder / "pytorch_model.bin", weights_only=True)
    extra = {"transformer.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}
    torch.save(whole | extra, folder / "pytorch_model.bin")
    edit(folder, eos_token_id=[2, 5], num_key_value_heads=2)
    model = official.load(folder)
    assert (
        model.backbone.rope_theta,
        official.end_of_text(official.read(folder).config),
        model.predict_first,
    ) == (500000.0, 2, False)


OBJECTS = "model.bin holds Python objects, which are never run; save it again as tensors only.$"
DAMAGED = "is damaged or cut off; copy it again.$"


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_and_damage_are_told_apart_in_our_own_words(tmp_path: Path, zipped: bool) -> None:
    folder = checkpoint(tmp_path)
    file = folder / "pytorch_model.bin"
    torch.save({"code": print}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=OBJECTS):
        official.load(folder)
    torch.save({"a": torch.zeros(900)}, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-9], whole[:3], b"", b"version https://git-lfs"):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=DAMAGED):
            official.load(folder)
    file.unlink()
    (folder / "model.safetensors").write_bytes(whole[:500])
    with pytest.raises(DataError, match=DAMAGED):
        official.load(folder)


def test_a_bare_pickle_is_refused_without_a_warning_of_torch(tmp_path: Path) -> None:
    import pickle

    folder = checkpoint(tmp_path)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"code": print}, protocol=4))
    with pytest.raises(DataError, match=OBJECTS):  # warnings are errors here, and would be called damage
        official.load(folder)


def test_changed_bytes_of_a_zip_are_damage_not_objects(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    file = folder / "pytorch_model.bin"
    changed = bytearray(file.read_bytes())
    for i in range(70, 200):
        changed[i] ^= 0xFF
    file.write_bytes(bytes(changed))
    with pytest.raises(DataError, match=DAMAGED):
        official.load(folder)


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"can't be read .*config.json"):
        official.load(tmp_path)
    folder = checkpoint(tmp_path)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(DataError, match=r"holds no tensors: neither pytorch_model.bin nor model"):
        official.load(folder)
    torch.save({"code": print}, folder / "pytorch_model.bin")  # would be unpickled without weights_only
    with pytest.raises(DataError, match=OBJECTS):
        official.load(folder)
    torch.save({"step": 3}, folder / "pytorch_model.bin")
    with pytest.raises(DataError, match="more than tensors"):
        official.load(folder)


def test_the_model_is_in_eval_mode_frozen_and_of_the_files_precision(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    whole = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save({n: v.bfloat16() for n, v in whole.items()}, folder / "pytorch_model.bin")
    model = official.load(folder)
    assert isinstance(model, CalmModel)
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in model.autoencoder.parameters())
    assert all(
        p.requires_grad for part in (model.embedder, model.backbone, model.head) for p in part.parameters()
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [SIZES, ODD, SIZES.but(k=1), SIZES.but(k=8, encoder=0, decoder=0)], ids=str)
@pytest.mark.parametrize("safetensors", [False, True])
def test_import_export_import_is_exact(tmp_path: Path, kind: str, sizes: Sizes, safetensors: bool) -> None:
    sizes = sizes.but(kind=kind, theta=12345.0)
    folder = checkpoint(tmp_path, sizes)
    first = official.read(folder)
    assert first.config is not None
    model = official.build(first)
    assert isinstance(model, CalmModel)
    official.save(model, tmp_path / "out", safetensors=safetensors, config=first.config.values)
    second = official.read(tmp_path / "out")
    assert second.config is not None
    assert second.sections == first.sections
    assert second.tensors.keys() == first.tensors.keys()
    assert all(torch.equal(second.tensors[name], value) for name, value in first.tensors.items())
    kept = {key: second.config.values[key] for key in first.config.values if key != "ae_path"}
    assert kept == {key: value for key, value in first.config.values.items() if key != "ae_path"}
    assert second.autoencoder_config.place == str(tmp_path / "out" / "autoencoder" / "config.json")
    alone = official.load(tmp_path / "out" / "autoencoder")
    theirs = {n: v for n, v in first.tensors.items() if n.startswith("autoencoder.")}
    assert alone.state_dict().keys() == theirs.keys()
    assert all(torch.equal(alone.state_dict()[name], value) for name, value in theirs.items())


def test_exported_names_are_all_that_the_official_code_has(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, ODD)
    official.save(official.load(folder), tmp_path / "out")
    theirs = torch.load(folder / "pytorch_model.bin", weights_only=True)
    ours = torch.load(tmp_path / "out" / "pytorch_model.bin", weights_only=True)
    assert ours.keys() == theirs.keys()
    with pytest.raises(DataError, match=r"already holds a config.json"):
        official.save(official.load(folder), tmp_path / "out")


def own(**changes: Any) -> CalmModel:
    """A model of calmkit that the official format can say, but for what is changed."""
    event, vae = EventSpec((6,)), {"chunk_size": 2, "latent_dim": 6, "hidden_dim": 8}
    parts: dict[str, Any] = {
        "autoencoder": VAE(23, **vae, odd_layer="unused", mask_id=0),
        "embedder": TokensEmbedder(16, event, 2, 23),
        "backbone": TransformerBackbone(hidden_dim=16, depth=1, heads=2),
        "head": EnergyHead(16, event, noise_dim=4, depth=1),
    }
    return CalmModel(**(parts | changes), predict_first=False)


E6 = EventSpec((6,))
V = {"chunk_size": 2, "latent_dim": 6, "hidden_dim": 8}
UNSAYABLE = [
    (
        {"autoencoder": lambda: DeterministicAutoencoder(23, **V)},
        "autoencoder DeterministicAutoencoder; autoencoder vae",
    ),
    (
        {"autoencoder": lambda: VAE(23, **V, encoder_layers=3)},
        "autoencoder.encoder_layers 3 with odd_layer chunk",
    ),
    (
        {"autoencoder": lambda: VAE(23, **V, decoder_layers=1)},
        "autoencoder.decoder_layers 1 with odd_layer chunk",
    ),
    ({"embedder": lambda: LatentsEmbedder(16, E6)}, "embedder LatentsEmbedder; embedder tokens"),
    (
        {"embedder": lambda: TokensEmbedder(16, E6, 2, 23, token_dim=8)},
        "embedder.token_dim 8; .* 16",
    ),
    ({"embedder": lambda: TokensEmbedder(16, E6, 1, 23)}, "embedder.always_compress False; true would do"),
    ({"backbone": lambda: GRUBackbone(hidden_dim=16)}, "backbone GRUBackbone; backbone transformer"),
    ({"head": lambda: RegressionHead(16, E6)}, "head RegressionHead; head energy, flow or diffusion"),
    ({"head": lambda: EnergyHead(16, E6, width=8)}, "head.width 8; backbone.hidden_dim 16"),
    ({"head": lambda: EnergyHead(16, E6, num_codes=4)}, "head.num_codes 4; a head trained with 0"),
    ({"head": lambda: EnergyHead(16, E6, noise="modulation")}, "head.noise modulation; .* with input"),
    ({"head": lambda: FlowHead(16, E6)}, "head.quantize_time False"),
    ({"head": lambda: DiffusionHead(16, E6)}, "head.prediction v; a head trained with epsilon"),
    ({"head": lambda: DiffusionHead(16, E6, prediction="epsilon")}, "head.variance fixed"),
    ({"head": lambda: DiffusionHead(16, E6, **(DIFFUSION_SECTION | {"tell": "time"}))}, "head.tell time"),
    (
        {"head": lambda: DiffusionHead(16, E6, **(DIFFUSION_SECTION | {"train_timesteps": 500}))},
        "head.train_timesteps 500",
    ),
]


@pytest.mark.parametrize(("changes", "message"), UNSAYABLE)
def test_what_the_format_cannot_say_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    model = own(**{name: make() for name, make in changes.items()})
    with pytest.raises(DataError, match=f"the official format can't say {message}"):
        official.save(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    autoencoder = VAE(23, **V, latent_dropout=0.1)
    model = own(autoencoder=autoencoder, head=EnergyHead(16, E6, num_targets=7, noise_dim=4))
    model.predict_first = True
    official.save(model, tmp_path / "out", say=said.append)
    wanted = [
        "latent_dropout 0.1",
        "vector of dropped tokens",
        "num_targets 7",
        "condition of the first unit",
    ]
    assert len(said) == len(wanted)
    assert all(any(word in line for line in said) for word in wanted)
    back = official.load(tmp_path / "out")
    assert torch.equal(back.autoencoder.net.embedding.weight, autoencoder.net.embedding.weight[:23])
    assert torch.equal(back.backbone.first, torch.zeros(16))
    model.predict_first, model.autoencoder = False, VAE(23, **V, mask_id=0)
    with pytest.warns(UserWarning, match="num_targets 7"):
        official.save(model, tmp_path / "again")


def test_scores_that_the_official_code_has_not_are_said_and_their_head_is_exported(tmp_path: Path) -> None:
    said: list[str] = []
    options = {"offset": 0.5, "marginal": 0.3, "likelihood_until": 0.2}
    model = own(head=EnergyHead(16, E6, noise_dim=4, depth=1, **options))
    official.save(model, tmp_path / "one", say=said.append)
    moving = own(head=EnergyHead(16, E6, noise_dim=4, depth=1, first_exponent=0.5))
    official.save(moving, tmp_path / "two", say=said.append)
    assert [line.split(" left out")[0] for line in said] == [
        "head.offset 0.5 is",
        "head.marginal 0.3 is",
        "head.likelihood_until and its learned scale are",
        "head.first_exponent 0.5 is",
    ]
    back, saved = official.load(tmp_path / "one").head.state_dict(), model.head.state_dict()
    assert saved.keys() - back.keys() == {"log_scale"}
    assert all(torch.equal(value, saved[name]) for name, value in back.items())


def test_sampling_that_the_official_code_has_fixed_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    flow = FlowHead(16, E6, quantize_time=True, num_steps=4, solver="euler")
    official.save(own(head=flow), tmp_path / "flow", say=said.append)
    diffusion = DiffusionHead(16, E6, **(DIFFUSION_SECTION | {"scheduler": "dpm++", "num_steps": 20}))
    official.save(own(head=diffusion), tmp_path / "diffusion", say=said.append)
    assert said == [
        "4 steps of euler are left out: the official code takes 10 of midpoint",
        "20 steps of dpm++, linspace, are left out: the official code takes 100 of ddpm, linspace",
    ]
