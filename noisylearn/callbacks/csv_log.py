"""A log as a table of text: one row for every epoch."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from noisylearn.callbacks.base import Callback, Run, beside, measured
from noisylearn.ground.replace import replace_file


@dataclass(frozen=True)
class CsvLog(Callback):
    """Writes all measurements of a run after every epoch, as comma-separated values.

    Args:
        path: of the file; None for beside the run file.
    """

    path: Path | str | None = None

    def epoch(self, run: Run) -> None:
        """Write the rows of all epochs; a resumed run has every row once."""
        text = io.StringIO()
        rows = csv.DictWriter(text, ["epoch", "step", *run.history], lineterminator="\n")
        rows.writeheader()
        for i in range(run.epoch):
            rows.writerow({"epoch": i + 1, "step": (i + 1) * run.steps_per_epoch, **measured(run, i)})
        path = beside(run, None if self.path is None else Path(self.path), ".csv", "log csv")
        replace_file(path, text.getvalue().encode(), "log", "give another path")
