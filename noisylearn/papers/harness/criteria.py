"""Criteria of studies."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import linregress, t

from noisylearn.papers.harness.measures import mean
from noisylearn.papers.harness.study import Criterion

UNDECIDED = 2.0  # standard errors of a difference of means, below which the seeds leave an order open


def ordered(
    better: str,
    worse: str,
    values: Mapping[str, np.ndarray],
    higher: bool = True,
    called: Callable[[str], str] = str,
) -> Criterion:
    """That the mean of one rule lies beyond that of another. Where all runs ran away, it loses.

    What was measured says so where several seeds of both leave the order open: means less than two standard errors of
    their difference apart.
    called: what a rule is called in the statement.
    """
    a, b = (mean(values[name]) for name in (better, worse))
    holds = not math.isnan(a) and (math.isnan(b) or (a > b if higher else a < b))
    shown = ["every run ran away" if math.isnan(value) else f"{value:.3g}" for value in (a, b)]
    measured = " against ".join(shown)
    variances = [values[name].var(ddof=1) / len(values[name]) for name in (better, worse) if len(values[name]) > 1]
    if len(variances) == 2 and abs(a - b) < UNDECIDED * math.sqrt(sum(variances)):
        measured += ", within the noise of the seeds"
    return Criterion(f"{called(better)} {'above' if higher else 'below'} {called(worse)}", measured, holds)


def slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Of log y over log x by least squares, and half its 95 % confidence interval (0 for two points)."""
    fit = linregress(np.log(x), np.log(y))
    width = t.ppf(0.975, len(x) - 2) * fit.stderr if len(x) > 2 else 0.0
    return float(fit.slope), float(width)
