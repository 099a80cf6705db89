"""Run folders from checkpoints of the official CALM code, and checkpoints from run folders."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from calmkit.interfaces import Autoencoder, DataError, Tokenizer
from calmkit.model import CalmModel
from calmkit.recipe.assemble import build_sampler
from calmkit.recipe.load import load_recipe, to_yaml
from calmkit.recipe.parts import build_part
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, make_manager
from calmkit.text.interop.official import Checkpoint, build, end_of_text, read, save
from calmkit.text.kind import KeptTokenizer
from calmkit.text.tokenizer_json import FILE_NAME, JsonTokenizer, read_tokenizer
from calmkit.text.tokenizers.ids import IdsTokenizer
from calmkit.text.words import WORDS
from calmkit.training.checkpoints import load_weights
from calmkit.training.lock import write_lock
from calmkit.training.new_run import new_run
from calmkit.training.progress import Say
from calmkit.training.run import NO_METRICS, Run, load_run
from calmkit.training.run_folder import holds_work

STAGES: dict[str, Any] = {
    "autoencoder": {"max_steps": 30000, "optimizer": {"lr": 3e-4, "warmup_steps": 1000}},
    "lm": {"max_steps": 250000, "optimizer": {"lr": 3e-4, "warmup_steps": 2000}},
}
"""The paper's steps, section 7.1: what the recipe of an imported run would train."""
CONTEXT = 2048  # units per row; section 7.1
PAD = "[PAD]"  # the token that the official code adds to the Llama 3 tokenizer


def import_official(
    folder: Path,
    out: Path,
    *,
    tokenizer: Path | None = None,
    autoencoder: Path | None = None,
    overrides: Sequence[str] = (),
    say: Say = print,
    note: Say = print,
    manager: Manager | None = None,
) -> Run:
    """Make a run folder of an official checkpoint.

    Args:
        folder: Of an autoencoder, energy, flow or diffusion model.
        out: The run folder.
        tokenizer: A tokenizer.json, or its folder. None: the run's text is token ids.
        autoencoder: See `calmkit.text.interop.official.load`.
        overrides: Of the recipe, such as `sampler=vote`.
        say: Takes each line of what happens.
        note: Takes each line of what was chosen for the reader, such as where the autoencoder was found.
        manager: Parts; default all that are installed.

    Raises:
        DataError: `out` holds a run, or the checkpoint or the tokenizer can't be read or honoured.
        RecipeError: An override is wrong.
        RunFailed: The run folder can't be written.
    """
    manager = manager or make_manager()
    if holds_work(out):
        raise DataError(f"{out} already holds a run; name another folder with --out, or delete it.")
    checkpoint = read(folder, autoencoder)
    model = build(checkpoint)
    if checkpoint.config is not None:
        note(f"autoencoder: {checkpoint.autoencoder_place}")
    ready = _tokenizer(checkpoint, tokenizer, note)
    run = Run(out)
    text = yaml.safe_dump(_recipe(checkpoint, folder, ready, run), sort_keys=False)
    recipe = _read(text, overrides, manager)
    build_sampler(recipe, manager, model.head if isinstance(model, CalmModel) else None)  # or refuses
    run = new_run(recipe, text, to_yaml(recipe), out)
    write_lock(run, recipe, "none: imported")
    facts = _facts(checkpoint, folder, ready)
    if isinstance(model, CalmModel):
        parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
        facts |= {"parameters": parts, "lm_steps": 0}
        run.save_model(model, KeptTokenizer(ready), facts, kept=WORDS.kept)
    else:
        run.save_model(model.autoencoder, KeptTokenizer(ready), facts, kept=WORDS.kept, prefix="autoencoder")
    say(f"run: {run.folder}")
    return run


def export_official(
    run: Run, out: Path, *, safetensors: bool = False, say: Say = print, note: Say = print
) -> None:
    """Write the model of a run as an official checkpoint; of stage 1 alone, its autoencoder.

    Args:
        run: Trained or imported.
        out: Must not hold a checkpoint.
        safetensors: Write `model.safetensors` instead of `pytorch_model.bin`.
        say: Takes each line of what happens.
        note: Takes each thing that the format leaves out.

    Raises:
        DataError: The official format can't say a part or a setting, or `out` can't be written.
        RunFailed: The run holds no model.
    """
    kept = run.facts.get("official", {})
    model: CalmModel | Autoencoder
    if "lm_steps" in run.facts:
        model = load_run(run.folder, device="cpu").model
    else:
        manager = make_manager()
        recipe = run.recipe(manager, [NO_METRICS])
        model = build_part(recipe, manager, "autoencoder", vocab_size=run.facts["vocab_size"])
        load_weights(run.weights, model, "autoencoder")
    configs: dict[str, Any] = {"config": kept.get("config"), "ae_config": kept.get("autoencoder_config")}
    configs["eos_id"] = run.facts.get("eos_id")
    save(model, out, safetensors=safetensors, say=lambda line: note(f"note: {line}"), **configs)
    say(f"checkpoint: {out}")


def _recipe(checkpoint: Checkpoint, folder: Path, tokenizer: Tokenizer, run: Run) -> dict[str, Any]:
    sections = {name: dict(section) for name, section in checkpoint.sections.items()}
    chunk_size = sections["autoencoder"]["chunk_size"]
    part: dict[str, Any] = {"name": "ids", "size": tokenizer.vocab_size, "eos": tokenizer.eos_id}
    if isinstance(tokenizer, JsonTokenizer):
        part = {
            "name": "file",
            "path": str((run.kept_folder(WORDS.kept) / FILE_NAME).absolute()),
            "eos": tokenizer.eos,
        }
    config, kind = checkpoint.config, "autoencoder"
    units = CONTEXT
    if config is not None:
        kind = sections["head"]["name"]
        units = min(CONTEXT, config.number("max_position_embeddings", int, CONTEXT))
    return {
        "calmkit": 1,
        "name": f"official/{kind}",
        "description": f"The official checkpoint {folder.name}. The stages are the paper's, not run here.",
        "data": {"name": "stdlib", "sequence_length": units * chunk_size},
        "tokenizer": part,
        "backbone": {"name": "transformer"},  # a recipe names both; of an autoencoder alone neither is built
        "head": {"name": "energy"},
        **sections,
        "predict_first": False,
        "stages": STAGES if config is not None else STAGES | {"lm": None},
    }


def _read(text: str, overrides: Sequence[str], manager: Manager) -> Recipe:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return load_recipe(path, overrides, manager)


def _facts(checkpoint: Checkpoint, folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    section = checkpoint.sections["autoencoder"]
    configs = {"autoencoder_config": dict(checkpoint.autoencoder_config.values)}
    if checkpoint.config is not None:
        configs["config"] = dict(checkpoint.config.values)
    return {
        "calmkit": 1,
        "vocab_size": checkpoint.vocab_size,
        "eos_id": tokenizer.eos_id,
        "tokenizer": tokenizer.fingerprint(),
        "chunk_size": section["chunk_size"],
        "event": [section["latent_dim"]],
        "reconstruction": {},  # not measured
        "official": {"folder": str(folder), **configs},
    }


def _tokenizer(checkpoint: Checkpoint, path: Path | None, note: Say) -> Tokenizer:
    config, size = checkpoint.config or checkpoint.autoencoder_config, checkpoint.vocab_size
    if path is None:
        eos = end_of_text(config) if config.values.get("eos_token_id") is not None else size - 1
        note(f"note: without --tokenizer FILE the text of this run is token ids, and {eos} ends it")
        return IdsTokenizer(size=size, eos=eos)
    ready = _of_size(path / FILE_NAME if path.is_dir() else path, size, note)
    if config.values.get("eos_token_id") not in (None, ready.eos_id):
        said = config.values["eos_token_id"]
        note(f"note: end-of-text is {ready.eos!r}, {ready.eos_id}, as in {path}; {config.place} says {said}")
    return ready


def _of_size(path: Path, size: int, note: Say) -> JsonTokenizer:
    """The tokenizer with as many ids as the model has: those it lacks get names that no text makes.

    Raises:
        DataError: It has more ids, or holes among them.
    """
    import tokenizers

    ready = read_tokenizer(path)
    if ready.vocab_size < size:
        inner = tokenizers.Tokenizer.from_file(str(path))
        known, lacking = inner.get_vocab(with_added_tokens=True), range(ready.vocab_size, size)
        names = [f"<|unused_{token}|>" for token in lacking]
        names[0] = PAD if PAD not in known else names[0]
        inner.add_special_tokens(names)
        note(f"note: {path} has {ready.vocab_size} ids, the model {size}; added: {', '.join(names[:3])}")
        ready = JsonTokenizer(inner.to_str(), eos=ready.eos, where=str(path))
    if ready.vocab_size != size:
        raise DataError(
            f"{path} has {ready.vocab_size} ids, the model {size}; the tokenizer that the model was trained "
            "with would do."
        )
    return ready
