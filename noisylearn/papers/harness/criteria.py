"""Criteria of studies, by their forms: comparisons, distances, trends, exponents of power laws, orders of rules.

The numbers of a comparison are shown by a format string, which is given the measured number and its bound.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from scipy.stats import linregress, t

from noisylearn.papers.harness.measures import mean
from noisylearn.papers.harness.study import Criterion

UNDECIDED = 2.0  # standard errors of a difference of means, below which the seeds leave an order open
AGAINST = "{:.3g} against {:.3g}"
Numbers = float | Sequence[float] | np.ndarray  # several are compared one by one: all have to hold


def below(statement: str, values: Numbers, bounds: Numbers, shown: str = AGAINST) -> Criterion:
    """That values < bounds."""
    return _compared(statement, operator.lt, values, bounds, shown)


def above(statement: str, values: Numbers, bounds: Numbers, shown: str = AGAINST) -> Criterion:
    """That values > bounds."""
    return _compared(statement, operator.gt, values, bounds, shown)


def at_most(statement: str, values: Numbers, bounds: Numbers, shown: str = AGAINST) -> Criterion:
    """That values <= bounds."""
    return _compared(statement, operator.le, values, bounds, shown)


def reaches(statement: str, values: Numbers, bounds: Numbers, shown: str = AGAINST) -> Criterion:
    """That values >= bounds."""
    return _compared(statement, operator.ge, values, bounds, shown)


def within(
    statement: str, values: Numbers, expected: float, tolerance: float, shown: str = AGAINST, together: str = "{}"
) -> Criterion:
    """That |values - expected| <= tolerance.

    Args:
        statement: what is claimed.
        values: what was measured.
        expected: number or theory that it is compared with.
        tolerance: largest distance that holds, in the unit of the values.
        shown: format string of a value and the expected one.
        together: format string of all of them.
    """
    near = _compared(statement, lambda value, _: abs(value - expected) <= tolerance, values, expected, shown)
    return Criterion(statement, together.format(near.measured), near.holds)


def _compared(
    statement: str, holds: Callable[[float, float], bool], values: Numbers, bounds: Numbers, shown: str
) -> Criterion:
    pairs = list(np.broadcast(values, bounds))
    measured = ", ".join(shown.format(value, bound) for value, bound in pairs)
    return Criterion(statement, measured, all(bool(holds(value, bound)) for value, bound in pairs))


def rising(statement: str, values: Sequence[float], shown: str = "{:.3g}") -> Criterion:
    """That every value is above the one before it; `shown` is the format string of a value."""
    return _trend(statement, operator.lt, values, shown)


def falling(statement: str, values: Sequence[float], shown: str = "{:.3g}", together: str = "{}") -> Criterion:
    """That every value is below the one before it; `together` is the format string of all that are shown."""
    criterion = _trend(statement, operator.gt, values, shown)
    return Criterion(statement, together.format(criterion.measured), criterion.holds)


def _trend(statement: str, holds: Callable[[float, float], bool], values: Sequence[float], shown: str) -> Criterion:
    measured = ", ".join(shown.format(value) for value in values)
    return Criterion(statement, measured, all(bool(holds(a, b)) for a, b in pairwise(values)))


def turn(
    what: str, errors: np.ndarray, factor: float, turns: bool, note: str = "", ran_away: bool = False
) -> Criterion:
    """That an error turns up, or does not: errors[-1] / min(errors) > factor.

    Args:
        what: begins the statement.
        errors: along the training, (points,).
        factor: of the last error over the lowest, above which it turns up.
        turns: whether it is to turn up.
        note: ends the statement.
        ran_away: whether the run ended by running away, which counts as turning up.
    """
    rise = float(errors[-1] / errors.min())
    statement = f"{what}: the error {'turns up' if turns else 'does not turn up'}{note}"
    measured = "ran away" if ran_away else f"ends at {rise:.3g} times its lowest"
    return Criterion(statement, measured, (ran_away or rise > factor) == turns)


def exponent_within(
    statement: str, x: Sequence[float], y: Sequence[float], expected: float, tolerance: float
) -> Criterion:
    """That y goes as x to a power: |exponent - expected| <= tolerance."""
    return _exponent(statement, x, y, lambda found: abs(found - expected) <= tolerance)


def exponent_below(statement: str, x: Sequence[float], y: Sequence[float], limit: float) -> Criterion:
    """That y goes as x to a power below a limit."""
    return _exponent(statement, x, y, lambda found: found < limit)


def _exponent(statement: str, x: Sequence[float], y: Sequence[float], holds: Callable[[float], bool]) -> Criterion:
    if not np.isfinite(y).all():
        return Criterion(statement, "the target was not reached everywhere", False)
    found, width = slope(x, y)
    return Criterion(statement, f"{found:.2f}" + (f" ± {width:.2f} (95 %)" if width else ""), holds(found))


def slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Slope of log y over log x by least squares, and half the width of its 95 % confidence interval.

    Args:
        x: positive numbers, at least two.
        y: as many positive numbers.

    Returns:
        The slope, and half the width of the interval by Student's t; 0 for two points.
    """
    fit = linregress(np.log(x), np.log(y))
    width = t.ppf(0.975, len(x) - 2) * fit.stderr if len(x) > 2 else 0.0
    return float(fit.slope), float(width)


def ordered(
    better: str,
    worse: str,
    values: Mapping[str, np.ndarray],
    higher: bool = True,
    called: Callable[[str], str] = str,
) -> Criterion:
    """That the mean over the seeds of one rule is better than that of another; a rule whose runs all ran away loses.

    What was measured says "within the noise of the seeds" where both have several seeds and their means are less than
    two standard errors of their difference apart: |a - b| < 2 sqrt(var_a / n_a + var_b / n_b).

    Args:
        better: key of the rule that is to be better.
        worse: key of the other.
        values: by key, the measure of every seed, (seeds,); empty where every run ran away.
        higher: whether higher values are better.
        called: what a key is called in the statement.
    """
    a, b = (mean(values[name]) for name in (better, worse))
    holds = not math.isnan(a) and (math.isnan(b) or (a > b if higher else a < b))
    measured = " against ".join("every run ran away" if math.isnan(value) else f"{value:.3g}" for value in (a, b))
    variances = [values[name].var(ddof=1) / len(values[name]) for name in (better, worse) if len(values[name]) > 1]
    if len(variances) == 2 and abs(a - b) < UNDECIDED * math.sqrt(sum(variances)):
        measured += ", within the noise of the seeds"
    return Criterion(f"{called(better)} {'above' if higher else 'below'} {called(worse)}", measured, holds)
