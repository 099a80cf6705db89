from __future__ import annotations

import pytest
import torch

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.interfaces import EventSpec, NotTrainable


def test_identity() -> None:
    model, data = TokenChunks(7, chunk_size=3), torch.randint(7, (2, 4, 3))
    assert model.event == EventSpec((3,), 7)
    assert model.event.kind == "tokens"
    posterior = model.encode(data)
    assert posterior.log_std is None
    assert model.to_data(posterior.sample(2)).equal(torch.stack([data, data]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_logits_are_a_certain_law_without_infinities(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)  # the fixture of every test sets it back
    logits = TokenChunks(7, chunk_size=3).decode(torch.tensor([[0, 6, 2]]))
    assert logits.dtype == dtype
    assert logits.isfinite().all()
    assert logits.softmax(-1).tolist() == torch.eye(7)[[0, 6, 2]][None].tolist()
    assert logits.argmax(-1).tolist() == [[0, 6, 2]]


def test_there_is_nothing_to_train() -> None:
    model = TokenChunks(7, chunk_size=1)
    assert list(model.parameters()) == []
    with pytest.raises(NotTrainable, match="no parameters"):
        model.loss(torch.zeros(1, 2, 1, dtype=torch.long))


def test_refuses_an_empty_chunk() -> None:
    with pytest.raises(ValueError, match=r"token_chunks: chunk_size .*got 0"):
        TokenChunks(7, chunk_size=0)
