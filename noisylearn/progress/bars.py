"""Progress as bars in a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from noisylearn.progress.item import Item

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bars:
    """One bar for every piece of work.

    Args:
        progress: of rich.
    """

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def show(self, key: str, item: Item) -> None:
        """Show a piece of work, in the place of what was shown under this key."""
        if key not in self._bars:
            self._bars[key] = self._progress.add_task(item.label, total=None, note="")
        self._progress.update(
            self._bars[key], description=item.label, completed=item.done, total=item.total or None, note=item.note
        )

    def drop(self, key: str) -> None:
        """Take away a bar."""
        if key in self._bars:
            self._progress.remove_task(self._bars.pop(key))


@contextmanager
def bars() -> Iterator[Bars]:
    """Bars on standard error in this block."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Bars(progress)
