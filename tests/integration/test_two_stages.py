"""Two stages on bytes with a GRU: learning, the run folder, reproducibility, lineage, other kinds of run."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from small_runs import SHORT, column, small_recipe, small_run, tensors, workshop

import calmkit
from calmkit.training.errors import GateMissed, RunFailed
from calmkit.training.run import Run
from calmkit.training.train import train


@pytest.fixture(autouse=True)
def float32() -> None:
    """As users have it; `conftest.py` puts the default back."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("two_stages")) as folder:
        yield folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """Fifty steps of each stage."""
    return small_run(folder, "run")


def test_both_losses_go_down(run: Run) -> None:
    """Stage 1 begins near 4 ln 257 = 22.2 nats per chunk, as every guess at random does."""
    first, *_, last = column(run, "autoencoder/train/loss")
    assert last < 0.6 * first < 0.6 * 22.3
    losses = column(run, "lm/train/loss")
    assert sum(losses[-3:]) < 0.75 * sum(losses[:3])
    held_out = column(run, "lm/val/loss")  # of three rows, so the two of them may be in any order
    assert len(held_out) == 2
    assert max(held_out) < 0.75 * losses[0]


def test_the_run_folder_holds_all_that_it_came_from(folder: Path, run: Run) -> None:
    held = {path.name for path in run.folder.iterdir()}
    assert held == {
        "recipe.yaml", "resolved.yaml", "lock.yaml", "metrics.csv", "checkpoints", "model", "evaluation.json",
        "evaluation-documents.csv", "latents.json",
        "samples.txt", "run.sha256",
    }  # fmt: skip
    assert (run.folder / "recipe.yaml").read_text() == (folder / "small.yaml").read_text()
    assert run.recipe() == small_recipe(folder)
    lock = OmegaConf.load(run.folder / "lock.yaml")
    assert lock.seed == 1
    for stage in ("autoencoder", "lm"):
        kept = {path.name for path in (run.folder / "checkpoints" / stage).iterdir()}
        assert kept == {f"step-{step:08d}.{end}" for step in (25, 50) for end in ("json", "safetensors")}
    assert {"model.safetensors", "config.json", "tokenizer"} <= {
        p.name for p in (run.folder / "model").iterdir()
    }
    assert not list(run.folder.rglob("*.tmp"))


def test_metrics_are_well_formed(run: Run) -> None:
    with (run.folder / "metrics.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert all(len(row) == len(header) for row in rows)
    assert {"step", "autoencoder/train/loss", "autoencoder/val/token_accuracy"} <= set(header)
    assert {"lm/train/loss", "lm/val/loss", "lm/val/brier_lm"} <= set(header)
    assert (
        len(column(run, "autoencoder/train/loss")) == len(column(run, "lm/train/loss")) == 10
    )  # every 5 of 50
    assert column(run, "step").count(49) == 4  # of each stage the last step, and what was measured after it


def test_writing_is_reproducible_by_seed(run: Run) -> None:
    model = calmkit.load(run.folder)
    text = model.generate("the cat ", max_tokens=40, seed=3)
    assert text == calmkit.load(run.folder).generate("the cat ", max_tokens=40, seed=3)
    assert text != model.generate("the cat ", max_tokens=40, seed=4)
    sample = run.load().generate("", max_tokens=16, seed=1)
    assert (run.folder / "samples.txt").read_text() == sample + "\n"


def test_the_same_seed_gives_the_same_run(folder: Path, run: Run) -> None:
    again = small_run(folder, "again")
    mine, other = tensors(run), tensors(again)
    assert mine.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in mine.items())
    for name in ("metrics.csv", "samples.txt"):
        assert (run.folder / name).read_bytes() == (again.folder / name).read_bytes()
    timed = ("tokens_per_second", "plain_tokens_per_second")
    scores = [{k: v for k, v in r.evaluation.items() if k not in timed} for r in (run, again)]
    assert scores[0] == scores[1]


def test_another_seed_gives_another_run(folder: Path, run: Run) -> None:
    taken = f"stages.autoencoder.init_from={run.folder}"
    other = small_run(folder, "seed2", taken, "seed=2", *SHORT[1:])
    name = next(name for name in tensors(run) if name.startswith("head."))
    assert not torch.allclose(tensors(other)[name], tensors(run)[name])


def test_a_taken_autoencoder_gives_the_same_second_stage(folder: Path, run: Run) -> None:
    said: list[str] = []
    taken = small_run(folder, "taken", f"stages.autoencoder.init_from={run.folder}", say=said.append)
    mine, other = tensors(run), tensors(taken)
    assert all(torch.equal(value, other[name]) for name, value in mine.items())
    assert not any(line.startswith("autoencoder  step") for line in said)
    assert not (taken.folder / "checkpoints" / "autoencoder").exists()
    assert taken.facts["reconstruction"] == run.facts["reconstruction"]


def test_the_second_stage_leaves_the_autoencoder_bit_for_bit(folder: Path, run: Run) -> None:
    alone = small_run(folder, "alone", "stages.lm=null")
    first = tensors(alone)
    assert all(name.startswith("autoencoder.") for name in first)
    second = {name: value for name, value in tensors(run).items() if name.startswith("autoencoder.")}
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not (alone.folder / "samples.txt").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("autoencoder.chunk_size=2", "its chunk_size is 4, this recipe's is 2"),
        ("autoencoder.latent_dim=6", r"its event is \[8\], this recipe's is \[6\]"),
        ("tokenizer=bpe tokenizer.vocab_size=260", "its tokenizer is"),
        ("autoencoder.hidden_dim=8", "other shapes"),
        ("autoencoder=deterministic", "don't fit the recipe|other shapes"),
    ],
)
def test_an_autoencoder_of_another_lineage_is_refused(
    folder: Path, run: Run, tmp_path: Path, words: str, told: str
) -> None:
    taken = f"stages.autoencoder.init_from={run.folder}"
    with pytest.raises(RunFailed, match=told):
        small_run(folder, str(tmp_path / "run"), taken, *words.split())


def test_an_autoencoder_below_the_gate_is_refused(folder: Path, run: Run, tmp_path: Path) -> None:
    reached = run.facts["reconstruction"]["token_accuracy"]
    taken = f"stages.autoencoder.init_from={run.folder}"
    above = f"stages.autoencoder.gate.min={reached + 0.001}"
    with pytest.raises(GateMissed, match=f"reaches val/token_accuracy {reached:.4f}, below the gate"):
        small_run(folder, str(tmp_path / "run"), taken, above)


def test_a_missed_gate_keeps_the_autoencoder(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(GateMissed, match=r"Stage 1 reaches .*max_steps, now 2.*gate=null") as raised:
        small_run(folder, str(out), "stages.autoencoder.gate.min=1.0", *SHORT)
    assert raised.value.folder == out
    assert f"kept: {out}" in str(raised.value)
    small_run(folder, str(tmp_path / "next"), f"stages.autoencoder.init_from={out}", *SHORT)


def test_a_softmax_model(folder: Path) -> None:
    recipe = small_recipe(
        folder,
        "autoencoder=token_chunks",
        "autoencoder.chunk_size=1",
        "head=local_ar",
        "stages.autoencoder=null",
        "stages.lm.max_steps=30",
    )
    run = train(recipe, out=folder / "softmax", say=lambda line: None)
    before, after = column(run, "lm/val/loss")[0], run.evaluation["loss"]
    assert after < before < 5.55  # ln 257
    assert run.evaluation["units"] == 6 * (32 - 3)  # the last three tokens of a row have no four after them
    assert len(run.load().generate("the ", max_tokens=9)) <= 9


def test_a_model_that_reads_latents(folder: Path, run: Run) -> None:
    taken = f"stages.autoencoder.init_from={run.folder}"
    latents = small_run(folder, "latents", taken, "embedder=latents", "head=flow", "sampler.num_steps=2")
    losses = column(latents, "lm/train/loss")
    assert sum(losses[-3:]) < sum(losses[:3])
    assert latents.evaluation["network_calls_per_unit"] == 4  # two steps of the midpoint rule
    assert latents.load().generate("", seed=1, max_tokens=8) == latents.load().generate(
        "", seed=1, max_tokens=8
    )
