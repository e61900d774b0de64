"""What a callback is, and what it sees of a run."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

from noisylearn.ground.errors import UserError, not_installed

End = Literal["finished", "stopped", "interrupted", "failed"]


class Run(Protocol):
    """A run, as callbacks see it; what it holds is theirs to read, and to stop the run."""

    @property
    def id(self) -> str:
        """Hash of everything that affects the result."""
        ...

    @property
    def name(self) -> str:
        """What is trained by what, where, with which seed."""
        ...

    @property
    def file(self) -> Path | None:
        """The run file; None where none is kept."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the run, as plain values."""
        ...

    @property
    def step(self) -> int:
        """Steps done."""
        ...

    @property
    def total_steps(self) -> int:
        """Steps in all, unless a callback stops the run."""
        ...

    @property
    def epoch(self) -> int:
        """Epochs done."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        ...

    @property
    def losses(self) -> Sequence[float]:
        """Loss of the reference pass of every step done."""
        ...

    @property
    def history(self) -> Mapping[str, Sequence[float]]:
        """Measurement, such as "held_out_accuracy" -> its value after every epoch done."""
        ...

    @property
    def metric(self) -> str:
        """The held-out metric, as `history` names it."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher metric is better."""
        ...

    @property
    def model(self) -> Any:
        """The network, with its digital weights."""
        ...

    @property
    def chip(self) -> Any:
        """The chip that it is on."""
        ...

    def stop(self, reason: str) -> None:
        """End the run with the present epoch, as finished.

        Args:
            reason: in words, for the run file.
        """
        ...


class Callback:
    """Called at the start of a run, after every step and every epoch, and at its end. This one does nothing.

    A run that is resumed starts its callbacks anew: what one decides must follow from the `Run` alone, which has the
    whole history, so that the resumed run is the same. An error in a callback ends the run; its state is saved.
    """

    def start(self, run: Run) -> None:
        """The run begins, or goes on.

        Args:
            run: the run.
        """

    def step(self, run: Run) -> None:
        """A step is done.

        Args:
            run: the run.
        """

    def epoch(self, run: Run) -> None:
        """An epoch is done and measured; called after `step`.

        Args:
            run: the run.
        """

    def end(self, run: Run, how: End) -> None:
        """The run ends.

        Args:
            run: the run.
            how: "finished"; "stopped", where it ran away; "interrupted", by Ctrl-C or SIGTERM; "failed", by an error.
        """

    def settings(self) -> dict[str, Any]:
        """What of it affects the result of the run, as plain values; it enters the identity of the run."""
        return {}


def measured(run: Run, epoch: int) -> dict[str, float]:
    """What was measured after an epoch; a measurement that began later is not in it.

    Args:
        run: the run.
        epoch: number of the epoch, from 0.
    """
    late = {name: run.epoch - len(values) for name, values in run.history.items()}
    return {name: values[epoch - late[name]] for name, values in run.history.items() if epoch >= late[name]}


def check_installed(module: str, what: str, extra: str) -> None:
    """Check that a package is there.

    Args:
        module: that is imported.
        what: needs it, in words.
        extra: of this package that installs it.

    Raises:
        UserError: it is not.
    """
    if find_spec(module) is None:
        raise not_installed(f"{what} needs", module, extra)


def beside(run: Run, given: Path | None, suffix: str, what: str) -> Path:
    """Where a log is written: as it was told, or beside the run file, with the same name.

    Args:
        run: the run.
        given: place that was told; None for beside the run file.
        suffix: of the name beside the run file.
        what: the log in words, for the message.

    Raises:
        UserError: no place was told, and no run file is kept.
    """
    if given is not None:
        return given
    if run.file is None:
        raise UserError(f"{what}: no run file is kept that it could be written beside: give it a path")
    return run.file.with_suffix(suffix)
