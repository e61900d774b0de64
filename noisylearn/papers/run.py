"""A study from its pieces to its result file, resumable piece by piece."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from noisylearn.build import check_device, machine
from noisylearn.config import chosen_device
from noisylearn.errors import UserError
from noisylearn.papers.study import Bench, Found, Judgement, Piece, Report, Scale, Study
from noisylearn.runs import Tree, TreeFile, prepare_folder
from noisylearn.version import __version__

Progress = Callable[[str, float], None]  # what runs now, and the share of the whole that is done


class PieceFile(TreeFile):
    """What one piece of a study found."""

    what, mend = "file of a part of a study", "remove it to measure that part anew"

    def missing(self, tree: Tree) -> set[str]:
        return {"identity", "found", "wall_s"} - set(tree)


class ResultFile(TreeFile):
    """What a study found at one scale."""

    what, mend = "result file", "remove it to make it anew"
    compresses = True

    def missing(self, tree: Tree) -> set[str]:
        return {"study", "scale", "seeds", "identity", "found", "wall_s", "machine"} - set(tree)


@dataclass(frozen=True)
class Result:
    """A study at one scale, as kept in its file: what its pieces found, and the circumstances."""

    study: Study
    scale: Scale
    facts: Tree

    @property
    def found(self) -> Found:
        return self.facts["found"]

    @cached_property
    def judgement(self) -> Judgement:
        return self.study.judge(self.study.sizes[self.scale], self.found)

    @property
    def is_current(self) -> bool:
        """Whether the study still asks for exactly what was run."""
        pieces = self.study.pieces(self.study.sizes[self.scale], range(int(self.facts["seeds"])))
        return self.facts["identity"] == _identity([piece.settings for piece in pieces])

    @property
    def command(self) -> str:
        return f"noisylearn reproduce {self.study.name} --scale {self.scale} --seeds {int(self.facts['seeds'])}"

    def plot(self, file: Path) -> None:
        self.study.plot(self.study.sizes[self.scale], self.found, file)


def reproduce(
    study: Study,
    scale: Scale,
    seeds: int | None,
    out: Path,
    device: str = "auto",
    data_dir: str | None = None,
    on_progress: Progress = lambda label, share: None,
) -> tuple[Result, Path]:
    """Measure every piece of a study that is not yet in `out`; the result and its file.

    A kill at any moment loses at most what `train` would lose, or the piece in flight where that is no training; the
    same call goes on. Raises UserError for a request that is wrong, and for data that are not there.
    """
    size = study.size(scale)
    number = study.seeds[scale] if seeds is None else seeds
    if number < 1:
        raise UserError(f"--seeds {number}: give at least 1")
    device = chosen_device(device)
    check_device(device)
    pieces = study.pieces(size, range(number))
    bench = Bench(out / "runs", device, data_dir)
    for folder in (out, bench.runs, out / "parts"):
        prepare_folder(folder)
    whole, done = sum(piece.cost for piece in pieces), 0.0
    found, wall_s = {}, 0.0
    for piece in pieces:

        def report(share: float, piece: Piece = piece, before: float = done) -> None:
            on_progress(piece.name, (before + piece.cost * share) / whole)

        tree = _measured(study, piece, bench, out / "parts", report)
        found[piece.name] = tree["found"]
        wall_s += tree["wall_s"]
        done += piece.cost
        report(1.0)
    facts = {
        "study": study.name,
        "scale": scale,
        "seeds": number,
        "identity": _identity([piece.settings for piece in pieces]),
        "versions": json.dumps({"noisylearn": __version__, "torch": torch.__version__}),
        "machine": machine(device),
        "wall_s": wall_s,
        "found": found,
    }
    file = ResultFile(out / f"{study.name}-{scale}.h5")
    file.write(facts)
    return Result(study, scale, file.read()), file.path


def _measured(study: Study, piece: Piece, bench: Bench, folder: Path, report: Report) -> Tree:
    """What a piece found, from its file where there is one."""
    identity = _identity([piece.settings, bench.device, __version__, torch.__version__])
    name = piece.name.replace("/", "-").replace(" ", "-")
    file = PieceFile(folder / f"{study.name}-{name}-{identity}.h5")
    if file.exists():
        tree = file.read()
        if tree["identity"] != identity:
            raise UserError(f"{file.what} {file.path} holds another part; {file.mend}")
        return tree
    file.remove_leftovers()
    report(0.0)
    started = time.monotonic()
    found = piece.work(bench, report)
    file.write({"identity": identity, "found": found, "wall_s": found.pop("wall_s", time.monotonic() - started)})
    return file.read()


def read_result(path: Path, studies: Sequence[Study]) -> Result:
    """A result from its file. Raises UserError for a damaged one, or one of an unknown study."""
    facts = ResultFile(path).read()
    study = next((study for study in studies if study.name == facts["study"]), None)
    if study is None or facts["scale"] not in study.sizes:
        raise UserError(
            f"result file {path}: of study {facts['study']}, scale {facts['scale']}, which there is none of"
        )
    return Result(study, facts["scale"], facts)


def _identity(settings: Any) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
