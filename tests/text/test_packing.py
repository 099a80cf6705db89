from __future__ import annotations

import pytest
import torch

from calmkit.data.order import NO_ROW
from calmkit.interfaces import DataError
from calmkit.text.packing import PackedRows, check_lengths
from calmkit.text.tokenizers.bytes import BytesTokenizer

E = 256


def ids(text: str) -> list[int]:
    """A letter for each token; `.` is end-of-text."""
    return [E if letter == "." else ord(letter) for letter in text]


def test_rows_by_hand(byte_file):
    # abcd. -> ...abcd. | e. -> ..e. | fgh. -> fgh. : four chunks of four, rows of two
    file = byte_file("abcd", "e", "fgh")
    rows = PackedRows(file, 4, 8, E, keep_remainder=False)
    assert len(rows) == 2
    assert rows[0].data[0].tolist() == [ids("...a"), ids("bcd.")]
    assert rows[1].data[0].tolist() == [ids("..e."), ids("fgh.")]
    assert rows[0].data[0].dtype == torch.int64
    assert rows[0].valid[0].tolist() == [True, True]


def test_every_unit_knows_its_document(byte_file):
    """...abcd. is two chunks of document 0, ..e. one of 1, fgh. one of 2; what is not there counts as 0."""
    rows = PackedRows(byte_file("abcd", "e", "fgh"), 4, 12, E, keep_remainder=True)
    assert [row.group[0].tolist() for row in (rows[0], rows[1])] == [[0, 0, 1], [2, 0, 0]]


def test_the_remainder_is_dropped_or_filled_up(byte_file):
    file = byte_file("abcd", "e", "fgh")
    assert len(PackedRows(file, 4, 12, E, keep_remainder=False)) == 1
    rows = PackedRows(file, 4, 12, E, keep_remainder=True)
    assert len(rows) == 2
    assert rows[1].data[0].tolist() == [ids("fgh."), ids("...."), ids("....")]
    assert rows[1].valid[0].tolist() == [True, False, False]


def test_no_row(byte_file):
    rows = PackedRows(byte_file("abcd", "e"), 2, 4, E, keep_remainder=True)
    batch = rows.__getitems__([1, NO_ROW])
    assert batch.valid.tolist() == [[True, True], [False, False]]
    assert (batch.data[1] == E).all()
    assert (rows[NO_ROW].data == E).all()
    for index in (-2, len(rows)):
        with pytest.raises(IndexError):
            rows[index]


@pytest.mark.parametrize("chunk_size", [1, 3, 4, 7])
@pytest.mark.parametrize("units", [1, 2, 5])
@pytest.mark.parametrize("keep_remainder", [True, False])
def test_text_to_rows_and_back(byte_file, chunk_size, units, keep_remainder):
    texts = ["x" * (i * 5 % 23) + f"{i}é" for i in range(60)]
    rows = PackedRows(byte_file(*texts), chunk_size, chunk_size * units, E, keep_remainder=keep_remainder)
    batch = rows.__getitems__(list(range(len(rows))))
    chunks = batch.data[batch.valid]  # in reading order
    # by the plain rule, document by document
    tokenizer = BytesTokenizer()
    expected = []
    for text in texts:
        document = [*tokenizer.encode([text])[0], E]
        padded = [E] * (-len(document) % chunk_size) + document
        expected += [padded[i : i + chunk_size] for i in range(0, len(padded), chunk_size)]
    if not keep_remainder:
        expected = expected[: len(expected) // units * units]
    assert chunks.tolist() == expected
    if keep_remainder:
        assert tokenizer.decode(chunks.flatten().tolist()) == "".join(texts)
        assert rows.total_units == len(expected) == int(batch.valid.sum())
    assert batch.valid.sum() + (~batch.valid).sum() == len(rows) * units
    # one by one, and in any order, the rows are the same
    assert all(torch.equal(rows[i].data[0], batch.data[i]) for i in range(0, len(rows), 7))
    shuffled = torch.randperm(len(rows)).tolist()
    assert torch.equal(rows.__getitems__(shuffled).data, batch.data[shuffled])


def test_a_length_that_does_not_divide_names_what_would(byte_file):
    with pytest.raises(
        ValueError, match=r"data\.sequence_length 10 is no multiple of the chunk size 4; 8 or 12"
    ):
        PackedRows(byte_file("abc"), 4, 10, E, keep_remainder=True)
    with pytest.raises(ValueError, match=r"sequence_length 3 .* chunk size 4; 4 would do"):
        check_lengths(3, 4)
    with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
        check_lengths(8, 0)


def test_fewer_tokens_than_one_sequence(byte_file):
    file = byte_file("abcd", "e")
    with pytest.raises(
        DataError,
        match=r"the train split has 7 tokens \(12 in whole chunks\), fewer than one sequence of 16;",
    ):
        PackedRows(file, 4, 16, E, keep_remainder=False)
    assert len(PackedRows(file, 4, 16, E, keep_remainder=True)) == 1  # enough to evaluate on
