"""Mean and spread of a number over devices, each of which is known with an error of its own."""

import math
from typing import NamedTuple

import numpy as np

from noisylearn.fitting.results import Array


class Population(NamedTuple):
    """Mean and spread of a number over devices.

    Args:
        mean: over devices.
        mean_error: its standard error.
        spread: standard deviation over devices.
        spread_error: its standard error.
    """

    mean: float
    mean_error: float
    spread: float
    spread_error: float


def population(value: Array, error: Array) -> Population:
    """Mean and spread of greatest likelihood, of values with errors of their own.

    Args:
        value: of every device.
        error: standard error of each.
    """
    good = np.isfinite(value) & np.isfinite(error)
    value, error = value[good], error[good]
    spread2 = max(float(value.var(ddof=1) - (error**2).mean()), 0.0)
    for _ in range(50):
        weight = 1 / (spread2 + error**2 + 1e-30)
        mean = float((weight * value).sum() / weight.sum())
        shares = weight**2
        spread2 = max(
            float((shares * ((value - mean) ** 2 * len(value) / (len(value) - 1) - error**2)).sum() / shares.sum()), 0.0
        )
    weight = 1 / (spread2 + error**2 + 1e-30)
    spread = math.sqrt(spread2)
    of_square = math.sqrt(2 / float((weight**2).sum()))
    return Population(
        mean, 1 / math.sqrt(float(weight.sum())), spread, of_square / (2 * max(spread, math.sqrt(of_square) / 2))
    )
