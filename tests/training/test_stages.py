"""The schedule and the clipping by hand; steps that are refused; validation that leaves no trace."""

from __future__ import annotations

import math
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from small_runs import small_recipe, workshop

from calmkit.autoencoders.vae import VAE
from calmkit.interfaces import Batch
from calmkit.model import CalmModel
from calmkit.recipe.assemble import assemble
from calmkit.recipe.schema import Optimizer
from calmkit.registry import make_manager
from calmkit.text.scores import Reconstruction, TextScores
from calmkit.training.errors import TrainingDiverged
from calmkit.training.schedule import learning_rate_factor
from calmkit.training.stages import AutoencoderModule, ModelModule


def trainer() -> pl.Trainer:
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)


def stage_one(**optimizer: object) -> AutoencoderModule:
    autoencoder = VAE(11, chunk_size=2, latent_dim=3, hidden_dim=8)
    module = AutoencoderModule(autoencoder, Reconstruction(), Optimizer(**optimizer), max_steps=10, seed=0)
    module.trainer = trainer()
    return module


@pytest.fixture
def model(tmp_path: Path) -> CalmModel:
    with workshop(tmp_path):
        return assemble(small_recipe(tmp_path), make_manager(), {"vocab_size": 257})


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0), (4, 1.0), (6, 0.55), (8, 0.1), (99, 0.1)]
)
def test_the_learning_rate_by_hand(step: int, factor: float) -> None:
    """Four steps of warm-up, then a half cosine from 1 to 0.1: at its middle 0.1 + 0.9 / 2."""
    assert learning_rate_factor(step, 4, 8, "cosine") == pytest.approx(factor)
    assert learning_rate_factor(step, 4, 8, "constant") == min(1.0, (step + 1) / 4)


def test_no_warmup_starts_at_the_full_rate() -> None:
    assert learning_rate_factor(0, 0, 8, "cosine") == 1.0


def test_the_optimiser_follows_the_schedule_and_decays_matrices_only() -> None:
    module = stage_one(lr=0.5, warmup_steps=5, weight_decay=0.3, betas=(0.8, 0.9))
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    matrices, vectors = optimizer.param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
    assert all(p.ndim >= 2 for p in matrices["params"])
    assert all(p.ndim < 2 for p in vectors["params"])
    assert len(matrices["params"]) + len(vectors["params"]) == len(list(module.parameters()))
    assert matrices["betas"] == (0.8, 0.9)
    rates = []
    for _ in range(6):
        rates.append(matrices["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])


def test_the_frozen_autoencoder_is_not_in_the_optimiser(model: CalmModel) -> None:
    module = ModelModule(model, TextScores(model, 2), Optimizer(), 10, seed=0)
    optimizer = module.configure_optimizers()["optimizer"]
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {
        id(p) for part in (model.embedder, model.backbone, model.head) for p in part.parameters()
    }
    assert not any(p.requires_grad for p in model.autoencoder.parameters())


@pytest.mark.parametrize(("clip", "expected"), [(1.0, [0.6, 0.8]), (10.0, [3.0, 4.0]), (None, [3.0, 4.0])])
def test_clipping_by_hand(clip: float | None, expected: list[float]) -> None:
    module = stage_one(clip=clip)
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    first = next(module.parameters())
    assert first.grad is not None
    first.grad.view(-1)[:2] = torch.tensor([3.0, 4.0])  # norm 5
    module.configure_gradient_clipping(torch.optim.SGD(module.parameters()))
    assert first.grad.view(-1)[:2].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_with_such_a_gradient_is_refused(value: float) -> None:
    module = stage_one(lr=0.5)
    for p in module.parameters():
        p.grad = torch.full_like(p, value)
    with pytest.raises(TrainingDiverged, match=r"gradient became (nan|inf) at step 0 of 10.*now 0\.5"):
        module.configure_gradient_clipping(torch.optim.SGD(module.parameters()))


def test_half_precision_leaves_overflow_to_its_scaler() -> None:
    module = stage_one()
    scaler = torch.amp.GradScaler("cpu")
    module.trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    for p in module.parameters():
        p.grad = torch.full_like(p, float("inf"))
    module.configure_gradient_clipping(torch.optim.SGD(module.parameters()))  # the scaler skips this step


def test_a_loss_that_is_not_finite_is_refused_with_the_last_that_was() -> None:
    module = stage_one()
    assert module.checked(torch.tensor(2.5)) == 2.5
    with pytest.raises(TrainingDiverged, match=r"loss became nan .*last finite loss 2\.5.*was not taken"):
        module.checked(torch.tensor(math.nan))


def batch(rows: int, valid: bool = True) -> Batch:
    return Batch(torch.randint(256, (rows, 6, 4)), torch.full((rows, 6), valid))


def test_validation_leaves_the_default_generator_alone(model: CalmModel) -> None:
    for module in (
        ModelModule(model, TextScores(model, 2), Optimizer(), 10, seed=0),
        AutoencoderModule(model.autoencoder, Reconstruction(), Optimizer(), 10, seed=0),
    ):
        module.trainer = trainer()
        data, before = batch(2), torch.get_rng_state()
        module.validation_step(data, 0)
        assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_without_a_real_unit_changes_no_score(model: CalmModel) -> None:
    """What fills up a process that has fewer rows than the others must not count."""
    module = ModelModule(model.eval(), TextScores(model, 2), Optimizer(), 10, seed=0)
    module.trainer = trainer()
    real = batch(2)
    module.validation_step(real, 0)
    alone = (module.val_loss.compute(), module.scores.brier.compute())
    module.validation_step(batch(1, valid=False), 1)
    module.scores.brier._computed = module.val_loss._computed = None
    assert module.val_loss.compute() == alone[0]
    both = module.scores.brier.compute()
    assert all(torch.equal(both[name], value) for name, value in alone[1].items())
    assert both["units"] == 12


def test_only_real_units_count_in_stage_one() -> None:
    module = stage_one()
    module.eval()
    half = Batch(torch.randint(10, (2, 4, 2)), torch.tensor([[True] * 4, [False] * 4]))
    logged: dict[str, torch.Tensor] = {}
    module.log = lambda name, value: logged.update({name: value})  # type: ignore[method-assign]
    module.log_dict = lambda values, **_: None  # type: ignore[method-assign]
    torch.manual_seed(1)
    loss = module.training_step(half, 0)
    torch.manual_seed(1)
    per_unit = module.autoencoder.loss(half.data).per_unit.detach()
    assert float(loss.detach()) == pytest.approx(float(per_unit[0].mean()))
    assert logged["autoencoder/train/loss"] == loss
