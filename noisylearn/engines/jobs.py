"""What an engine carries out: jobs with a report, their outcomes, and a watch that is told of both."""

import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from noisylearn.ground.errors import RunawayError, UserError, shortened

Report = Callable[[int, int, str], None]  # steps done, steps in all, a note such as the present loss
End = Literal["done", "stopped", "refused", "failed", "lost"]
REPORT_EVERY_S = 0.2
LIVES = 3  # processes that may be lost over one job
FAULT = "this is a fault of noisylearn: please report it"


@dataclass(frozen=True)
class Job:
    """One piece of work that leaves its result in a file, and can be resumed from there.

    Args:
        label: for the progress and for messages; no two jobs of one call have the same.
        work: a function of a module, called as work(*arguments, report). It may be called again after a process was
            lost, and then goes on from its file.
        arguments: everything it needs; they can be pickled.
    """

    label: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        end: "done"; "stopped", where a training ran away; "refused", for a user's mistake; "failed", for an unexpected
            error; "lost", where the processes that worked on it ended again and again.
        value: what the work returned; None unless it is done.
        reason: why it is not done, in one line; empty if it is.
    """

    end: End
    value: Any = None
    reason: str = ""


class Watch:
    """Told how jobs go on, for a display; this one shows nothing."""

    def expect(self, jobs: int) -> None:
        """So many jobs more are to be carried out."""

    def running(self, label: str, done: int, total: int, note: str) -> None:
        """A job has done so many of its steps."""

    def ended(self, label: str, reason: str) -> None:
        """A job has ended; the reason says why it is not done, and is empty if it is."""


class Engine(Protocol):
    """Carries out jobs somewhere."""

    def run(self, jobs: Sequence[Job], watch: Watch) -> list[Outcome]:
        """Carry out jobs that do not depend on each other.

        Args:
            jobs: in any order; the engine begins with the first.
            watch: told of their progress.

        Returns:
            The outcome of every job, in the order of the jobs.

        Raises:
            UserError: the engine cannot work; no job has begun then, or those that had ended keep their files.
        """
        ...


def carried_out(job: Job, report: Report) -> Outcome:
    """Carry out a job in this process.

    Args:
        job: the job.
        report: told of its steps.
    """
    try:
        return Outcome("done", job.work(*job.arguments, report))
    except RunawayError as stop:
        return Outcome("stopped", reason=str(stop))
    except UserError as mistake:
        return Outcome("refused", reason=str(mistake))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {shortened(str(error), 300)}"
        return Outcome("failed", reason=f"{what} ({Path(place.filename).name}, line {place.lineno}); {FAULT}")


@contextmanager
def warnings_to(warned: Callable[[str], None]) -> Iterator[None]:
    """Hand over the texts of warnings, in the process of a worker, which nobody looks at.

    Args:
        warned: called with each.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *_, **__: warned(str(message))
        yield


def now_and_then(report: Report, every_s: float = REPORT_EVERY_S) -> Report:
    """A report that passes on the first step, the last, and those in between only so often.

    Args:
        report: told of the steps that are passed on.
        every_s: seconds between them, at least.
    """
    last = -every_s

    def passing(done: int, total: int, note: str) -> None:
        nonlocal last
        if done == total or time.monotonic() >= last + every_s:
            last = time.monotonic()
            report(done, total, note)

    return passing
