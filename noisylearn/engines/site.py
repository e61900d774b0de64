"""What the processes of an engine must have in common: versions, and the folder of the run files."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch

from noisylearn.version import __version__


@dataclass(frozen=True)
class Site:
    """Where jobs write their files, as the process that sends them sees it.

    Args:
        folder: of the run files.
        mark: a file that lies there while the jobs are being carried out.
        versions: of the packages that decide what a run draws and computes.
    """

    folder: str
    mark: str
    versions: dict[str, str]

    def fault(self) -> str:
        """Why the present process cannot carry out jobs of this site, in one line; empty if it can."""
        here, ours = socket.gethostname(), _versions()
        for name, wanted in self.versions.items():
            if ours[name] != wanted:
                return f"worker on {here} has {name} {ours[name]}, not {wanted}: install the same versions there"
        if not Path(self.folder, self.mark).is_file():
            return f"worker on {here} does not see folder {self.folder}: give an --out that all machines share"
        return ""


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """The site of jobs that are sent from here, marked as long as they are carried out.

    Args:
        folder: of the run files; it exists.
    """
    mark = folder / f".site-{secrets.token_hex(6)}"
    mark.touch()
    try:
        yield Site(str(folder.resolve()), mark.name, _versions())
    finally:
        mark.unlink(missing_ok=True)


def _versions() -> dict[str, str]:
    return {"noisylearn": __version__, "torch": torch.__version__, "numpy": numpy.__version__}
