"""A study from its pieces to its result file, resumable piece by piece."""

import fnmatch
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from noisylearn.experiments.build import check_device, machine
from noisylearn.experiments.config import chosen_device
from noisylearn.experiments.run_file import Tree, prepare_folder
from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.papers.harness.results import PieceFile, Result, ResultFile, identity_of
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
) -> tuple[Result, Path]:
    """Measure every piece of a study that is not yet in `out`; the result and its file.

    What an earlier result of the study there found with the same settings, device and versions is not measured again,
    so that a study can grow. A kill at any moment loses at most what `train` would lose, or the piece in flight where
    that is no training; the same call goes on. Raises UserError for a request that is wrong, and for data that are not
    there.
    """
    pieces, number = _pieces(study, scale, seeds)
    bench = _bench(out, device, data_dir)
    file = ResultFile(out / f"{study.name}-{scale}.h5")
    _keep_parts(study, pieces, bench, file, out / "parts")
    measured = _all_measured(study, pieces, bench, out / "parts", on_progress)
    facts = {
        "study": study.name,
        "scale": scale,
        "seeds": number,
        "identity": identity_of([piece.settings for piece in pieces]),
        "versions": json.dumps({"noisylearn": __version__, "torch": torch.__version__}),
        "machine": machine(bench.device),
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
) -> list[str]:
    """Measure some pieces of a study alone, so that several processes or machines can share it; those still missing.

    parts: names of pieces, or patterns such as "dnp*". Raises UserError as `reproduce` does, and for a name of none.
    """
    pieces, _ = _pieces(study, scale, seeds)
    names = [piece.name for piece in pieces]
    for part in parts:
        if not fnmatch.filter(names, part):
            raise unknown_name("part", part, names)
    bench = _bench(out, device, data_dir)
    chosen = [piece for piece in pieces if any(fnmatch.fnmatch(piece.name, part) for part in parts)]
    _all_measured(study, chosen, bench, out / "parts", on_progress)
    return [piece.name for piece in pieces if not _file(study, piece, bench, out / "parts").exists()]


def _keep_parts(study: Study, pieces: Sequence[Piece], bench: Bench, earlier: ResultFile, folder: Path) -> None:
    """Write what an earlier result found of these pieces to files of their own."""
    if not earlier.exists():
        return
    tree = earlier.read()
    for piece in pieces:
        file, part = _file(study, piece, bench, folder), tree.get("parts", {}).get(piece.name)
        if part and part["identity"] == _identity_on(piece, bench) and not file.exists():
            file.write({**part, "found": tree["found"][piece.name]})


def _pieces(study: Study, scale: Scale, seeds: int | None) -> tuple[list[Piece], int]:
    """The pieces of a study at a scale, and for how many seeds they are."""
    size = study.size(scale)
    number = study.seeds[scale] if seeds is None else seeds
    if number < 1:
        raise UserError(f"--seeds {number}: give at least 1")
    return study.pieces(size, range(number)), number


def _bench(out: Path, device: str, data_dir: str | None) -> Bench:
    device = chosen_device(device)
    check_device(device)
    bench = Bench(out / "runs", device, data_dir)
    for folder in (out, bench.runs, out / "parts"):
        prepare_folder(folder)
    return bench


def _all_measured(
    study: Study, pieces: Sequence[Piece], bench: Bench, folder: Path, on_progress: Progress
) -> dict[str, Tree]:
    whole, done = sum(piece.cost for piece in pieces), 0.0
    measured = {}
    for piece in pieces:

        def report(share: float, piece: Piece = piece, before: float = done) -> None:
            on_progress(piece.name, (before + piece.cost * share) / whole)

        measured[piece.name] = _measured(study, piece, bench, folder, report)
        done += piece.cost
        report(1.0)
    return measured


def _file(study: Study, piece: Piece, bench: Bench, folder: Path) -> PieceFile:
    name = piece.name.replace("/", "-").replace(" ", "-")
    return PieceFile(folder / f"{study.name}-{name}-{_identity_on(piece, bench)}.h5")


def _identity_on(piece: Piece, bench: Bench) -> str:
    return identity_of([piece.settings, bench.device, __version__, torch.__version__])


def _measured(study: Study, piece: Piece, bench: Bench, folder: Path, report: Report) -> Tree:
    """What a piece found, from its file where there is one."""
    identity, file = _identity_on(piece, bench), _file(study, piece, bench, folder)
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
