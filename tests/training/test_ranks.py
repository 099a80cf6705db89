"""What one of several processes fails with is found by the first, which is ended if it waits for ever."""

from __future__ import annotations

import threading

import pytest
import torch

from calmkit.interfaces import DataError
from calmkit.training.errors import TrainingDiverged
from calmkit.training.ranks import first_failure, talking_failed, tell, told_once, watch


@pytest.fixture
def store() -> torch.distributed.Store:
    return torch.distributed.HashStore()


def test_the_first_failure_is_the_cause(store: torch.distributed.Store) -> None:
    assert first_failure(store, 0.0) is None
    tell(store, 3, DataError("a row is torn"))
    tell(store, 1, ZeroDivisionError("a bug"))
    assert first_failure(store, 0.0) == "Process 3: a row is torn"


def test_a_first_process_that_waits_for_ever_is_ended_with_the_words_of_the_other(
    store: torch.distributed.Store, capsys: pytest.CaptureFixture[str]
) -> None:
    ends: list[int] = []
    tell(store, 1, DataError("a row is torn"))
    watch(threading.Event(), lambda: store, ends.append, grace=0.0)
    assert ends == [1]
    assert capsys.readouterr().err == "error: Process 1: a row is torn\n"


def test_a_first_process_that_ends_by_itself_is_left_alone(
    store: torch.distributed.Store, capsys: pytest.CaptureFixture[str]
) -> None:
    over, ends = threading.Event(), list[int]()
    tell(store, 1, DataError("a row is torn"))

    def find() -> torch.distributed.Store:
        over.set()
        return store

    watch(over, find, ends.append, grace=600.0)
    assert (ends, capsys.readouterr().err) == ([], "")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:2"), True),
        (torch.distributed.DistBackendError("NCCL communicator was aborted"), True),
        (RuntimeError("shape '[3]' is invalid for input of size 2"), False),
        (TrainingDiverged("The loss became nan"), False),
    ],
)
def test_what_only_says_that_another_has_gone(error: Exception, expected: bool) -> None:
    assert talking_failed(error) is expected


def test_a_process_alone_fails_as_it_would() -> None:
    with pytest.raises(ZeroDivisionError), told_once(1):
        raise ZeroDivisionError
