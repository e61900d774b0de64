"""Carry a study out, piece by piece, so that it can be stopped and resumed."""

import fnmatch
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from noisylearn.engines import Engine, Here, Job, Watch
from noisylearn.engines.jobs import Report as JobReport
from noisylearn.experiments.build import check_device, machine
from noisylearn.experiments.config import chosen_device
from noisylearn.experiments.run_file import prepare_folder
from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.ground.identity import identity_of
from noisylearn.ground.tree_file import Tree
from noisylearn.papers.harness.results import PieceFile, Result, ResultFile
from noisylearn.papers.harness.study import Bench, Piece, Report, Scale, Study
from noisylearn.version import __version__

Progress = Callable[[str, float], None]  # what runs now, and the share of the whole that is done


def reproduce(
    study: Study,
    scale: Scale,
    seeds: int | None,
    out: Path,
    device: str = "auto",
    data_dir: str | None = None,
    on_progress: Progress = lambda label, share: None,
    engine: Engine | None = None,
) -> tuple[Result, Path]:
    """Measure every piece of a study that is not yet in `out`.

    A piece that an earlier result in `out` holds, found with the same settings, device and versions, is not measured
    again, so that a study can grow. After a kill the same call goes on: lost is at most the piece in flight, or of a
    training what came after its last checkpoint.

    Args:
        study: what to measure.
        scale: one of the study's sizes.
        seeds: how many; None for the study's own number.
        out: folder of the result file, of the pieces' files (parts/) and of the run files (runs/).
        device: "auto", "cpu" or "cuda".
        data_dir: folder of the data files; None for the usual one.
        on_progress: called with the name of the piece in work and the share of all work that is done.
        engine: carries out the pieces; None for one after the other in this process.

    Returns:
        The result and its file.

    Raises:
        UserError: for a wrong request, missing data, a damaged file in `out`, or pieces that could not be measured.
    """
    parts = _Parts.of(study, scale, seeds, out, device, data_dir)
    file = ResultFile(out / f"{study.name}-{scale}.h5")
    parts.keep(file)
    measured = parts.measure(parts.pieces, on_progress, engine or Here())
    facts = {
        "study": study.name,
        "scale": scale,
        "seeds": parts.seeds,
        "identity": identity_of([piece.settings for piece in parts.pieces]),
        "versions": json.dumps({"noisylearn": __version__, "torch": torch.__version__}),
        "machine": machine(parts.bench.device),
        "wall_s": sum(tree["wall_s"] for tree in measured.values()),
        "found": {name: tree["found"] for name, tree in measured.items()},
        "parts": {name: {key: tree[key] for key in ("identity", "wall_s")} for name, tree in measured.items()},
    }
    file.write(facts)
    return Result(study, scale, file.read()), file.path


def measure(
    study: Study,
    scale: Scale,
    seeds: int | None,
    out: Path,
    parts: Sequence[str],
    device: str = "auto",
    data_dir: str | None = None,
    on_progress: Progress = lambda label, share: None,
    engine: Engine | None = None,
) -> list[str]:
    """Measure some pieces of a study alone, so that several processes or machines can share it.

    Args:
        study: what to measure a part of.
        scale: as for `reproduce`.
        seeds: as for `reproduce`.
        out: as for `reproduce`.
        parts: names of pieces, or patterns such as "dnp*".
        device: as for `reproduce`.
        data_dir: as for `reproduce`.
        on_progress: as for `reproduce`.
        engine: as for `reproduce`.

    Returns:
        Names of the pieces that are still missing.

    Raises:
        UserError: as `reproduce`, and for a name or pattern that matches no piece.
    """
    whole = _Parts.of(study, scale, seeds, out, device, data_dir)
    names = [piece.name for piece in whole.pieces]
    for part in parts:
        if not fnmatch.filter(names, part):
            raise unknown_name("part", part, names)
    chosen = [piece for piece in whole.pieces if any(fnmatch.fnmatch(piece.name, part) for part in parts)]
    whole.measure(chosen, on_progress, engine or Here())
    return [piece.name for piece in whole.pieces if not whole.file(piece).exists()]


@dataclass(frozen=True)
class _Parts:
    """The pieces of a study at one scale, for so many seeds, each with a file in a folder."""

    study: Study
    scale: Scale
    seeds: int
    pieces: Sequence[Piece]
    bench: Bench
    out: Path

    @classmethod
    def of(
        cls, study: Study, scale: Scale, seeds: int | None, out: Path, device: str, data_dir: str | None
    ) -> "_Parts":
        size = study.size(scale)
        number = study.seeds[scale] if seeds is None else seeds
        if number < 1:
            raise UserError(f"--seeds {number}: give at least 1")
        pieces = study.pieces(size, range(number))
        device = chosen_device(device)
        check_device(device)
        parts = cls(study, scale, number, pieces, Bench(out / "runs", device, data_dir), out)
        for folder in (out, parts.bench.runs, parts.folder):
            prepare_folder(folder)
        return parts

    def __reduce__(self) -> tuple[Any, ...]:
        """For other processes, which make the pieces anew: their work is a function that cannot be sent."""
        data_dir = None if self.bench.data_dir is None else str(Path(self.bench.data_dir).resolve())
        return _Parts.of, (self.study, self.scale, self.seeds, self.out.resolve(), self.bench.device, data_dir)

    @property
    def folder(self) -> Path:
        return self.out / "parts"

    def file(self, piece: Piece) -> PieceFile:
        name = piece.name.replace("/", "-").replace(" ", "-")
        return PieceFile(self.folder / f"{self.study.name}-{name}-{self._identity(piece)}.h5")

    def _identity(self, piece: Piece) -> str:
        return identity_of([piece.settings, self.bench.device, __version__, torch.__version__])

    def keep(self, earlier: ResultFile) -> None:
        """Write what an earlier result found of these pieces to files of their own."""
        if not earlier.exists():
            return
        tree = earlier.read()
        for piece in self.pieces:
            file, part = self.file(piece), tree.get("parts", {}).get(piece.name)
            if part and part["identity"] == self._identity(piece) and not file.exists():
                file.write({**part, "found": tree["found"][piece.name]})

    def measure(self, pieces: Sequence[Piece], on_progress: Progress, engine: Engine) -> dict[str, Tree]:
        """What each of some pieces found, by its name."""
        jobs = [Job(piece.name, measure_piece, (self, piece.name)) for piece in pieces]
        outcomes = engine.run(jobs, _Shares({piece.name: piece.cost for piece in pieces}, on_progress))
        for piece, outcome in zip(pieces, outcomes, strict=True):
            if outcome.end == "refused":
                raise UserError(outcome.reason)
            if outcome.end != "done":
                raise UserError(f"part {piece.name} {outcome.end}: {outcome.reason}")
        return {piece.name: self.file(piece).read() for piece in pieces}

    def piece(self, name: str, report: Report) -> None:
        """Measure the piece of a name, unless its file is there."""
        piece = next(piece for piece in self.pieces if piece.name == name)
        identity, file = self._identity(piece), self.file(piece)
        with file.held():
            if file.exists():
                if file.read()["identity"] != identity:
                    raise UserError(f"{file.what} {file.path} holds another part; {file.mend}")
                return
            report(0.0)
            started = time.monotonic()
            found = piece.work(self.bench, report)
            wall_s = found.pop("wall_s", time.monotonic() - started)
            file.write({"identity": identity, "found": found, "wall_s": wall_s})


def measure_piece(parts: _Parts, name: str, report: JobReport) -> None:
    """Measure one piece of a study, as an engine carries it out.

    Args:
        parts: the pieces of the study.
        name: of the piece.
        report: told of the thousandths that are done.
    """
    parts.piece(name, lambda share: report(round(1000 * share), 1000, ""))


class _Shares(Watch):
    """Turns the progress of pieces into the share of the whole, each weighted by its cost."""

    def __init__(self, costs: Mapping[str, float], on_progress: Progress) -> None:
        self._costs, self._on_progress = costs, on_progress
        self._done = dict.fromkeys(costs, 0.0)

    def running(self, label: str, done: int, total: int, note: str) -> None:
        self._done[label] = done / total
        self._tell(label)

    def ended(self, label: str, reason: str) -> None:
        self._done[label] = 1.0
        self._tell(label)

    def _tell(self, label: str) -> None:
        whole = sum(self._costs[name] * done for name, done in self._done.items())
        self._on_progress(label, whole / sum(self._costs.values()))
