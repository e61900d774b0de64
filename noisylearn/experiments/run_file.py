"""One HDF5 file per run. It is replaced as a whole, so that a kill at any moment leaves the last complete one."""

import datetime
import json
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal, Self, final

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, model_validator

from noisylearn.experiments.run_facts import AT_ONCE, HELD_OUT, RunFacts
from noisylearn.ground.errors import UserError
from noisylearn.ground.stored import Arrays, Name, Seconds, Series, Stored, Text, must
from noisylearn.ground.table import Shown, Table
from noisylearn.ground.tree_file import Tree, TreeFile

OF_THE_OCCASION = ("wall_s", "machine", "started", "ended")  # what may differ where the same run is computed twice
Digits = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Count = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def now() -> str:
    """Date and time in UTC to the second, as run files have it: "2026-01-31T23:59:59+00:00"."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _is_date(text: str) -> bool:
    """Whether a text is a date and time of a stated zone."""
    try:
        return datetime.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _is_table(text: str) -> bool:
    """Whether a text is a JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _names_versions(text: str) -> bool:
    """Whether a text is JSON that names the versions of this package and of torch."""
    try:
        versions = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(versions, dict) and all(isinstance(versions.get(key), str) for key in ("noisylearn", "torch"))


Date = Annotated[str, Field(max_length=40), must(_is_date, "no date with time and zone")]


class _Steps(Stored):
    loss: Series


class Metrics(Stored):
    """What a run has measured, after every step and after every epoch."""

    step: _Steps
    epoch: dict[Name, Series]


class Final(Stored):
    """Scores at the end of a run, and what it took."""

    __pydantic_extra__: dict[str, float]
    model_config = ConfigDict(extra="allow")

    forward_passes_over_data: Count
    backward_passes_over_data: Count
    weight_updates: Count


class Weights(Stored):
    """Weights at the end of a run: those of the model by their torch names, and those read on the devices."""

    digital: Annotated[Arrays, must(lambda tree: not any(isinstance(v, dict) for v in tree.values()), "has groups")]
    on_chip: Arrays


class _Run(Stored):
    """What every run file holds."""

    id: Digits
    config: Annotated[Text, must(_is_table, "no JSON table of settings")]
    profile: Text
    versions: Annotated[Text, must(_names_versions, "no JSON that names the versions of noisylearn and torch")]
    machine: Text
    citations: Text
    started: Date | None = None  # files of the first versions have no dates
    ended: Date | None = None
    step: Annotated[int, Field(ge=0)]
    wall_s: Seconds
    metrics: Metrics

    @model_validator(mode="after")
    def _has_every_loss(self) -> Self:
        if len(self.metrics.step.loss) != self.step:
            raise ValueError(f"{len(self.metrics.step.loss)} losses of {self.step} steps")
        return self


class _FinishedFacts(_Run):
    """A run that is done, apart from its weights."""

    status: Literal["finished"]
    step: Annotated[int, Field(ge=1)]
    final: Final
    baselines: dict[Name, float]
    selection: float
    stopped_early: Text | None = None

    @model_validator(mode="after")
    def _has_the_curve_of_every_score(self) -> Self:
        scores = [key.removesuffix(AT_ONCE) for key in self.final.__pydantic_extra__ if key.endswith(AT_ONCE)]
        curves = [self.metrics.epoch.get(f"{HELD_OUT}{score}", np.zeros(0)) for score in scores]
        if not curves or len({len(curve) for curve in curves} | {0}) != 2:
            raise ValueError("no score, or one without its value after every epoch")
        return self


class _UnfinishedFacts(_Run):
    """A run that goes on, apart from its checkpoint."""

    status: Literal["running"]


class _StoppedFacts(_Run):
    """A run that diverged, apart from its checkpoint."""

    status: Literal["stopped"]
    reason: Text


class Finished(_FinishedFacts):
    """A run that is done."""

    weights: Weights


class Unfinished(_UnfinishedFacts):
    """A run that goes on from its last checkpoint."""

    checkpoint: Arrays


class Stopped(_StoppedFacts):
    """A run that diverged."""

    checkpoint: Arrays


HEAVY = ("weights", "checkpoint")  # groups of a run file that take most of its bytes
_BY_STATUS = Field(discriminator="status")
_CONTENT: TypeAdapter[Any] = TypeAdapter(Annotated[Finished | Unfinished | Stopped, _BY_STATUS])
_FACTS: TypeAdapter[Any] = TypeAdapter(Annotated[_FinishedFacts | _UnfinishedFacts | _StoppedFacts, _BY_STATUS])


@final
class RunFile(Shown, TreeFile[Tree]):
    """The file of one run: attributes, and groups such as `metrics`, `weights`, `final` and `checkpoint`."""

    what, mend = "run file", "remove it to start this run anew"

    def checked(self, tree: Tree) -> Tree:
        """The tree, once names, types, shapes and bounds of all of it were checked."""
        _CONTENT.validate_python(tree)
        return tree

    def __repr__(self) -> str:
        return f"RunFile({str(self.path)!r})"

    def tables(self) -> list[Table]:
        """What the run is, its scores and settings; what is wrong with a file that cannot be read."""
        try:
            return RunFacts(self.path, self.facts()).tables()
        except UserError as error:
            return [Table(repr(self), [""], [[str(error)]])]

    def facts(self) -> Tree:
        """What the file holds apart from weights and checkpoint, in a fraction of the time.

        What is read is checked like all of a file, but for the checksum, which is over all of it.

        Raises:
            UserError: the file is damaged, or of another kind or format.
        """
        tree = self._tree(HEAVY)
        self._valid(tree, _FACTS.validate_python)
        return tree


def prepare_folder(out: Path) -> None:
    """Make the output folder and check that it can be written to.

    Args:
        out: the folder.

    Raises:
        UserError: it cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"output folder {out}: cannot be written: {error.strerror}; choose another --out") from None
