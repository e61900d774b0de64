"""How far one piece of work is, in numbers and in words, and what shows it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

Clock = Callable[[], float]


@dataclass(frozen=True)
class Item:
    """How far one piece of work is.

    Args:
        label: names the work.
        done: units done.
        total: units in all; 0 where that is not known yet.
        note: a few words, such as the present loss.
        unit: "step", or what else is counted; "%" for shares.
    """

    label: str
    done: int = 0
    total: int = 0
    note: str = ""
    unit: str = "step"

    @property
    def share(self) -> float:
        """Of the work that is done, from 0 to 1."""
        return self.done / self.total if self.total else 0.0

    @property
    def count(self) -> str:
        """What is done, in words; empty where the total is not known."""
        if not self.total:
            return ""
        return f"{self.share:.0%}" if self.unit == "%" else f"{self.unit} {self.done} of {self.total}"


class Display(Protocol):
    """Shows how far several pieces of work are."""

    def show(self, key: str, item: Item) -> None:
        """Show a piece of work, in the place of what was shown under this key."""
        ...

    def drop(self, key: str) -> None:
        """Show a piece of work no longer."""
        ...


class Silent:
    """Shows nothing."""

    def show(self, key: str, item: Item) -> None:
        """Show nothing."""

    def drop(self, key: str) -> None:
        """Show nothing."""


@dataclass
class Pace:
    """How long work will go on, if it goes on as it did since it was first seen.

    Args:
        clock: seconds.
    """

    clock: Clock = time.monotonic
    _first: tuple[float, float] | None = field(default=None, init=False)

    def left(self, share: float) -> str:
        """Time left, in words; empty where nothing was done yet since the first call.

        Args:
            share: of the work that is done, from 0 to 1.
        """
        now = self.clock()
        if self._first is None:
            self._first = now, share
        begun, at = self._first
        if share <= at or share >= 1:
            return ""
        return f"{_duration((now - begun) * (1 - share) / (share - at))} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def note_of(step: int, total: int, loss: float, epochs: int = 0) -> str:
    """The note of a training: the epoch it is in, and its loss.

    Args:
        step: steps done.
        total: steps in all.
        loss: of the last step; left out where it is not a number.
        epochs: in all; 0 to leave the epoch out.
    """
    epoch = f"epoch {max(1, math.ceil(step * epochs / total))} of {epochs}" if epochs and total else ""
    return ", ".join(filter(None, (epoch, "" if math.isnan(loss) else f"loss {loss:.4f}")))
