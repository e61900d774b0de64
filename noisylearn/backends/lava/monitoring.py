"""What Lava processes leave in a folder while they run: the step each is in, its failure, its results."""

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
    """The place of one process: its title, and its number among all."""

    title: str
    index: int
    folder: Path
    progress: NDArray[np.int64]

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Says that the process is in this step; a failure inside leaves its traceback."""
        self.progress[self.index] = number
        try:
            yield
        except BaseException:
            trace = f"step {number}\n{traceback.format_exc()}"
            replace_file(self.folder / f"{self.title.replace('/', '|')}{FAILURE}", trace.encode(), "traceback")
            raise

    def save(self, **arrays: NDArray[Any]) -> None:
        """Leave results behind."""
        np.savez(self.folder / f"{self.index}.npz", allow_pickle=False, **arrays)

    def results(self) -> dict[str, NDArray[Any]]:
        """What `save` left."""
        with np.load(self.folder / f"{self.index}.npz", allow_pickle=False) as arrays:
            return dict(arrays)


@dataclass(frozen=True, eq=False)
class Monitors:
    """All places of a run, in one folder; who waits for the run and who runs it make one each."""

    folder: Path
    progress: NDArray[np.int64]
    titles: list[str] = field(default_factory=list)

    def of(self, title: str) -> Monitor:
        """The place of one more process."""
        self.titles.append(title)
        return Monitor(title, len(self.titles) - 1, self.folder, self.progress)

    def publish(self) -> None:
        """Let who waits know the titles."""
        replace_file(self.folder / _TITLES, json.dumps(self.titles).encode(), "titles")

    def steps(self) -> dict[str, int]:
        """Title -> the step that each process is in; empty before the run knows them."""
        if not self.titles and (self.folder / _TITLES).exists():
            self.titles.extend(json.loads((self.folder / _TITLES).read_text(encoding="utf-8")))
        return dict(zip(self.titles, self.progress.tolist(), strict=False))


def new_monitors(folder: Path) -> Monitors:
    """Places in a folder that has none yet."""
    shape = (MOST_PROCESSES,)
    return Monitors(folder, np.lib.format.open_memmap(folder / _PROGRESS, mode="w+", dtype=np.int64, shape=shape))


def open_monitors(folder: Path) -> Monitors:
    """Places in a folder that another process made."""
    return Monitors(folder, np.lib.format.open_memmap(folder / _PROGRESS, mode="r+"))
