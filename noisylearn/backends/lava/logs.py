"""Files that processes write and that are read after a run: Lava's own transfer moves arrays element by element."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CountFile:
    """Where a process writes how many of its numbers were clipped.

    Args:
        path: of the file.
    """

    path: Path

    def write(self, counts: Counter[str]) -> None:
        """Replace the counts in the file."""
        self.path.write_text(json.dumps(dict(counts)), encoding="utf-8")


@final
class Logs:
    """One array of zeros for each name, which a process fills in, and the counts of every process.

    Args:
        folder: where the files lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[str, Path] = {}

    def make(self, name: str, shape: tuple[int, ...], kind: type) -> None:
        """Create an array of zeros.

        Args:
            name: of the array.
            shape: its shape.
            kind: its numpy type.
        """
        self._paths[name] = self._folder / f"{len(self._paths)}.npy"
        np.save(self._paths[name], np.zeros(shape, dtype=kind))

    def path(self, name: str) -> Path | None:
        """File of an array, or None where none was made."""
        return self._paths.get(name)

    def read(self, name: str) -> NDArray[Any]:
        """The array of this name."""
        return np.asarray(np.load(self._paths[name]))

    def counter(self, name: str) -> CountFile:
        """Where the process of this name writes its counts."""
        return CountFile(self._folder / f"{name}.counts")

    def counts(self) -> list[dict[str, int]]:
        """The counts of every process that wrote some."""
        return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(self._folder.glob("*.counts"))]
