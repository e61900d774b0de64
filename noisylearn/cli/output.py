"""Output of commands: tables for people, one JSON document for programs, progress on standard error."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console

from noisylearn.ground.errors import UserError
from noisylearn.ground.interrupt import INTERRUPTED, TERMINATED, Terminated
from noisylearn.ground.table import Table
from noisylearn.progress import ProgressLine, chosen_mode, shown
from noisylearn.rules.guard import warn_if_grown


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    print(json_text(document))


def json_text(document: Any) -> str:
    """The text of a JSON document; numbers that are not finite become null."""
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def print_table(table: Table) -> None:
    """Print a table, as wide as the terminal, or 200 characters wide where the output is piped."""
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(width=200, markup=False, emoji=False)
    console.print(table.to_rich())


def print_text(text: str) -> None:
    """Print plain text without line breaks of its own; the terminal wraps it."""
    Console(soft_wrap=True, highlight=False, markup=False, emoji=False).print(text)


class InterruptedRunError(Exception):
    """Ctrl-C or SIGTERM came during a run; the message says what was kept and how to continue.

    Args:
        came: what it raised; its notes say what was kept.
        otherwise: what the user is told where there is no note.
    """

    def __init__(self, came: KeyboardInterrupt, otherwise: str) -> None:
        what, self.status = ("terminated", TERMINATED) if isinstance(came, Terminated) else ("interrupted", INTERRUPTED)
        super().__init__("; ".join([what, *(getattr(came, "__notes__", None) or [otherwise])]))


RESUMES = "compare, or train with --resume, continues from the last checkpoint, if there was one"
AGAIN = "the same command goes on: finished runs are read, unfinished ones continue from their last checkpoint"


@contextmanager
def progress(afterwards: str = RESUMES) -> Iterator[ProgressLine]:
    """Show progress and the time left on standard error; see `noisylearn.progress`.

    Args:
        afterwards: what the user is told after Ctrl-C, unless the run itself says what was kept and how to continue.

    Raises:
        InterruptedRunError: the user pressed Ctrl-C, or SIGTERM came where it is raised.
    """
    with shown() as line:
        try:
            yield line
        except KeyboardInterrupt as came:  # which typer would swallow
            raise InterruptedRunError(came, afterwards) from None


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on standard error what a command of unknown length is doing; silent without a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal or chosen_mode() != "bar":
        yield
        return
    with console.status(what):
        yield


def end_with(left_out: Mapping[Any, str]) -> None:
    """End a command that has done the rest with one line on the files that it left out.

    Args:
        left_out: file -> why, in one line.

    Raises:
        UserError: there are any.
    """
    if left_out:
        count = f"{len(left_out)} files are" if len(left_out) > 1 else "1 file is"
        more = " (--json names all of them)" if len(left_out) > 1 else ""
        raise UserError(f"{count} left out{more}: {next(iter(left_out.values()))}")


def loss_tenths(losses: np.ndarray) -> dict[str, float]:
    """Mean loss of the first and of the last tenth of a run; not a number where there is no loss.

    Args:
        losses: (samples,), in the order in which they were trained on; of steps that count alone.
    """
    if not len(losses):
        return dict.fromkeys(("loss_first_tenth", "loss_last_tenth"), math.nan)
    tenth = max(len(losses) // 10, 1)
    return {
        "loss_first_tenth": float(np.mean(losses[:tenth])),
        "loss_last_tenth": float(np.mean(losses[-tenth:])),
    }


ENOUGH_SAMPLES = 100  # in a tenth of fewer the spread of the losses is not known
SURE = 2.0  # standard errors of the difference


def warn_of_growth(losses: np.ndarray, lr: float, option: str) -> None:
    """Warn where the mean loss of the last tenth is above that of the first by more than the losses' spread explains.

    Args:
        losses: (samples,), in the order in which they were trained on; of steps that count alone.
        lr: learning rate of the run.
        option: that sets another learning rate, in words.
    """
    tenth = max(len(losses) // 10, 1)
    first, last = losses[:tenth], losses[-tenth:]
    if len(losses) >= ENOUGH_SAMPLES or not np.isfinite(last).all():
        with np.errstate(invalid="ignore", over="ignore"):  # losses that are not finite have no spread: it has grown
            limit = float(np.mean(first) + SURE * np.sqrt((np.var(first) + np.var(last)) / tenth))
        remedy = (
            f"the learning rate {lr:g} is too large for these weights, try a tenth ({option} {lr / 10:g}); trained "
            "weights have little left to learn: export with --initial to see learning"
        )
        warn_if_grown(float(np.mean(first)), float(np.mean(last)), remedy, limit)


def split_list(text: str, option: str) -> list[str]:
    """Items of a comma-separated option.

    Raises:
        UserError: an item is empty.
    """
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise UserError(f"{option} '{text}': give names separated by commas, for example a,b")
    return items


def split_integers(text: str, option: str) -> list[int]:
    """Integers of a comma-separated option.

    Raises:
        UserError: an item is not an integer.
    """
    try:
        return [int(item) for item in split_list(text, option)]
    except ValueError:
        raise UserError(f"{option} '{text}': give whole numbers separated by commas, for example 0,1,2") from None


def split_numbers(text: str, option: str) -> list[float]:
    """Numbers of a comma-separated option.

    Raises:
        UserError: an item is not a number.
    """
    try:
        return [float(item) for item in split_list(text, option)]
    except ValueError:
        raise UserError(f"{option} '{text}': give numbers separated by commas, for example 1e-3,1e-2") from None


def _finite(value: Any) -> Any:
    """The document with None in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        return None
    return value
