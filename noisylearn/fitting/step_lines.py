"""Pulsed devices: how far one pulse moves a device, up and down, against its state, and where it ends.

The reads w_k of a device follow one another with m pulses of direction d between them. Where the mean step is linear in
the state, d i_d (1 - w / a_d) per pulse, it holds exactly that

    w_(k+1) = w_k + alpha + beta w_k + noise,   1 + beta = (1 - i_d / |a_d|)^m,   a_d = -alpha / beta

which is a regression for every device and direction. A read differs from the state by noise of the write and of the
read itself, which would pull beta towards -1; where such noise is seen, the read before is the instrument of w_k. The
residuals u_k have, with the variance C of m pulses' noise, a device's own, and v of a read, the same for all,

    var(u) = C + (1 + (1 + beta)^2) v,   cov(u_k, u_(k+1)) = -(1 + beta) v

The sums of both products over the residuals, whose expectations are these less what the two fitted numbers take, give v
from all devices and directions together, and with it the C of each.

Devices are the sample: the mean and the spread of their numbers are those of greatest likelihood, given the error of
each. Which step is chosen follows from the numbers: see `kind_of_step` in pulsed.py."""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from noisylearn.fitting.results import Array
from noisylearn.fitting.trains import Trains, place, steps_of

LEAST_STEPS = 20  # of a device, between the bounds
CENTRE = (0.12, 0.7)  # share of a device's range, along the pulses, in which steps are fitted: bounds cut others off
SEEN = 3.1  # standard errors from which noise of reads is there: fewer than 1 of 1,000 data sets have it by chance
MOST_OF_READS = 0.49  # of noise is that of reads, in standard errors; it would be 0.5 were there no other


class Line(NamedTuple):
    """A device's step in one direction, per pulse: intercept + slope w.

    Args:
        intercept: (devices,), size of the step at w = 0.
        slope: (devices,), its change with w.
        errors: (devices, 2), standard errors of both.
        correlation: (devices,), of both.
        cycle: (devices,), variance of the noise of one pulse.
        free: (devices,), how many residuals that comes from, less what was fitted.
        per_write: (devices,), by how much cycle falls where the variance of a read rises.
        back: how many reads before a step tell the state in which it was made.
        write: variance of a read about the state, the same for all.
        write_shift: (devices,), what each device adds to the error of that.
    """

    intercept: Array
    slope: Array
    errors: Array
    correlation: Array
    cycle: Array
    free: Array
    per_write: Array
    back: int
    write: float
    write_shift: Array

    def error_at(self, w: Array) -> Array:
        """Standard error of every device's step at a state."""
        of_zero, of_slope = self.errors.T
        return np.sqrt(np.maximum(of_zero**2 + 2 * w * self.correlation * of_zero * of_slope + (w * of_slope) ** 2, 0))


def lines_of(trains: Trains, directions: Sequence[float]) -> dict[float, Line] | None:
    """Regression of the steps on the state, for every device and direction.

    Args:
        trains: reads.
        directions: +1, -1 or both.

    Returns:
        The lines by direction; None where too few steps lie between the bounds.
    """
    lines = None
    for back in (1, 2):
        found = {d: _regressed(trains, d, back) for d in directions}
        if any(np.median(one.n) < LEAST_STEPS for one in found.values()):
            return lines
        write, shift = _variance_of_reads(found.values())
        lines = {d: _line(one, d, back, write, shift) for d, one in found.items()}
        if not write > SEEN * math.sqrt((shift**2).sum()):
            return lines
    return lines


class _Regression(NamedTuple):
    """Regressions alpha + beta x of all devices, and the sums of products of their residuals u.

    Args:
        m: pulses before every read.
        n: (devices,), steps.
        alpha: (devices,).
        beta: (devices,).
        centre: (devices,), mean of x.
        squares: (devices,), sum of u_k^2.
        next: (devices,), sum of u_k u_(k+1).
        of_cycle: expectations of these two sums per C, and (2, 2, devices) covariance of alpha + beta centre and beta.
        of_read: the same per v.
    """

    m: float
    n: Array
    alpha: Array
    beta: Array
    centre: Array
    squares: Array
    next: Array
    of_cycle: tuple[Array, Array, Array]
    of_read: tuple[Array, Array, Array]


def _regressed(trains: Trains, direction: float, back: int) -> _Regression:
    """Regression of the steps of one direction on the state; the read so many before a step is the instrument."""
    w = trains.w
    steps, m = steps_of(trains, direction)
    stands = place(w, direction)[:, steps - back]
    keep = ((stands > CENTRE[0]) & (stands < CENTRE[1])).astype(float)
    y, x, z = w[:, steps] - w[:, steps - 1], w[:, steps - 1], w[:, steps - back]
    n = keep.sum(1)
    enough = np.where(n > 4, n, np.nan)[:, None]
    centre, middle, of_z = ((keep * one).sum(1, keepdims=True) / enough for one in (x, y, z))
    xs, ys, zs = keep * (x - centre), keep * (y - middle), keep * (z - of_z)
    sxz = (xs * zs).sum(1, keepdims=True)
    sxz[sxz == 0] = np.nan
    beta = (zs * y).sum(1, keepdims=True) / sxz
    u = ys - beta * xs
    both = keep[:, :-1] * keep[:, 1:] * (np.diff(steps) == 1)

    def beside(a: Array) -> Array:
        """Sum of the two neighbours of every entry."""
        padded = np.pad(a, [(0, 0)] * (a.ndim - 1) + [(1, 1)])
        pairs = np.pad(both, [(0, 0), (1, 1)])
        return padded[..., :-2] * pairs[:, :-1] + padded[..., 2:] * pairs[:, 1:]

    instruments, taken = (
        np.stack([keep, zs]),
        np.stack([keep / enough, xs / sxz]),
    )  # u = (1 - taken instruments^T) noise

    def expected(own: Array, other: Array) -> tuple[Array, Array, Array]:
        """Of noise with the variance own and the covariance other of neighbours."""
        spread = own[:, None] * instruments + other[:, None] * beside(instruments)
        product = np.einsum("idk,jdk->ijd", instruments, spread)
        sums = [
            trace - 2 * (a * spread).sum((0, 2)) + np.einsum("ijd,idk,jdk->d", product, taken, a)
            for trace, a in ((own * n, taken), (2 * other * both.sum(1), beside(taken)))
        ]
        scale = np.concatenate([enough, sxz], 1).T
        return sums[0], sums[1] / 2, product / (scale[:, None] * scale)

    rho = 1 + beta[:, 0]
    return _Regression(
        m,
        n,
        (middle - beta * centre)[:, 0],
        beta[:, 0],
        centre[:, 0],
        (u**2).sum(1),
        (u * beside(u)).sum(1) / 2,
        expected(np.ones_like(n), np.zeros_like(n)),
        expected(1 + rho**2, -rho),
    )


def _variance_of_reads(of: Collection[_Regression]) -> tuple[float, Array]:
    """Variance of a read about the state, and what every device adds to its error."""
    more = sum(one.next - one.squares * one.of_cycle[1] / one.of_cycle[0] for one in of)
    unit = sum(one.of_read[1] - one.of_read[0] * one.of_cycle[1] / one.of_cycle[0] for one in of)
    total = np.nansum(np.where(np.isfinite(more), unit, np.nan))
    value = float(np.nansum(more) / total)
    return max(value, 0.0), np.nan_to_num((more - value * unit) / total)


def _line(of: _Regression, direction: float, back: int, write: float, shift: Array) -> Line:
    """A line of the regressions, in steps per pulse."""
    sums, of_cycle, of_read = of.squares, of.of_cycle[0], of.of_read[0]
    mean = max(float(np.nansum(sums - write * of_read) / np.nansum(of_cycle)), 0.0)
    share = min(write / (mean + 2 * write), MOST_OF_READS) if write else 0.0
    scale = sums / ((1 - 2 * share) * of_cycle + share * of_read)
    (of_middle, mixed), (_, of_beta) = scale * ((1 - 2 * share) * of.of_cycle[2] + share * of.of_read[2])
    of_zero = of_middle - 2 * of.centre * mixed + of.centre**2 * of_beta
    errors = np.sqrt(np.maximum(np.stack([of_zero, of_beta], 1), 0))
    rho = np.clip(1 + of.beta, 1e-3, None)
    flat = np.abs(of.beta) < 1e-6
    per_pulse = np.where(flat, 1 / of.m, (rho ** (1 / of.m) - 1) / np.where(of.beta, of.beta, 1.0))
    return Line(
        direction * of.alpha * per_pulse,
        direction * of.beta * per_pulse,
        errors * per_pulse[:, None],
        (mixed - of.centre * of_beta) / np.maximum(errors.prod(1), 1e-30),
        (sums - write * of_read) / of_cycle / of.m,
        of_cycle,
        of_read / of_cycle / of.m,
        back,
        write,
        shift,
    )
