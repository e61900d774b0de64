"""Run files of folders as plain records: one for every run, epoch or step."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from noisylearn.experiments.run_facts import Curves, RunFacts
from noisylearn.experiments.run_file import RunFile
from noisylearn.experiments.run_files import scan
from noisylearn.ground.errors import unknown_name

Kind = Literal["runs", "epochs", "steps"]
Where = str | Path | Iterable[str | Path]


@dataclass(frozen=True)
class Records:
    """What was found in run files.

    Args:
        rows: a record for every run, epoch or step.
        damaged: file -> why it cannot be read, in one line.
    """

    rows: list[dict[str, Any]]
    damaged: dict[str, str]


@dataclass(frozen=True)
class Piece:
    """What one run adds to a table.

    Args:
        same: column -> value of all its rows.
        curves: column -> value of every row; empty where the run is one row.
    """

    same: dict[str, Any]
    curves: Curves

    def rows(self) -> list[dict[str, Any]]:
        """A record for every row."""
        if not self.curves:
            return [self.same]
        columns = {name: values.tolist() for name, values in self.curves.items()}
        return [self.same | dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def records(where: Where = "runs", kind: Kind = "runs") -> Records:
    """Read run files into plain records, without weights and checkpoints.

    Args:
        where: a folder, a run file, or several of both. Folders inside a folder are not read.
        kind: "runs": a record for every run, with all settings, final figures, baselines, versions and dates.
            "epochs": one for every epoch, with all that is measured there. "steps": one for every step, with its loss.

    Returns:
        The records, in the order of the files, and the files that cannot be read.

    Raises:
        UserError: there is no such file or folder, or no such kind.
    """
    pieces, damaged = read_pieces(where, kind)
    return Records([row for piece in pieces for row in piece.rows()], damaged)


def read_pieces(where: Where, kind: Kind) -> tuple[list[Piece], dict[str, str]]:
    """What every run adds to a table, and the files that cannot be read; arguments as those of `records`."""
    if kind not in get_args(Kind):
        raise unknown_name("kind of table", str(kind), get_args(Kind))
    facts, damaged = read_facts(where)
    return [_piece(one, kind) for one in facts], damaged


def read_facts(where: Where) -> tuple[list[RunFacts], dict[str, str]]:
    """The runs in files and folders, and the files that cannot be read; argument as that of `records`."""
    places = [where] if isinstance(where, str | Path) else where
    found, damaged = scan(map(Path, places), RunFile.facts)
    return [RunFacts(path, tree) for path, tree in found.items()], {str(path): why for path, why in damaged.items()}


def warn_of_damage(damaged: dict[str, str]) -> None:
    """Say in one line that files could not be read.

    Args:
        damaged: file -> why.
    """
    if damaged:
        more = f", and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        warnings.warn(f"left out: {next(iter(damaged.values()))}{more}", stacklevel=3)


def _piece(facts: RunFacts, kind: Kind) -> Piece:
    if kind == "runs":
        return Piece(facts.record, {})
    curves, name = (facts.epochs, "epoch") if kind == "epochs" else (facts.steps, "step")
    length = len(next(iter(curves.values()), ()))
    return Piece(facts.identity, {name: np.arange(1, length + 1), **curves})
