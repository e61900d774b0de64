"""The records that a study consists of: pieces to measure, figures and criteria to judge them by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisylearn.ground.errors import UserError
from noisylearn.ground.tree_file import Tree

Scale = str  # smoke, small, large or paper
Report = Callable[[float], None]  # told which share, 0 to 1, of a piece is done
Found = Mapping[str, Tree]  # by the name of the piece


@dataclass(frozen=True)
class Bench:
    """Where a piece runs.

    Args:
        runs: folder of its run files.
        device: of torch.
        data_dir: folder of the data files; None for the usual one.
    """

    runs: Path
    device: str = "cpu"
    data_dir: str | None = None


@dataclass(frozen=True)
class Piece:
    """One part of a study, measured as a whole; what it found is kept in a file of its own.

    Args:
        name: unlike that of any other piece of the study.
        settings: everything that affects what `work` finds, as JSON takes it.
        work: measures it, and reports the share that is done.
        cost: time that it takes, relative to the study's other pieces.
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
    """A measured number beside the published one.

    Args:
        quantity: what it is, with its unit.
        ours: mean over the seeds.
        published: the paper's number, where it has one.
        sd: standard deviation over the seeds, where there are several.
    """

    quantity: str
    ours: float
    published: float | None = None
    sd: float | None = None


@dataclass(frozen=True)
class Criterion:
    """A statement, the numbers that decide it, and whether it holds; `criteria` makes the usual forms."""

    statement: str
    measured: str
    holds: bool


@dataclass(frozen=True)
class Judgement:
    """What a study concludes from what was found.

    Args:
        figures: numbers for the table.
        criteria: what the verdict counts.
        is_published: whether the criteria are claims of a paper; of claims of ours there is nothing to reproduce.
    """

    figures: Sequence[Figure]
    criteria: Sequence[Criterion]
    is_published: bool = True

    @property
    def verdict(self) -> str:
        """One of "reproduced", "reproduced in part (3 of 4)", "not reproduced"; of claims of ours "3 of 4 hold"."""
        held = sum(criterion.holds for criterion in self.criteria)
        if not self.is_published:
            return f"{held} of {len(self.criteria)} hold"
        if held == len(self.criteria):
            return "reproduced"
        return f"reproduced in part ({held} of {len(self.criteria)})" if held else "not reproduced"


@dataclass(frozen=True)
class Paper:
    """A paper that studies reproduce.

    Args:
        citation: authors and title.
        public_code: what its authors' code does otherwise than the paper says, or than we do.
    """

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
        pieces: (size, seeds) -> what is to be measured; the same for the same arguments, in the same order.
        judge: (size, found) -> figures and criteria. The statements must not depend on what was found.
        plot: (size, found, file) draws a picture like the paper's.
        remarks: why something does not reproduce, where that is known, and what else was seen.
        revised: what was changed or added after a run had been seen, and why.
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
        """The size at a scale.

        Raises:
            UserError: for a scale that the study does not have.
        """
        if scale not in self.sizes:
            raise UserError(f"--scale {scale}: {self.name} has {', '.join(self.sizes)}")
        return self.sizes[scale]
