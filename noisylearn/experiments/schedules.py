"""How the settings of an optimizer change over a run: schedulers of torch, stepped after every step or every epoch."""

import ast
import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from noisylearn.ground.errors import UserError, shortened, unknown_name

SchedulerOf = Callable[[Optimizer], LRScheduler]
EXPECTED = (
    'give "constant", "cosine", a text such as "StepLR,step_size=10", or a function such as '
    "lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, step_size=10)"
)


@dataclass(frozen=True)
class Schedule:
    """A scheduler of torch, and when it takes its steps.

    Args:
        of: (optimizer, steps in all) -> scheduler.
        every_step: whether it steps after every step of the training; otherwise after every epoch.
    """

    of: Callable[[Optimizer, int], LRScheduler]
    every_step: bool = True

    @classmethod
    def from_text(cls, text: str) -> "Schedule":
        """Read a schedule as the command line states it.

        Args:
            text: "constant"; "cosine", which ends at zero; or a class of torch.optim.lr_scheduler with its arguments,
                stepped after every epoch: "StepLR,step_size=10,gamma=0.5".

        Raises:
            UserError: there is no such class, or an argument does not fit it.
        """
        if text in SHARES:
            share = SHARES[text]
            return cls(lambda optimizer, total: LambdaLR(optimizer, partial(share, total)))
        return cls.every_epoch(_named(text))

    @classmethod
    def every_epoch(cls, of: SchedulerOf) -> "Schedule":
        """A scheduler that steps after every epoch.

        Args:
            of: optimizer -> scheduler.

        Raises:
            UserError: it cannot be called with an optimizer alone.
        """
        if not callable(of):
            raise UserError(f"schedule of type {type(of).__name__}: {EXPECTED}")
        try:
            inspect.signature(of).bind(None)
        except TypeError as error:
            raise UserError(f"schedule {getattr(of, '__name__', type(of).__name__)}: {error}; {EXPECTED}") from None
        return cls(lambda optimizer, total: of(optimizer), every_step=False)


class Scheduled:
    """A scheduler at work on an optimizer. Where it stands follows from the steps and the scores that were recorded.

    Args:
        schedule: what it is.
        optimizer: whose settings it changes.
        total: steps in all.

    Raises:
        UserError: the schedule makes no scheduler of this optimizer.
    """

    def __init__(self, schedule: Schedule, optimizer: Optimizer, total: int) -> None:
        self.optimizer, self.every_step = optimizer, schedule.every_step
        self.first = _rate(optimizer)
        self.scheduler = schedule.of(optimizer, total)
        if not isinstance(self.scheduler, LRScheduler):
            raise UserError(f"schedule: the function gives {type(self.scheduler).__name__}; {EXPECTED}")
        if self.scheduler.optimizer is not optimizer:
            raise UserError(f"schedule: the scheduler is of another optimizer than the one given; {EXPECTED}")

    @property
    def share(self) -> float:
        """The learning rate as a share of the first one."""
        return _rate(self.optimizer) / self.first if self.first else 1.0

    def after_step(self) -> None:
        """A step is done."""
        if self.every_step:
            self.scheduler.step()

    def after_epoch(self, criterion: float) -> None:
        """An epoch is done.

        Args:
            criterion: of the held-out part, lower is better; for schedulers that wait for a plateau.
        """
        if self.every_step:
            return
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(criterion)
        else:
            self.scheduler.step()

    def replay(self, steps: int, criteria: list[float]) -> None:
        """Go through the steps and epochs of a run again, from its start.

        Args:
            steps: that were done.
            criteria: of every epoch that was done.
        """
        with _unordered():
            for _ in range(steps):
                self.after_step()
            for criterion in criteria:
                self.after_epoch(criterion)


def _constant(total: int, step: int) -> float:
    return 1.0


def _cosine(total: int, step: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / total))


SHARES = {"constant": _constant, "cosine": _cosine}  # (steps in all, step) -> share of the first learning rate


def _named(text: str) -> SchedulerOf:
    """A class of torch.optim.lr_scheduler with its arguments."""
    name, *stated = text.split(",")
    known = {key: kind for key, kind in vars(lr_scheduler).items() if _is_scheduler(kind)}
    if name not in known:
        raise unknown_name("schedule", name, [*SHARES, *known])
    arguments = dict(_argument(text, one) for one in stated)
    try:
        inspect.signature(known[name]).bind(None, **arguments)
    except TypeError as error:
        raise UserError(f"schedule '{text}': {error}; arguments follow as in StepLR,step_size=10") from None
    return partial(_built, known[name], text, arguments)


def _built(kind: Callable[..., LRScheduler], text: str, arguments: dict[str, Any], optimizer: Optimizer) -> LRScheduler:
    try:
        return kind(optimizer, **arguments)
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"schedule '{text}': {shortened(str(error))}") from None


def _argument(text: str, stated: str) -> tuple[str, Any]:
    """Name and value of an argument: "gamma=0.5"."""
    name, _, value = stated.partition("=")
    try:
        return name.strip(), ast.literal_eval(value.strip().capitalize() if value in ("true", "false") else value)
    except (ValueError, SyntaxError):
        if value.isidentifier():
            return name.strip(), value
        raise UserError(f"schedule '{text}': {stated}: give name=value, as in StepLR,step_size=10") from None


def _is_scheduler(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, LRScheduler) and kind is not LRScheduler


def _rate(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


@contextmanager
def _unordered() -> Iterator[None]:
    """Keep torch from warning that a scheduler steps before its optimizer: it goes through a run again."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*lr_scheduler\.step\(\)")
        yield
