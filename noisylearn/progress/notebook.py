"""Progress as a table in a notebook, which is replaced as a whole."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from noisylearn.ground.table import Table
from noisylearn.progress.item import Clock, Item, Pace

EVERY_S = 0.5
BLOCKS = 20  # of a bar


def in_notebook() -> bool:
    """Whether this code runs in a kernel of Jupyter, whose page shows what is displayed."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class Page:
    """A line of a table for every piece of work.

    Args:
        handle: of what IPython displays.
        clock: seconds.
    """

    def __init__(self, handle: Any, clock: Clock = time.monotonic) -> None:
        self._handle, self._clock = handle, clock
        self._items: dict[str, tuple[Item, str]] = {}  # with the time left
        self._paces: dict[str, Pace] = {}
        self._drawn_at = -EVERY_S

    def show(self, key: str, item: Item) -> None:
        """Show a piece of work, in the place of what was shown under this key."""
        pace = self._paces.setdefault(key, Pace(self._clock))
        self._items[key] = item, pace.left(item.share) if item.total else ""
        if self._clock() - self._drawn_at >= EVERY_S:
            self.draw()

    def drop(self, key: str) -> None:
        """Show a piece of work no longer."""
        self._items.pop(key, None)
        self._paces.pop(key, None)

    def draw(self) -> None:
        """Replace the table by one of the present state."""
        self._drawn_at = self._clock()
        rows = [
            [item.label, _bar(item.share), f"{item.share:.0%}", item.count, left, item.note]
            for item, left in self._items.values()
        ]
        self._handle.update(content(Table("", [""] * 6, rows)), raw=True)


def content(table: Table) -> dict[str, str]:
    """A table as IPython displays it.

    Args:
        table: the table.
    """
    return {"text/html": table.to_html(), "text/plain": table.to_text()}


def _bar(share: float) -> str:
    full = round(BLOCKS * min(share, 1.0))
    return "█" * full + "░" * (BLOCKS - full)


@contextmanager
def page() -> Iterator[Page]:
    """A table below the cell of the notebook in this block, whose last state stays there."""
    from IPython.display import display

    shown = Page(display(content(Table("", [""], [])), raw=True, display_id=True))
    try:
        yield shown
    finally:
        shown.draw()
