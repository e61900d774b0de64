"""What the reproduction of a published figure or table consists of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisylearn.experiments.run_file import Tree
from noisylearn.ground.errors import UserError

Scale = str  # smoke, small, large or paper
Report = Callable[[float], None]  # told which share, 0 to 1, of a piece is done
Found = Mapping[str, Tree]  # by the name of the piece


@dataclass(frozen=True)
class Bench:
    """Where a piece runs: folder of its run files, device of torch, folder of data files."""

    runs: Path
    device: str = "cpu"
    data_dir: str | None = None


@dataclass(frozen=True)
class Piece:
    """One part of a study that is done or not: what it found is kept in a file of its own.

    settings: everything that affects what `work` finds, as JSON takes it.  cost: relative to the study's other pieces,
    for the time left.
    """

    name: str
    settings: Mapping[str, Any]
    work: Callable[[Bench, Report], Tree]
    cost: float = 1.0


def part_of(report: Report, before: float, part: float) -> Report:
    """What tells `report` the share of the whole, from inside a part of it.

    Args:
        report: told the share of the whole.
        before: share of the whole that was done before this part.
        part: share of the whole that this part is.
    """
    return lambda share: report(before + part * share)


@dataclass(frozen=True)
class Figure:
    """A number of ours, with its standard deviation over the seeds, beside the published one where there is one."""

    quantity: str
    ours: float
    published: float | None = None
    sd: float | None = None


@dataclass(frozen=True)
class Criterion:
    """A statement, what was measured of it, and whether it holds."""

    statement: str
    measured: str
    holds: bool


@dataclass(frozen=True)
class Judgement:
    """Figures beside the published ones, and what became of the criteria.

    is_published: whether these are claims of a paper; ours hold or do not, there is nothing to reproduce.
    """

    figures: Sequence[Figure]
    criteria: Sequence[Criterion]
    is_published: bool = True

    @property
    def verdict(self) -> str:
        """ "reproduced", "reproduced in part (3 of 4)", "not reproduced"; of claims of ours "3 of 4 hold"."""
        held = sum(criterion.holds for criterion in self.criteria)
        if not self.is_published:
            return f"{held} of {len(self.criteria)} hold"
        if held == len(self.criteria):
            return "reproduced"
        return f"reproduced in part ({held} of {len(self.criteria)})" if held else "not reproduced"


@dataclass(frozen=True)
class Paper:
    """A paper, and what its authors' public code does otherwise than the paper says, or than we do."""

    citation: str
    public_code: Sequence[str] = ()


@dataclass(frozen=True)
class Study:
    """A published figure or table, and how it is measured, judged and drawn here.

    Args:
        name: on the command line, for example "anp-fig5".
        paper: key of `noisylearn.papers.PAPERS`.
        source: the figures, tables or equations.
        title: a few words.
        published: what the paper found; empty for what is in none.
        setting: what every scale runs, and in what that differs from the paper.
        sizes: what `pieces`, `judge` and `plot` are given at every scale; few studies have "large".
        seeds: how many at every scale where the user does not say.
        pieces: (size, seeds) -> what has to be found out; the same for the same arguments, in the same order.
        judge: (size, found) -> figures and criteria. The criteria must not depend on what was found.
        revised: what of the study was changed, or judged for the first time, after a run had been seen, and why.
        plot: (size, found, file): a picture like the paper's.
        remarks: what is known of why something does not reproduce, and what else was seen.
    """

    name: str
    paper: str
    source: str
    title: str
    published: str
    setting: Mapping[Scale, str]
    sizes: Mapping[Scale, Any]
    seeds: Mapping[Scale, int]
    pieces: Callable[[Any, Sequence[int]], list[Piece]]
    judge: Callable[[Any, Found], Judgement]
    plot: Callable[[Any, Found, Path], None]
    remarks: str = ""
    revised: str = ""

    def size(self, scale: Scale) -> Any:
        """Raises UserError for a scale that the study does not have."""
        if scale not in self.sizes:
            raise UserError(f"--scale {scale}: {self.name} has {', '.join(self.sizes)}")
        return self.sizes[scale]
