from __future__ import annotations

from itertools import islice

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from small_images import pixels

from calmkit.data.order import epoch_order
from calmkit.images.corpus import Images
from calmkit.images.datamodule import ImageDataModule
from calmkit.interfaces import Batch, DataError


def numbered(count: int) -> Images:
    """Images by their label."""
    return Images(pixels(count, 1, 2, 3), np.arange(count), np.zeros((count, 2), dtype=np.int64))


def module(train: int = 11, valid: int = 7, **options) -> ImageDataModule:
    settings = {"layout": (1, 2), "batch_size": 3, "seed": 1} | options
    return ImageDataModule(numbered(train), numbered(valid), **settings)


class Recorder(pl.LightningModule):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: list[list[int]] = []
        self.seen: list[torch.Tensor] = []
        self.validated: list[list[int]] = []

    def training_step(self, batch, index):
        assert isinstance(batch, Batch)
        self.trained.append(batch.condition["label"].tolist())
        self.seen.append(batch.data)
        return self.weight * 0

    def validation_step(self, batch, index):
        self.validated.append(batch.condition["label"].tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


STEPS = 3  # of an epoch of 9 to 11 images


def fit(data: ImageDataModule, epochs: int) -> Recorder:
    model = Recorder()
    trainer = pl.Trainer(
        max_steps=STEPS * epochs,
        max_epochs=-1,
        val_check_interval=STEPS,
        check_val_every_n_epoch=None,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)
    return model


def test_batches_are_the_images_in_order():
    data = module()
    batches = list(islice(data.train_dataloader(), 3))
    order = epoch_order(len(data.train_rows), 1, 0)[:9].tolist()
    assert [label for batch in batches for label in batch.condition["label"].tolist()] == order
    assert batches[0].valid.shape == (3, 2)


def test_validation_is_every_image_once():
    labels = [batch.condition["label"].tolist() for batch in module(eval_batch_size=4).val_dataloader()]
    assert labels == [[0, 1, 2, 3], [4, 5, 6]]


def test_a_sample_of_the_validation_images():
    [batch] = module(valid=8, max_eval_rows=2).val_dataloader()
    assert batch.condition["label"].tolist() == [2, 6]
    [batch] = module(valid=8, max_eval_rows=1, among=2).val_dataloader()
    assert batch.condition["label"].tolist() == [6]


def test_two_processes_see_all_rows_once_and_equally_many_batches(monkeypatch):
    data = module(valid=7, batch_size=2)
    seen, trained, counts = [], [], []
    for rank in range(2):
        monkeypatch.setattr(ImageDataModule, "_place", lambda self, rank=rank: (rank, 2))
        batches = list(data.val_dataloader())
        counts.append(len(batches))
        seen += [n for b in batches for n in b.condition["label"][b.valid[:, 0]].tolist()]
        trained += [n for b in islice(data.train_dataloader(), 2) for n in b.condition["label"].tolist()]
    assert counts == [2, 2]
    assert sorted(seen) == list(range(7))
    assert len(set(trained)) == len(trained) == 8
    alone = [n for b in data.all_val_dataloader() for n in b.condition["label"].tolist()]
    assert alone == list(range(7))


def test_lightning_gets_batches_and_every_epoch_its_own_order():
    first, again = fit(module(), epochs=2), fit(module(), epochs=2)
    assert first.trained == again.trained
    assert first.trained[:3] != first.trained[3:]
    assert first.validated == [[0, 1, 2], [3, 4, 5], [6]] * 2
    assert fit(module(seed=2), epochs=1).trained != first.trained[:3]


def test_every_epoch_mirrors_others():
    plain, flipping = (fit(module(9, flip=flip), epochs=2) for flip in (False, True))
    assert plain.trained == flipping.trained
    labels = torch.tensor(plain.trained).flatten()  # [18], two epochs of nine
    before, after = torch.cat(plain.seen), torch.cat(flipping.seen)
    turned = (before != after).flatten(1).any(1)
    assert torch.equal(after[turned], before[turned].flip(-1))
    first, second = (set(labels[half][turned[half]].tolist()) for half in (slice(9), slice(9, 18)))
    assert first != second


def test_validation_is_never_mirrored():
    plain, flipping = (list(module(flip=flip).val_dataloader()) for flip in (False, True))
    assert all(torch.equal(a.data, b.data) for a, b in zip(plain, flipping, strict=True))


def test_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    data = module(flip=True)
    list(islice(data.train_dataloader(), 9))
    list(data.val_dataloader())
    assert torch.equal(before, torch.random.get_rng_state())


def test_too_few_images_are_refused(monkeypatch):
    with pytest.raises(DataError, match=r"2 images, fewer than one step of 3 \(batch_size 3 in 1 process\)"):
        module(train=2)
    data = module(train=5)
    monkeypatch.setattr(ImageDataModule, "_place", lambda self: (0, 2))
    with pytest.raises(DataError, match=r"fewer than one step of 6 \(batch_size 3 in 2 processes\)"):
        data.train_dataloader()


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size"])
def test_a_batch_of_nothing_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        module(**{name: 0})
