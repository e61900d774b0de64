"""What Lava processes write into a folder while they run: the step that each is in, its failure, its results."""

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisylearn.ground.replace import replace_file

MOST_PROCESSES = 4096
FAILURE = ".error"
LAVA = "Lava"  # title of the process that runs Lava itself
_PROGRESS, _TITLES = "progress.npy", "titles.json"


@dataclass(frozen=True, eq=False)
class Monitor:
    """What one process writes.

    Args:
        title: of the process, for messages.
        index: number of the process among all of the run.
        folder: of the run.
        progress: the step that every process is in, (MOST_PROCESSES,), shared through a file.
    """

    title: str
    index: int
    folder: Path
    progress: NDArray[np.int64]

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Note that the process is in this step; a failure inside the block leaves its traceback in the folder."""
        self.progress[self.index] = number
        try:
            yield
        except BaseException:
            trace = f"step {number}\n{traceback.format_exc()}"
            replace_file(
                self.folder / f"{self.title.replace('/', '|')}{FAILURE}", trace.encode(), "traceback", force=True
            )
            raise

    def save(self, **arrays: NDArray[Any]) -> None:
        """Write results, by name."""
        np.savez(self.folder / f"{self.index}.npz", allow_pickle=False, **arrays)

    def results(self) -> dict[str, NDArray[Any]]:
        """The arrays that `save` wrote."""
        with np.load(self.folder / f"{self.index}.npz", allow_pickle=False) as arrays:
            return dict(arrays)


@dataclass(frozen=True, eq=False)
class Monitors:
    """All monitors of a run, in one folder; the process that waits and the one that runs each make a set of their own.

    Args:
        folder: of the run.
        progress: the step that every process is in, (MOST_PROCESSES,), shared through a file.
        titles: of the processes, by index.
    """

    folder: Path
    progress: NDArray[np.int64]
    titles: list[str] = field(default_factory=list)

    def of(self, title: str) -> Monitor:
        """The monitor of one more process."""
        self.titles.append(title)
        return Monitor(title, len(self.titles) - 1, self.folder, self.progress)

    def publish(self) -> None:
        """Write the titles, for the process that waits."""
        replace_file(self.folder / _TITLES, json.dumps(self.titles).encode(), "titles")

    def steps(self) -> dict[str, int]:
        """Title -> the step that each process is in; empty before the titles are published."""
        if not self.titles and (self.folder / _TITLES).exists():
            self.titles.extend(json.loads((self.folder / _TITLES).read_text(encoding="utf-8")))
        return dict(zip(self.titles, self.progress.tolist(), strict=False))


def new_monitors(folder: Path) -> Monitors:
    """Monitors in a folder that has none yet."""
    shape = (MOST_PROCESSES,)
    return Monitors(folder, np.lib.format.open_memmap(folder / _PROGRESS, mode="w+", dtype=np.int64, shape=shape))


def open_monitors(folder: Path) -> Monitors:
    """Monitors in a folder where another process made them."""
    return Monitors(folder, np.lib.format.open_memmap(folder / _PROGRESS, mode="r+"))
