from __future__ import annotations

from itertools import islice

import lightning.pytorch as pl
import pytest
import torch

from calmkit.data.order import epoch_order
from calmkit.interfaces import DataError
from calmkit.text.datamodule import TextDataModule

TEXTS = [f"document number {i}" for i in range(40)]


@pytest.fixture
def module(byte_file):
    def make(**options) -> TextDataModule:
        options = {
            "batch_size": 3,
            "seed": 1,
            "chunk_size": 4,
            "sequence_length": 16,
            "eos_id": 256,
        } | options
        return TextDataModule(byte_file(*TEXTS), byte_file(*TEXTS[:9]), **options)

    return make


class Recorder(pl.LightningModule):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: list[list] = []
        self.validated: list[list] = []

    def training_step(self, batch, index):
        self.trained.append(batch.data.tolist())
        return self.weight * 0

    def validation_step(self, batch, index):
        self.validated.append(batch.data.tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_batches_are_the_rows_in_order(module):
    data = module()
    rows = data.train_rows
    count = len(rows) // 3
    batches, order = list(islice(data.train_dataloader(), count)), epoch_order(len(rows), 1, 0)
    for number, batch in enumerate(batches):
        assert batch.data.shape == (3, 4, 4)
        assert batch.valid.all()
        for place in range(3):
            assert torch.equal(batch.data[place], rows[int(order[3 * number + place])].data[0])
    once = list(data.first_epoch())
    assert [batch.data.tolist() for batch in once] == [batch.data.tolist() for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_goes_on_behind_what_was_seen(module, workers):
    """One row past two epochs, so that the batches straddle an end."""
    data, later = module(), module(workers=workers)
    seen = 2 * len(data.train_rows) - 2
    skipped = islice(module(batch_size=1).train_dataloader(), seen, seen + 9)
    wanted = torch.cat([batch.data for batch in skipped])
    later.begin(seen)
    assert torch.equal(later.rows_at(seen, 9).data, wanted)
    assert torch.equal(torch.cat([batch.data for batch in islice(later.train_dataloader(), 3)]), wanted)


def test_validation_is_every_row_once_with_the_remainder(module):
    data = module(eval_batch_size=2)
    batches = list(data.val_dataloader())
    chunks = torch.cat([batch.data for batch in batches])
    valid = torch.cat([batch.valid for batch in batches])
    assert int(valid.sum()) == data.valid_rows.total_units
    text = bytes(token for token in chunks[valid].flatten().tolist() if token < 256).decode()
    assert text == "".join(TEXTS[:9])
    assert {len(batch.valid) for batch in batches[:-1]} == {2}


def test_a_sample_of_the_validation_rows(module):
    data = module(max_eval_rows=2)
    [batch] = data.val_dataloader()
    count = len(data.valid_rows)
    expected = data.valid_rows.__getitems__([count // 4, 3 * count // 4])
    assert torch.equal(batch.data, expected.data)


def test_the_global_generator_is_left_alone(module):
    data = module()
    before = torch.get_rng_state()
    list(islice(data.train_dataloader(), 9))
    list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")  # Lightning's own
@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # there are none on purpose
def test_lightning_reads_one_epoch_after_the_other(module, tmp_path):
    data, model = module(), Recorder()
    steps = len(data.train_rows) // 3 + 2
    trainer = pl.Trainer(
        max_steps=2 * steps,
        max_epochs=-1,
        val_check_interval=steps,
        check_val_every_n_epoch=None,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, data)
    expected = [batch.data.tolist() for batch in islice(module().train_dataloader(), 2 * steps)]
    assert model.trained == expected
    assert expected[:steps] != expected[steps:]
    assert model.validated[: len(model.validated) // 2] == model.validated[len(model.validated) // 2 :]


def test_each_process_asks_its_trainer_where_it_is(module):
    data = module()

    class Place:
        global_rank, world_size = 1, 2

    data.trainer = Place()
    mine, both = next(iter(data.train_dataloader())), data.rows_at(0, 6)
    assert torch.equal(mine.data, both.data[1::2])
    assert len(data.val_dataloader().sampler) == -(-len(data.valid_rows) // 2)
    assert data.all_val_dataloader().sampler.indices().tolist() == list(range(len(data.valid_rows)))
    assert data.trainer.world_size == 2  # its place stays its own


def test_too_few_rows_for_a_step_are_refused_at_once(module):
    rows = len(module().train_rows)
    with pytest.raises(
        DataError,
        match=rf"has {rows} rows of 16 tokens, fewer than one step of {rows + 1} .*lower batch_size",
    ):
        module(batch_size=rows + 1)
    data = module(batch_size=rows)

    class Place:
        global_rank, world_size = 0, 2

    data.trainer = Place()
    with pytest.raises(DataError, match=rf"one step of {2 * rows} \(batch_size {rows} in 2 processes\)"):
        data.train_dataloader()


def test_impossible_settings_are_refused(module):
    with pytest.raises(ValueError, match="eval_batch_size must be at least 1, got 0"):
        module(eval_batch_size=0)
    with pytest.raises(ValueError, match="no multiple of the chunk size 5"):
        module(chunk_size=5)
