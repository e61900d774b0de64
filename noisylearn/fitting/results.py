"""What a fit finds: numbers with intervals, how well they hold, and what is drawn of them."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import betaincinv, ndtri

Array = np.ndarray


class Parameter(NamedTuple):
    """A fitted number with its uncertainty.

    Args:
        key: as the profile names it, or what was estimated at one level of the conductance.
        value: best estimate.
        error: standard error; not a number where the interval was found in another way.
        low: lower end of the 95 % interval.
        high: upper end of it.
    """

    key: str
    value: float
    error: float
    low: float
    high: float

    @classmethod
    def normal(cls, key: str, value: float, error: float) -> "Parameter":
        """A number whose estimate is normally distributed."""
        return cls(key, value, error, *normal_interval(value, error))

    @classmethod
    def share(cls, key: str, hits: int, n: int) -> "Parameter":
        """A share of n devices, with its exact interval (Clopper-Pearson)."""
        low = float(betaincinv(hits, n - hits + 1, 0.025)) if hits else 0.0
        high = float(betaincinv(hits + 1, n - hits, 0.975)) if hits < n else 1.0
        return cls(key, hits / n, math.sqrt(hits / n * (1 - hits / n) / n), low, high)

    @classmethod
    def positive(cls, key: str, value: float, error: float) -> "Parameter":
        """A positive number, the logarithm of whose estimate is normally distributed."""
        return cls(key, value, error, *positive_interval(value, error))


def normal_interval(value: float, error: float, level: float = 0.95) -> tuple[float, float]:
    """The interval value -+ z error.

    Args:
        value: estimate.
        error: its standard error.
        level: probability that such an interval covers the truth.
    """
    reach = float(ndtri((1 + level) / 2)) * error
    return value - reach, value + reach


def positive_interval(value: float, error: float, level: float = 0.95) -> tuple[float, float]:
    """The interval value exp(-+ z error / value), of a number that cannot be negative.

    Args:
        value: estimate; where it is 0, the interval is that of a normal estimate, cut at 0.
        error: its standard error.
        level: probability that such an interval covers the truth.
    """
    reach = float(ndtri((1 + level) / 2)) * error
    if value <= 0 or reach / value > 50:
        return 0.0, value + reach
    return value * math.exp(-reach / value), value * math.exp(reach / value)


class Check(NamedTuple):
    """A test of what a fit supposes.

    Args:
        what: is tested.
        statistic: in words, such as "chi2 = 5.1 of 6".
        p: probability of a statistic this large where the supposition holds; nan where there is nothing to test.
    """

    what: str
    statistic: str
    p: float


@dataclass(frozen=True)
class Series:
    """One set of points, or one line, of a panel.

    Args:
        label: for the legend; "" for none.
        x: coordinates.
        y: coordinates.
        error: half the length of an error bar; None for a line.
        style: "points", "line" or "faint".
        color: number of its colour; None for the next one.
    """

    label: str
    x: Array
    y: Array
    error: Array | None = None
    style: Literal["points", "line", "dashed", "faint"] = "points"
    color: int | None = None


@dataclass(frozen=True)
class Panel:
    """A plot of data with a fit, or of its residuals.

    Args:
        title: above it.
        x: label of the axis.
        y: label of the axis.
        series: what is drawn.
        log_x: whether the axis of x is logarithmic.
    """

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = False


@dataclass(frozen=True)
class EffectFit:
    """What was found of one effect.

    Args:
        name: of the effect, as `kind` in a profile.
        parameters: fitted numbers with intervals.
        numbers: keys and values as the profile states them; empty where the effect was refused.
        assumed: keys among these that the measurement does not give.
        checks: tests of what the fit supposes.
        panels: what can be drawn.
        warnings: what the data show that the effect does not hold, one line each.
        refused: why there is no fit; "" where there is one.
    """

    name: str
    parameters: tuple[Parameter, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    panels: tuple[Panel, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: str = ""
