"""Progress as lines of text, for logs: nothing of short work, and of long work a line now and then."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress

from noisylearn.progress.item import Clock, Item, Pace

ALL = "all"  # key of the work that the others are parts of
EVERY_S, EVERY_SHARE = 30.0, 0.1  # a line comes once both have passed since the one before
AT_ONCE_S = 1.0


def to_stderr(line: str) -> None:
    """Print a line on standard error; where that cannot be written to, nobody reads it.

    Args:
        line: the line.
    """
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


class Lines:
    """Says how far the work is: for the first time after half a minute, then at every further tenth of the whole.

    Two lines are half a minute apart, at least.

    Args:
        say: takes a line.
        clock: seconds.
    """

    def __init__(self, say: Callable[[str], None] = to_stderr, clock: Clock = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._items: dict[str, Item] = {}
        self._pace = Pace(clock)
        self._found, self._changed_at = 0.0, clock()  # pieces that were done before, in whole or in part
        self._said_at, self._said_share = clock(), -1.0

    def show(self, key: str, item: Item) -> None:
        """Note how far a piece of work is, and say so if it is time."""
        if key != ALL and item.total and (key not in self._items or not self._items[key].total):
            self._found += item.share
        self._items[key], self._changed_at = item, self._clock()
        share = self._share()
        left = self._pace.left(self._share_of_work(share)) if item.total else ""
        late = self._clock() - self._said_at >= EVERY_S
        if late and abs(share - self._said_share) >= EVERY_SHARE and share < 1:
            self._said_at, self._said_share = self._clock(), share
            self._say(self._line(item, left))

    def drop(self, key: str) -> None:
        """Forget a piece of work; one that ends at once, and was not seen at work, was done before."""
        self._found += self._items.pop(key, None) is None and self._clock() - self._changed_at < AT_ONCE_S
        self._changed_at = self._clock()

    def _share_of_work(self, share: float) -> float:
        """Of what was not done before, the share that is done by now."""
        whole = self._items.get(ALL)
        found = self._found / max(whole.total if whole is not None else len(self._items), 1)
        return (share - found) / (1 - found) if found < 1 else 1.0

    def _share(self) -> float:
        """Of all work that is done; where there are more pieces than those at work, of these as well."""
        parts = [item.share for key, item in self._items.items() if key != ALL]
        whole = self._items.get(ALL)
        if whole is None:
            return sum(parts) / len(parts)
        return min(1.0, (whole.done + sum(parts)) / max(whole.total, 1))

    def _line(self, item: Item, left: str) -> str:
        whole = self._items.get(ALL)
        of_all = ""
        if whole is not None and whole.total > 1:
            of_all = ", ".join(filter(None, (f"{whole.done} of {whole.total} done", whole.note)))
        this = "" if item is whole else ": ".join(filter(None, (item.label, _words(item))))
        return ", ".join(filter(None, ("; ".join(filter(None, (of_all, this))), left)))


def _words(item: Item) -> str:
    return ", ".join(filter(None, (item.count, item.note)))
