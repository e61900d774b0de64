"""Signals that end a program: waiting until work is saved, and one word for Ctrl-C while the command is being loaded.

Imported before anything that takes long; `noisylearn.cli.main` handles Ctrl-C itself from then on. Python programs that
import the package keep their own handling.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143  # exit status of a shell for Ctrl-C and for SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM has come."""


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _is_the_command() -> bool:
    """Whether this process is `noisylearn` or `python -m noisylearn`, and not a worker that it has started."""
    if "--multiprocessing-fork" in sys.orig_argv:
        return False
    return Path(sys.argv[0]).stem == "noisylearn" or sys.orig_argv[1:3] == ["-m", "noisylearn"]


def handled_elsewhere() -> None:
    """Give Ctrl-C its usual meaning in Python back."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interrupt_delayed() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended, in the main thread, which alone gets it.

    Raises:
        KeyboardInterrupt: at the end, if Ctrl-C was pressed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:  # an error of the block may come from it: it has reached child processes too
            raise KeyboardInterrupt from None


@contextmanager
def term_raised() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` in this block, where it would end the process without a word.

    Raises:
        Terminated: it came.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def term_said(otherwise: str = "") -> Iterator[None]:
    """Let SIGTERM end the process in this block as it would, but say in a line on standard error what was kept.

    Args:
        otherwise: what is said where the work itself says nothing.
    """
    try:
        with term_raised():
            yield
    except Terminated as came:
        said = getattr(came, "__notes__", None) or [otherwise] * bool(otherwise)
        print("; ".join(["terminated", *said]), file=sys.stderr, flush=True)
        signal.raise_signal(signal.SIGTERM)


@contextmanager
def ends_held_back() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C and SIGTERM wait until the block has ended; then they do what they did before it.

    A second one does so at once. Other threads than the main one get no signals, and nothing waits for them.

    Yields:
        Tells whether one has come, so that the block can save its work and end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}

    def usual() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hold(number: int, frame: FrameType | None) -> None:
        came.append(number)
        usual()

    for held in before:
        signal.signal(held, hold)
    try:
        yield lambda: bool(came)
    finally:
        usual()
        for number in came:
            signal.raise_signal(number)


if threading.current_thread() is threading.main_thread() and _is_the_command():
    signal.signal(signal.SIGINT, _leave)
