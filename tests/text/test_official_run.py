"""Official checkpoints as run folders, and back, by the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from small_runs import SHORT, small_run, workshop

import calmkit
from calmkit.cli.main import cli
from calmkit.model import CalmModel
from calmkit.text.interop import official
from calmkit.text.official_run import import_official
from calmkit.training.run import Run, load_run

K, V = 4, 300
QUICK = ("evaluation.max_rows=2", "evaluation.draws=2", "data.sequence_length=32", "trainer.accelerator=cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    with workshop(tmp_path):
        yield tmp_path


def calm(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def done(*words: str) -> str:
    result = calm(*words)
    assert result.exit_code == 0, result.output
    return result.output


def checkpoint(folder: Path, head: str = "energy", **settings: Any) -> Path:
    """A checkpoint in the official format, made by calmkit's own export."""
    from calmkit.autoencoders.vae import VAE
    from calmkit.backbones.transformer import TransformerBackbone
    from calmkit.embedders.tokens import TokensEmbedder
    from calmkit.registry import make_manager

    autoencoder = VAE(V, chunk_size=K, latent_dim=6, hidden_dim=8, odd_layer="unused", mask_id=0)
    sizes: Any = {"hidden_dim": 16, "event": autoencoder.event}
    part = make_manager([]).build("heads", head, settings, **sizes)
    backbone = TransformerBackbone(hidden_dim=16, depth=1, heads=2)
    model = CalmModel(
        autoencoder,
        TokensEmbedder(16, autoencoder.event, K, V),
        backbone,
        part,
        predict_first=False,
    )
    for parameter in (p for p in model.parameters() if p.dim() == 2):  # as after training: no draw is zero
        torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    official.save(
        model, folder / "checkpoint", config={"pad_token_id": 1, "max_position_embeddings": 64}, eos_id=0
    )
    return folder / "checkpoint"


def tokenizer_file(folder: Path, size: int) -> Path:
    """A byte-level tokenizer.json of `size` ids, the end of text the last of them."""
    import tokenizers

    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE({letter: i for i, letter in enumerate(alphabet)}, [])
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens([f"<extra_{i}>" for i in range(size - 257)] + ["</s>"])
    made.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def test_an_imported_run_without_a_tokenizer_takes_ids_and_says_what_words_need(folder: Path) -> None:
    said = done("import", "official", str(checkpoint(folder)), "--out", "run")
    assert "without --tokenizer FILE the text of this run is token ids, and 0 ends it" in said
    text = done("generate", "run", "-p", "5 6 7 8", "--max-tokens", "8", "--seed", "3")
    assert all(0 < int(word) < V for word in text.split())
    assert 1 <= len(text.split()) <= 8
    refused = calm("generate", "run", "-p", "The list")
    assert refused.exit_code == 2
    assert "import it again with --tokenizer FILE" in refused.output
    prose = calm("eval", "run")  # its data is prose, which ids can't read
    assert prose.exit_code == 2
    assert "or with texts of ids to evaluate on (data=text data.train=FILE.jsonl)" in prose.output
    assert "name: official/energy" in done("show", "run")
    mine, theirs = load_run("run").model, official.load(folder / "checkpoint")
    assert isinstance(theirs, CalmModel)
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in mine.state_dict().items())
    assert not mine.predict_first
    assert load_run("run").tokenizer.eos_id == 0


def test_an_imported_run_with_a_tokenizer_takes_words_and_outlives_the_file(folder: Path) -> None:
    file = tokenizer_file(folder, 298)
    words = ["import", "official", str(checkpoint(folder)), "--out", "run", "--tokenizer", str(file)]
    said = done(
        *words, "data=text", f"data.train={folder / 'corpus.jsonl'}", "data.valid_fraction=0.2", *QUICK
    )
    assert "has 298 ids, the model 300; added: [PAD], <|unused_299|>" in said
    assert "end-of-text is '</s>', 297, as in" in said  # the checkpoint says 0
    file.unlink()
    (folder / "moved").mkdir()
    (folder / "run").rename(folder / "moved" / "run")
    model = calmkit.load(folder / "moved" / "run")
    assert model.tokenizer.encode(["the cat"]) == [
        model.tokenizer.encode(["the"])[0] + model.tokenizer.encode([" cat"])[0]
    ]
    assert model.tokenizer.eos_id == 297
    assert isinstance(model.generate("the cat", max_tokens=8), str)
    scores = json.loads("{" + done("eval", "moved/run", "--json").partition("{")[2])
    assert scores["units"] > 0
    assert not any("perplexity" in name for name in scores)  # the official code calls exp(energy loss) so
    assert -100 <= scores["brier_lm"] <= 100


@pytest.mark.parametrize("size", [301, 400])
def test_a_tokenizer_of_more_ids_than_the_model_is_refused(folder: Path, size: int) -> None:
    source, file = checkpoint(folder), tokenizer_file(folder, size)
    refused = calm("import", "official", str(source), "--out", "run", "--tokenizer", str(file))
    assert refused.exit_code == 2
    assert f"has {size} ids, the model 300" in refused.output
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("head", "settings"),
    [
        ("energy", {"noise_dim": 4, "depth": 1}),
        ("flow", {"depth": 1, "quantize_time": True}),
        ("diffusion", {"depth": 1, "prediction": "epsilon", "variance": "learned", "tell": "timestep"}),
    ],
)
def test_import_and_export_by_the_command_line_is_exact(
    folder: Path, head: str, settings: dict[str, Any]
) -> None:
    if head == "diffusion":
        settings |= {"scheduler": "ddpm", "num_steps": 100, "spacing": "linspace"}
    source = checkpoint(folder, head, **settings)
    done("import", "official", str(source), "--out", "run")
    done("export", "run", "--to", "official", "out")
    for inside in ("", "autoencoder"):
        theirs, ours = (
            torch.load(f / inside / "pytorch_model.bin", weights_only=True) for f in (source, Path("out"))
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
        config, mine = (json.loads((f / inside / "config.json").read_text()) for f in (source, Path("out")))
        config.pop("ae_path", None), mine.pop("ae_path", None)
        assert mine == config
    done("import", "official", "out", "--out", "again", *QUICK)
    assert Run(Path("again")).recipe().head == Run(Path("run")).recipe().head


def test_an_imported_autoencoder_is_a_stage_1_to_build_upon(folder: Path) -> None:
    source = checkpoint(folder) / "autoencoder"
    done("import", "official", str(source), "--out", "stage1", "--tokenizer", str(tokenizer_file(folder, V)))
    refused = calm("generate", "stage1")
    assert refused.exit_code == 1
    assert "holds a trained autoencoder and nothing on top of it" in refused.output
    spec = Run(Path("stage1")).recipe().autoencoder
    changes = [f"autoencoder.{key}={json.dumps(value)}" for key, value in spec.options.items()]
    tokenizer = ["tokenizer=file", "tokenizer.path=tokenizer.json"]
    run = small_run(folder, "lm", *SHORT, *changes, *tokenizer, "stages.autoencoder.init_from=stage1")
    theirs = official.load(source).autoencoder.state_dict()
    mine = load_run(run.folder).model.autoencoder.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    done("export", "stage1", "--to", "official", "out")
    again = official.load("out")
    assert isinstance(again, official.AutoencoderOnly)
    assert all(torch.equal(again.autoencoder.state_dict()[name], theirs[name]) for name in theirs)


def test_a_run_trained_here_is_exported_with_what_is_left_out_said(folder: Path) -> None:
    backbone = [
        "backbone=transformer",
        "backbone.heads=2",
        "head.num_targets=100",
        "autoencoder.token_dropout=0.15",
    ]
    run = small_run(folder, "trained", *SHORT, *backbone)
    said = done("export", str(run.folder), "--to", "official", "out", "--safetensors")
    assert "vector of dropped tokens" in said
    assert "condition of the first unit" in said
    model, back = load_run(run.folder).model, official.load("out")
    assert isinstance(back, CalmModel)
    chunks = torch.randint(256, (2, 5, K))
    torch.testing.assert_close(back.context(chunks).h[:, 1:], model.context(chunks).h[:, 1:])
    torch.testing.assert_close(back.encode(chunks).mean, model.encode(chunks).mean)
    refused = calm("export", str(small_run(folder, "gru", *SHORT).folder), "--to", "official", "no")
    assert refused.exit_code == 2
    assert "the official format can't say backbone GRUBackbone" in refused.output
    assert not Path("no").exists()


def test_a_folder_that_holds_a_run_and_overrides_of_parts_are_refused(folder: Path) -> None:
    source = checkpoint(folder)
    import_official(source, Path("run"), say=lambda line: None)
    again = calm("import", "official", str(source), "--out", "run")
    assert again.exit_code == 2  # as export's
    assert again.output.startswith("error: run already holds a run; name another folder with --out")
    assert "note" not in again.output
    other = calm("import", "official", str(source), "--out", "other", "head=flow")
    assert other.exit_code == 2
    assert "overrides of data, sampler, evaluation, stages, trainer only" in other.output


def test_an_imported_run_of_ids_is_evaluated_on_texts_of_ids(folder: Path) -> None:
    texts = [" ".join(map(str, ids)) for ids in torch.randint(1, V, (40, 60)).tolist()]
    (folder / "ids.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    data = ["data=text", "data.train=ids.jsonl", "data.valid_fraction=0.2"]
    done("import", "official", str(checkpoint(folder)), "--out", "run", *data, *QUICK)
    scores = json.loads("{" + done("eval", "run", "--json").partition("{")[2])
    assert scores["units"] > 0


def test_where_the_autoencoder_was_found_is_a_note_on_stderr(folder: Path) -> None:
    source = checkpoint(folder)
    (source / "autoencoder").rename(folder / "neighbour")
    result = calm("import", "official", str(source), "--out", "run")
    assert result.stdout == "run: run\n"
    assert "autoencoder: neighbour (beside the checkpoint)\n" in result.stderr
    (folder / "neighbour" / "config.json").unlink()
    result = calm("import", "official", str(source), "--out", "again")
    assert "autoencoder: sizes from the tensors\n" in result.stderr
