"""Files that processes write into and that are read after a run: Lava itself moves arrays element by element."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CountFile:
    """Where a process writes what saturated in it."""

    path: Path

    def write(self, counts: Counter[str]) -> None:
        self.path.write_text(json.dumps(dict(counts)), encoding="utf-8")


@final
class Logs:
    """One array for each name, zeros until something is written, and the counts of every process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[str, Path] = {}

    def make(self, name: str, shape: tuple[int, ...], kind: type) -> None:
        self._paths[name] = self._folder / f"{len(self._paths)}.npy"
        np.save(self._paths[name], np.zeros(shape, dtype=kind))

    def path(self, name: str) -> Path | None:
        return self._paths.get(name)

    def read(self, name: str) -> NDArray[Any]:
        return np.asarray(np.load(self._paths[name]))

    def counter(self, name: str) -> CountFile:
        return CountFile(self._folder / f"{name}.counts")

    def counts(self) -> list[dict[str, int]]:
        return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(self._folder.glob("*.counts"))]
