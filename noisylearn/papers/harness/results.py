"""Files of what a study found: one for every piece, one for the whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, final

from pydantic import Field

from noisylearn.ground.errors import UserError
from noisylearn.ground.identity import identity_of
from noisylearn.ground.stored import Name, Seconds, Stored, Text
from noisylearn.ground.tree_file import Tree, TreeFile
from noisylearn.papers.harness.study import Found, Judgement, Scale, Study


class _Piece(Stored):
    identity: Name
    found: dict[str, Any]
    wall_s: Seconds


class _Result(_Piece):
    study: Name
    scale: Name
    seeds: Annotated[int, Field(ge=1)]
    machine: Text


@final
class PieceFile(TreeFile[Tree]):
    """File of what one piece of a study found."""

    what, mend = "file of a part of a study", "remove it to measure that part anew"

    def checked(self, tree: Tree) -> Tree:
        _Piece.model_validate(tree)
        return tree


@final
class ResultFile(TreeFile[Tree]):
    """File of what a study found at one scale."""

    what, mend = "result file", "remove it to make it anew"
    compresses = True

    def checked(self, tree: Tree) -> Tree:
        _Result.model_validate(tree)
        return tree


@dataclass(frozen=True)
class Result:
    """A study at one scale, from its file.

    Args:
        study: what was measured.
        scale: one of its sizes.
        facts: what its pieces found, and when and how they were measured.
    """

    study: Study
    scale: Scale
    facts: Tree

    @property
    def found(self) -> Found:
        """What every piece found, by the piece's name."""
        return self.facts["found"]

    @cached_property
    def judgement(self) -> Judgement:
        """The study's judgement of what was found."""
        return self.study.judge(self.study.sizes[self.scale], self.found)

    @property
    def is_current(self) -> bool:
        """Whether the study still asks for exactly what was run."""
        pieces = self.study.pieces(self.study.sizes[self.scale], range(int(self.facts["seeds"])))
        return self.facts["identity"] == identity_of([piece.settings for piece in pieces])

    @property
    def command(self) -> str:
        """The command that measures it again."""
        return f"noisylearn reproduce {self.study.name} --scale {self.scale} --seeds {int(self.facts['seeds'])}"

    def plot(self, file: Path) -> None:
        """Draw the study's picture of it to a file."""
        self.study.plot(self.study.sizes[self.scale], self.found, file)


def read_result(path: Path, studies: Sequence[Study]) -> Result:
    """Read a result from its file.

    Raises:
        UserError: for a damaged file, or one of a study or scale that is not among `studies`.
    """
    facts = ResultFile(path).read()
    study = next((study for study in studies if study.name == facts["study"]), None)
    if study is None or facts["scale"] not in study.sizes:
        raise UserError(
            f"result file {path}: of study {facts['study']}, scale {facts['scale']}, which there is none of"
        )
    return Result(study, facts["scale"], facts)
