"""Jobs for the tests of engines, in a module that their workers can import."""

import os
import signal
import time
import warnings
from pathlib import Path

import torch

from noisylearn.engines import Job, Watch
from noisylearn.ground.errors import RunawayError, UserError


def doubled(number, report):
    """Twice a number, with three steps on the way."""
    for step in range(3):
        report(step + 1, 3, f"at {step}")
    warnings.warn("careful", stacklevel=1)
    return 2 * number


def runs_away(report):
    raise RunawayError("it ran away")


def is_mistaken(report):
    raise UserError("no such task")


def is_faulty(report):
    return 1 / 0


def threads(report):
    return torch.get_num_threads()


def lost(folder, times, report):
    """Ends its process so many times before it returns how often it was begun."""
    before = len(list(Path(folder).iterdir()))
    (Path(folder) / str(before)).touch()
    if before < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return before + 1


def waits(file, report):
    """Writes the number of its process and goes on for long."""
    Path(file).write_text(str(os.getpid()))
    for step in range(600):
        report(step, 600, "")
        time.sleep(0.1)


class Seen(Watch):
    """Keeps what it was told."""

    def __init__(self):
        self.expected, self.steps, self.ends = 0, [], {}

    def expect(self, jobs):
        self.expected += jobs

    def running(self, label, done, total, note):
        self.steps.append((label, done, total, note))

    def ended(self, label, reason):
        assert label not in self.ends
        self.ends[label] = reason


def job(work, *arguments, label=None):
    return Job(label or work.__name__, work, arguments)
