"""In several processes: noise of their own in training and evaluation, rows of their own, the same weights.

Two processes that drew the same noise would halve what a larger batch is for, and nothing would say so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import small_recipe, workshop

from calmkit.autoencoders.vae import VAE
from calmkit.interfaces import Batch
from calmkit.recipe.assemble import assemble
from calmkit.recipe.schema import Optimizer
from calmkit.registry import make_manager
from calmkit.text.scores import Reconstruction, TextScores
from calmkit.training import stages
from calmkit.training.stages import AutoencoderModule, ModelModule, StageModule

SEED = 5


@pytest.fixture
def module() -> AutoencoderModule:
    return AutoencoderModule(
        VAE(11, chunk_size=2, latent_dim=3, hidden_dim=8), Reconstruction(), Optimizer(), 10, SEED
    )


def at_rank(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StageModule, "global_rank", property(lambda self: rank))


def next_number() -> float:
    with torch.random.fork_rng(devices=[]):
        return float(torch.rand(()))


def test_each_process_trains_on_a_stream_of_its_own(
    module: AutoencoderModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 goes on where it was, as a run alone does; rank r starts from seed + 7919 r."""
    torch.manual_seed(1)
    expected = [next_number()]
    for rank in (1, 2, 3):
        torch.manual_seed(SEED + 7919 * rank)
        expected.append(next_number())
    seen = []
    for rank in range(4):
        torch.manual_seed(1)
        at_rank(rank, monkeypatch)
        module.on_train_start()
        seen.append(next_number())
    assert seen == expected
    assert len(set(seen)) == 4


@pytest.mark.parametrize("stage", ["autoencoder", "lm"])
def test_each_batch_of_each_process_is_measured_on_a_seed_of_its_own(
    stage: str, module: AutoencoderModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those of rank 0 are those of a run alone: the recipe's seed plus the number of the batch."""
    seeds: list[int] = []

    class Recorded(stages.SeededRandomness):
        def __init__(self, seed: int, device: torch.device) -> None:
            seeds.append(seed)
            super().__init__(seed, device)

    monkeypatch.setattr(stages, "SeededRandomness", Recorded)
    tested: Any = module
    if stage == "lm":
        with workshop(tmp_path):
            model = assemble(small_recipe(tmp_path), make_manager(), {"vocab_size": 257}).eval()
        tested = ModelModule(model, TextScores(model, 2), Optimizer(), 10, seed=SEED)
    ids = torch.randint(10, (1, 2, 2 if stage == "autoencoder" else 4))
    batch = Batch(ids, torch.ones(1, 2, dtype=torch.bool))
    for rank in range(3):
        at_rank(rank, monkeypatch)
        for number in range(3):
            tested.validation_step(batch, number)
    assert seeds[:3] == [SEED, SEED + 1, SEED + 2]
    assert seeds[3:] == [SEED + 7919 * rank + number for rank in (1, 2) for number in range(3)]
    assert len(set(seeds)) == 9


SCRIPT = """\
import json, sys
from pathlib import Path
import torch
from small_runs import rows_of, small_recipe
from calmkit.text.prepare import prepare_data
from calmkit.data.cache import default_cache
from calmkit.model import CalmModel
from calmkit.recipe.assemble import assemble
from calmkit.registry import make_manager
from calmkit.training.trainer import make_trainer
from calmkit.training.stages import ModelModule
from calmkit.text.scores import Reconstruction, TextScores

folder, manager, loss = Path(sys.argv[1]), make_manager(), CalmModel.loss

def run(name, batch_size, *overrides):
    recipe = small_recipe(folder, *overrides, manager=manager)
    part = recipe.data.part
    corpus = manager.build("corpora", part.name, part.options)
    tokenizer = manager.build("tokenizers", "bytes", {})
    prepared = prepare_data(corpus, tokenizer, default_cache())
    torch.manual_seed(0)
    model = assemble(recipe, manager, {"vocab_size": 257})
    stage = ModelModule(model, TextScores(model, 2), recipe.stages.lm.optimizer, 3, seed=recipe.seed)
    seen = {"train": [], "eval": []}

    def recorded(self, batch):
        with torch.random.fork_rng(devices=[]):
            noise = float(torch.rand(()))
        rows = [row.flatten().tolist() for row, real in zip(batch.data, batch.valid) if real.any()]
        seen["train" if stage.trainer.training else "eval"].append([noise, rows])
        return loss(self, batch)

    CalmModel.loss = recorded
    def write():
        seen["weights"] = [float(p.detach().double().sum()) for p in model.parameters()]
        (folder / f"{name}-{stage.global_rank}.json").write_text(json.dumps(seen))
    stage.on_fit_end = write
    data = rows_of(recipe, prepared, model, batch_size, 6)
    make_trainer(recipe, max_steps=3, max_epochs=-1, val_check_interval=3, check_val_every_n_epoch=None).fit(
        stage, datamodule=data
    )
    CalmModel.loss = loss

run("two", 2, "trainer.devices=2", "trainer.strategy=ddp_fork")
run("one", 4)
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What two processes of 2 rows, and one of 4, saw in 3 steps and one evaluation; forks of one process."""
    folder = tmp_path_factory.mktemp("noise")
    (folder / "script.py").write_text(SCRIPT)
    with workshop(folder):
        tests = Path(__file__).parents[1]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CALMKIT_MORE_PROCESSES": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(tests), str(tests.parent)])
        done = subprocess.run(
            [sys.executable, "script.py", "."], env=environment, capture_output=True, text=True, timeout=240
        )
    assert done.returncode == 0, done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("two-0", "two-1", "one-0")}


def noises(run: dict[str, Any], phase: str) -> list[float]:
    return [noise for noise, _ in run[phase]]


def rows(run: dict[str, Any], phase: str, step: int) -> list[list[int]]:
    return sorted(run[phase][step][1])


def test_two_processes_draw_other_noise(seen: dict[str, dict[str, Any]]) -> None:
    for phase, batches in (("train", 3), ("eval", 1)):
        drawn = noises(seen["two-0"], phase) + noises(seen["two-1"], phase)
        assert len(drawn) == len(set(drawn)) == 2 * batches


def test_together_they_train_on_the_rows_of_one(seen: dict[str, dict[str, Any]]) -> None:
    """In every step, each row once: the noise of a process leaves the order of the data alone."""
    for step in range(3):
        both = [rows(seen[f"two-{rank}"], "train", step) for rank in (0, 1)]
        assert [len(of_rank) for of_rank in both] == [2, 2]
        assert sorted(both[0] + both[1]) == rows(seen["one-0"], "train", step)


def test_together_they_measure_the_rows_of_one(seen: dict[str, dict[str, Any]]) -> None:
    one = [row for step in range(2) for row in rows(seen["one-0"], "eval", step)]
    both = [row for rank in (0, 1) for _, of_batch in seen[f"two-{rank}"]["eval"] for row in of_batch]
    assert len(one) == 6
    assert sorted(both) == sorted(one)


def test_rank_zero_is_measured_on_the_noise_of_a_run_alone(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["two-0"]["eval"][0][0] == seen["one-0"]["eval"][0][0]


def test_they_keep_the_same_weights(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["two-0"]["weights"] == seen["two-1"]["weights"]
