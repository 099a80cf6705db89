"""A signal waits for the end of a step, and stops at once where no step goes on."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

import pytest

from calmkit.training.errors import Stopped
from calmkit.training.stopping import StopRequest


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)]
)
def test_in_a_step_it_is_noted(number: int, code: int) -> None:
    request = StopRequest()
    with request.listening():
        request.patient = True
        send(number)
        assert request.code == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_between_stages_it_stops_at_once(number: int) -> None:
    request = StopRequest()
    with (
        request.listening(),
        pytest.raises(Stopped, match=f"Stopped by {signal.Signals(number).name}") as told,
    ):
        send(number)
    assert told.value.code == request.code == 75


def test_an_interrupt_between_stages_is_one() -> None:
    with StopRequest().listening(), pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_the_first_one_says_how_it_ends() -> None:
    """SLURM sends SIGUSR1, and SIGTERM after it."""
    request = StopRequest()
    with request.listening():
        request.patient = True
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert request.code == 130


def test_who_asks_twice_does_not_wait() -> None:
    request = StopRequest()
    with request.listening():
        request.patient = True
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    with suppress(ZeroDivisionError), StopRequest().listening():
        assert signal.getsignal(signal.SIGTERM) != before[0]
        raise ZeroDivisionError
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)] == before


def test_whoever_does_not_listen_leaves_no_handler_behind() -> None:
    """Stages are fitted by themselves too, and their process outlives them."""
    before = signal.getsignal(signal.SIGTERM)
    request = StopRequest()
    request.listen()
    assert signal.getsignal(signal.SIGTERM) == before
    with request.listening():
        pass
    request.listen()
    assert signal.getsignal(signal.SIGTERM) == before


def test_in_another_thread_nothing_is_taken() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def listen() -> None:
        with StopRequest().listening() as _:
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]
