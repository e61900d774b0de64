"""Pulsed devices: how far one pulse moves a device, up and down, against its state, and where it ends.

The reads w_k of a device follow one another with m pulses of direction d between them. Where the mean step is linear in
the state, d i_d (1 - w / a_d) per pulse, it holds exactly that

    w_(k+1) = w_k + alpha + beta w_k + noise,   1 + beta = (1 - i_d / |a_d|)^m,   a_d = -alpha / beta

which is a regression for every device and direction. A read differs from the state by write noise, which would pull
beta towards -1; where the residuals of neighbours show such noise, the read before is the instrument of w_k. The
residuals u_k have, with the noise C of m pulses and the write noise v,

    var(u) = C + (1 + (1 + beta)^2) v,   cov(u_k, u_(k+1)) = -(1 + beta) v

Devices are the sample: the mean and the spread of their numbers are those of greatest likelihood, given the error of
each. Which step is chosen follows from the numbers: see `kind_of_step`."""

import math
from typing import NamedTuple

import numpy as np

from noisylearn.fitting.results import Array
from noisylearn.fitting.trains import Trains, place

LEAST_STEPS = 20  # of a device, between the bounds
CENTRE = (0.12, 0.7)  # share of a device's range, along the pulses, in which steps are fitted: bounds cut others off


class Line(NamedTuple):
    """A device's step in one direction, per pulse: intercept + slope w.

    Args:
        intercept: (devices,), size of the step at w = 0.
        slope: (devices,), its change with w.
        errors: (devices, 2), standard errors of both.
        correlation: (devices,), of both.
        cycle: (devices,), variance of the noise of one pulse.
        write: (devices,), variance of write noise, the same for all.
        write_error: standard error of that.
    """

    intercept: Array
    slope: Array
    errors: Array
    correlation: Array
    cycle: Array
    write: Array
    write_error: float

    def error_at(self, w: Array) -> Array:
        """Standard error of every device's step at a state."""
        of_zero, of_slope = self.errors.T
        return np.sqrt(np.maximum(of_zero**2 + 2 * w * self.correlation * of_zero * of_slope + (w * of_slope) ** 2, 0))


def line_of(trains: Trains, direction: float) -> Line | None:
    """Regression of the steps of one direction on the state, for every device."""
    w, pulse = trains.w, trains.pulse
    values, counts = np.unique(pulse[pulse * direction > 0], return_counts=True)
    m = float(abs(values[counts.argmax()]))
    steps = np.flatnonzero(pulse == direction * m)
    steps = steps[(steps >= 2) & (pulse[steps - 1] != 0)]
    y, x = (w[:, steps] - w[:, steps - 1]), w[:, steps - 1]
    stands = place(w, direction)
    inside = (stands > CENTRE[0]) & (stands < CENTRE[1])
    follows = np.diff(steps, append=-1) == 1
    found = _regressed(y, x, x, inside[:, steps - 1], follows)
    if found is None:
        return None
    write, write_error = np.zeros(len(w)), 0.0
    if _pooled(found) < -4 / math.sqrt(found.free.sum()):
        found = _regressed(y, x, w[:, steps - 2], inside[:, steps - 2], follows) or found
        variances = -found.lag / np.maximum(1 + found.beta, 0.2)
        good = np.isfinite(variances)
        write[:] = max(float((variances * found.free)[good].sum() / found.free[good].sum()), 0.0)
        write_error = float(variances[good].std() / math.sqrt(good.sum()))
    noise = found.variance - (1 + (1 + found.beta) ** 2) * write
    rho = np.clip(1 + found.beta, 1e-3, None)
    per_pulse = np.where(np.abs(found.beta) < 1e-6, 1 / m, (rho ** (1 / m) - 1) / np.where(found.beta, found.beta, 1.0))
    return Line(
        direction * found.alpha * per_pulse,
        direction * found.beta * per_pulse,
        found.errors * per_pulse[:, None],
        found.correlation,
        noise / m,
        write,
        write_error,
    )


def _pooled(of: "_Regression") -> float:
    """Correlation of neighbouring residuals over all devices."""
    good = np.isfinite(of.lag)
    return float((of.lag * of.free)[good].sum() / (of.variance * of.free)[good].sum())


class _Regression(NamedTuple):
    """alpha + beta x of every device with errors, and variance and lag-1 covariance of the residuals."""

    alpha: Array
    beta: Array
    errors: Array
    correlation: Array
    variance: Array
    lag: Array
    free: Array


def _regressed(y: Array, x: Array, z: Array, inside: Array, follows: Array) -> _Regression | None:
    """Regression of y on x with the instrument z, for every row, over the entries inside."""
    n = inside.sum(1)
    if np.median(n) < LEAST_STEPS:
        return None
    keep = inside.astype(float)
    centre = (keep * x).sum(1, keepdims=True) / np.maximum(n, 1)[:, None]
    xs, zs = keep * (x - centre), keep * (z - (keep * z).sum(1, keepdims=True) / np.maximum(n, 1)[:, None])
    sxz = np.where(n > 4, (xs * zs).sum(1), np.nan)
    sxz[sxz == 0] = np.nan
    beta = (zs * y).sum(1) / sxz
    middle = (keep * y).sum(1) / np.where(n > 4, n, np.nan)
    u = keep * (y - middle[:, None] - beta[:, None] * (x - centre))
    both = keep[:, :-1] * keep[:, 1:] * follows[:-1]
    variance = (u**2).sum(1) / np.maximum(n, 1)
    lag = (u[:, :-1] * u[:, 1:] * both).sum(1) / np.maximum(both.sum(1), 1)
    taken = 2 * np.maximum(variance + 2 * lag, 0) / np.maximum(n, 1)  # by the two numbers that were fitted
    variance, lag = variance + taken, lag + taken
    pooled = np.nansum(lag) / np.nansum(variance)

    def of_sum(a: Array, b: Array) -> Array:
        pairs = a[:, :-1] * b[:, 1:] + a[:, 1:] * b[:, :-1]
        plain = (keep * a * b).sum(1)
        return variance * np.maximum(plain + pooled * (pairs * both).sum(1), 0.02 * plain)

    one = np.ones_like(zs)
    var_beta, var_middle = of_sum(zs, zs) / sxz**2, of_sum(one, one) / np.maximum(n, 1) ** 2
    at_zero = np.sqrt(var_middle + centre[:, 0] ** 2 * var_beta)
    alpha = middle - beta * centre[:, 0]
    correlation = -centre[:, 0] * np.sqrt(var_beta) / np.maximum(at_zero, 1e-30)
    return _Regression(alpha, beta, np.stack([at_zero, np.sqrt(var_beta)], 1), correlation, variance, lag, n)
