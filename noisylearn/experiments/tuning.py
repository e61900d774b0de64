"""The settings that are tried before a comparison, the same number for every rule, and how the best is chosen."""

import itertools
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, Self, get_args

import numpy as np
from pydantic import Field, model_validator

from noisylearn.ground.errors import UserError, not_installed, unknown_name
from noisylearn.ground.records import Record

Settings = dict[str, Any]
Proposals = Generator[list[Settings], list[float], None]
Method = Literal["grid", "random", "optuna"]
MOST_TRIALS = 10_000
ASKED_AT_ONCE = 4  # of Optuna, whatever the number of workers, so that it proposes the same for any


class Range(Record):
    """Values between two bounds, whole numbers where both bounds are.

    Args:
        low: smallest value.
        high: largest value.
        log: whether their logarithm is spread evenly.
    """

    low: int | float = Field(allow_inf_nan=False)
    high: int | float = Field(allow_inf_nan=False)
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low is below high, and with log above 0")
        return self

    @property
    def of_integers(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, share: float) -> int | float:
        """The value at a share of the way from low to high.

        Args:
            share: 0 <= share < 1.
        """
        low, high = (float(self.low), float(self.high) + self.of_integers)
        value = math.exp(math.log(low) + share * math.log(high / low)) if self.log else low + share * (high - low)
        return min(math.floor(value), int(self.high)) if self.of_integers else value


@dataclass(frozen=True)
class Tuning:
    """Trials of settings on the validation part, before a comparison.

    Args:
        over: setting -> values to try, or a range of them.
        epochs: length of a trial; None for that of a run.
        method: "grid", every combination; "random", values drawn independently; "optuna", proposed from the scores so
            far by Optuna's tree-structured Parzen estimator.
        trials: how many; None for all combinations of a grid.
        seed: of the values drawn.

    Raises:
        UserError: a value is not allowed.
    """

    over: Mapping[str, Sequence[Any] | Range]
    epochs: int | None = None
    method: Method = "grid"
    trials: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise unknown_name("method", self.method, get_args(Method))
        if self.epochs is not None and self.epochs < 1:
            raise UserError(f"epochs of a trial: {self.epochs}; give at least 1")
        if not self.over:
            raise UserError("a search needs settings to try")
        for name, values in self.over.items():
            _check_values(name, values, self.method)
        if (self.method == "grid") != (self.trials is None):
            raise UserError("trials: a grid tries every combination; random and optuna need their number")
        if not 1 <= self.number <= MOST_TRIALS:
            raise UserError(f"{self.number} trials for every rule: give 1 to {MOST_TRIALS}")
        if self.method == "optuna" and find_spec("optuna") is None:
            raise not_installed("method optuna needs", "optuna", "optuna")

    @property
    def number(self) -> int:
        """Trials of every rule on every profile."""
        if self.trials is not None:
            return self.trials
        return math.prod(len(values) for values in self.over.values() if not isinstance(values, Range))

    def proposals(self) -> Proposals:
        """The trials, in lists of those that can run side by side; their scores are sent back, lower is better."""
        return {"grid": self._grid, "random": self._random, "optuna": self._optuna}[self.method]()

    def _grid(self) -> Proposals:
        values = [list(of) for of in self.over.values() if not isinstance(of, Range)]
        yield [dict(zip(self.over, chosen, strict=True)) for chosen in itertools.product(*values)]

    def _random(self) -> Proposals:
        shares = np.random.default_rng(self.seed).random((self.number, len(self.over)))
        yield [
            {name: _at(values, float(share)) for (name, values), share in zip(self.over.items(), row, strict=True)}
            for row in shares
        ]

    def _optuna(self) -> Proposals:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=self.seed))
        spaces = {name: _distribution(values) for name, values in self.over.items()}
        for start in range(0, self.number, ASKED_AT_ONCE):
            asked = [study.ask(spaces) for _ in range(min(ASKED_AT_ONCE, self.number - start))]
            scores = yield [{name: _value(self.over[name], t.params[name]) for name in self.over} for t in asked]
            for trial, score in zip(asked, scores, strict=True):
                failed = not math.isfinite(score)
                study.tell(trial, **{"state": optuna.trial.TrialState.FAIL} if failed else {"values": score})


def best_of(trials: Sequence[Settings]) -> Settings:
    """The settings of the best trial; where every one ran away, those of the smallest learning rate.

    Args:
        trials: settings, and "score", which is not finite for a trial that ran away.
    """
    done = [trial for trial in trials if math.isfinite(trial["score"])]
    key = "score" if done else "lr"
    best = min(done or trials, key=lambda trial: trial.get(key, 0.0))
    return {name: value for name, value in best.items() if name != "score"}


def _check_values(name: str, values: Sequence[Any] | Range, method: Method) -> None:
    if isinstance(values, Range):
        if method == "grid":
            raise UserError(f"{name}: a grid needs a list of values; a range goes with method random or optuna")
    elif not values or any(value in values[:i] for i, value in enumerate(values)):
        raise UserError(f"{name}: {list(values)}; give values to try, each once")


def _at(values: Sequence[Any] | Range, share: float) -> Any:
    """The value at a share of the way through a range or a list."""
    return values.at(share) if isinstance(values, Range) else values[int(share * len(values))]


def _distribution(values: Sequence[Any] | Range) -> Any:
    """What Optuna calls the space of one setting; of a list it is given the places."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(values, Range):
        return CategoricalDistribution(range(len(values)))
    if values.of_integers:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _value(values: Sequence[Any] | Range, proposed: Any) -> Any:
    """The value that Optuna proposes."""
    return proposed if isinstance(values, Range) else values[proposed]
