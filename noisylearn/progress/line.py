"""Callbacks that are told of progress, and hand it on to a display."""

from collections.abc import Callable

from noisylearn.engines import Watch
from noisylearn.progress.item import Display, Item, note_of
from noisylearn.progress.plain import ALL


class ProgressLine(Watch):
    """Callbacks that report the progress of runs: one line for each that is at work, one for all.

    Args:
        display: shows it.
    """

    def __init__(self, display: Display) -> None:
        self._display = display
        self._expected = self._ended = self._failed = 0

    def expect(self, jobs: int) -> None:
        """So many jobs more are to be carried out."""
        self._expected += jobs
        self._show_all()

    def running(self, label: str, done: int, total: int, note: str) -> None:
        """A job has done so many of its steps."""
        self._display.show(label, Item(label, done, total, note))

    def ended(self, label: str, reason: str) -> None:
        """A job has ended, for a reason if it is not done."""
        self._ended += 1
        self._failed += bool(reason)
        self._display.drop(label)
        self._show_all()

    def _show_all(self) -> None:
        note = f"{self._failed} not done" if self._failed else ""
        self._display.show(ALL, Item(ALL, self._ended, self._expected, note, "run"))

    def run(self, label: str, epochs: int = 0, unit: str = "step") -> Callable[[int, int, float], None]:
        """A callback (steps done, steps in all, loss) to call after every step of a run, on a line with this label.

        Args:
            label: of the run.
            epochs: of the run; 0 where it has none.
            unit: what is counted.
        """
        self._display.show(label, Item(label))

        def on_step(step: int, total: int, loss: float) -> None:
            self._display.show(label, Item(label, step, total, note_of(step, total, loss, epochs), unit))

        return on_step

    def shares(self) -> Callable[[str, float], None]:
        """A callback (label, share) for work in parts: the part that runs now, and the share of all that is done."""

        def on_progress(label: str, share: float) -> None:
            self._display.show("", Item(label, round(1000 * share), 1000, unit="%"))

        return on_progress
