"""Ctrl-C while the command is still being loaded, which takes seconds: one word in place of a traceback.

Imported before anything that takes long; `noisylearn.cli.main` handles Ctrl-C itself from then on. Python programs that
import the package keep their own handling.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

INTERRUPTED = 130  # exit status of a shell for Ctrl-C


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _is_the_command() -> bool:
    """Whether this process is `noisylearn` or `python -m noisylearn`."""
    return Path(sys.argv[0]).stem == "noisylearn" or sys.orig_argv[1:3] == ["-m", "noisylearn"]


def handled_elsewhere() -> None:
    """Give Ctrl-C its usual meaning in Python back."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if threading.current_thread() is threading.main_thread() and _is_the_command():
    signal.signal(signal.SIGINT, _leave)
