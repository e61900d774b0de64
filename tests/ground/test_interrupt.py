"""Ctrl-C that waits."""

import signal
import threading

import pytest

from noisylearn.ground.interrupt import interrupt_delayed


def pressed(done, error=None):
    with interrupt_delayed():
        signal.raise_signal(signal.SIGINT)
        done.append("after it was pressed")
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [None, RuntimeError("a child process has ended")])
def test_an_interrupt_waits_until_the_block_has_ended(error):
    before, done = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt):
        pressed(done, error)
    assert done
    assert signal.getsignal(signal.SIGINT) is before


def test_without_an_interrupt_nothing_happens():
    before = signal.getsignal(signal.SIGINT)
    with interrupt_delayed():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_have_nothing_to_delay():
    done = []

    def work():
        with interrupt_delayed():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
