"""The processes that share a run, and what they send each other."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from noisylearn.ground.errors import UserError, shortened

Value = TypeVar("Value")


class LostRankError(UserError):
    """Another process of the run has ended, or does not answer."""


class RankError(UserError):
    """A mistake or a failure that one process alone tells the user."""


class ToldError(UserError):
    """What another process tells the user."""


class Ranks:
    """The processes that share a run. This class is one process alone, which sends nothing.

    Args:
        number: of this process, from 0.
        count: of all processes.
        local: number of this process among those of its machine, which is that of its GPU.
    """

    def __init__(self, number: int = 0, count: int = 1, local: int = 0) -> None:
        self.number, self.count, self.local = number, count, local
        self.calls = False  # whether this process asks all of them to stop after the step
        self.called = False  # whether any process asked, as of the last sum

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and speaks to the user."""
        return self.number == 0

    def sum(self, values: Sequence[Tensor], weight: float = 1.0) -> list[Tensor]:
        """Sums over all processes, by one all-reduce of one flat buffer; all of them get the same, bit for bit.

        With the values goes one number, from which all learn whether one of them has set `calls`.

        Args:
            values: tensors of one type and device.
            weight: factor on those of this process.

        Returns:
            The sums, in the shapes of the values.

        Raises:
            LostRankError: another process has ended, or does not answer.
        """
        flat = torch.cat([value.reshape(-1) for value in values] + [values[0].new_zeros(1)])
        if weight != 1:
            flat.mul_(weight)
        flat[-1] = float(self.calls)
        self._reduce(flat)
        self.called = bool(flat[-1] > 0)
        parts = flat[:-1].split([value.numel() for value in values])
        return [part.view(value.shape) for part, value in zip(parts, values, strict=True)]

    def gathered(self, value: Value) -> list[Value]:
        """What every process gives, in the order of their numbers.

        Args:
            value: what this process gives; it can be pickled.

        Raises:
            LostRankError: another process has ended, or does not answer.
        """
        return [value]

    def from_first(self, make: Callable[[], Value]) -> Value:
        """What the first process makes, on all of them; the others wait for it.

        Args:
            make: called on the first process alone; its result can be pickled.

        Raises:
            LostRankError: another process has ended, or does not answer.
        """
        return make()

    def check_device(self, name: str) -> None:
        """Check that the processes of a machine have a GPU each, where they use one.

        Args:
            name: of a device of torch.

        Raises:
            UserError: they have not.
        """
        if self.count == 1 or not name.startswith("cuda"):
            return
        if name != "cuda":
            raise UserError(f"device '{name}' for {self.count} processes: say cuda, and each takes one of its machine")
        if self.local >= torch.cuda.device_count():
            raise UserError(
                f"process {self.local + 1} of a machine with {torch.cuda.device_count()} CUDA devices has none: start "
                "as many processes as there are, or say --device cpu"
            )

    def _reduce(self, flat: Tensor) -> None:
        """Sum in place over all processes."""


class ProcessGroup(Ranks):
    """Processes joined by torch.distributed: gloo between CPUs, nccl between GPUs.

    Args:
        number: of this process, from 0.
        count: of all processes.
        local: number of this process among those of its machine.
    """

    def gathered(self, value: Value) -> list[Value]:
        found: list[Any] = [None] * self.count
        with _answered():
            dist.all_gather_object(found, value)
        return found

    def from_first(self, make: Callable[[], Value]) -> Value:
        held = [make()] if self.is_first else [None]
        with _answered():
            dist.broadcast_object_list(held, src=0)
        return held[0]  # type: ignore[return-value]

    def _reduce(self, flat: Tensor) -> None:
        with _answered():
            dist.all_reduce(flat)


@contextmanager
def _answered() -> Iterator[None]:
    """Raise torch's errors of a broken or silent connection as a LostRankError."""
    try:
        yield
    except RuntimeError as error:
        raise lost(str(error)) from None


def lost(reason: str) -> LostRankError:
    """The error for a process that is gone.

    Args:
        reason: what torch said of it.
    """
    said = next(iter(reason.splitlines()), "").split("] ", 1)[-1].split(". ")[0]  # without the line of a source file
    return LostRankError(
        f"another process of this run has ended or does not answer ({shortened(said, 160)}); the run file holds the "
        "last checkpoint: start all processes again with --resume"
    )
