"""Programming noise: how far a written conductance lies from its target.

    mean of k reads of a write = max(target + sigma z, 0) + e,   e ~ N(0, v / k)

v, the variance of single reads, comes from reads of the same write; sigma is the maximum of the likelihood at every
target. Reads of a write share slow noise: where the experiment "read" found more variance than v, the rest is added to
v / k. What a device has wandered until its first read counts as programming noise. With tau^2 = v / k the density of
the mean x is, m and s^2 those of the conductance given x,

    N(x; target, sigma^2 + tau^2) Phi(m / s) + Phi(-target / sigma) N(x; 0, tau^2)
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import kolmogorov, log_ndtr, ndtr

from noisylearn.fitting.levels import UNLIKELY, Levels, curve_panels, fit_curve, grouped
from noisylearn.fitting.measurements import Measurements
from noisylearn.fitting.results import Array, Check, EffectFit, Panel, Parameter, Series

LEAST_WRITES, LEAST_TARGETS = 8, 2  # writes at one target; targets
STUCK_TARGETS, STUCK_SLOPE = 3, 0.2  # targets of one device that tell; slope below which it does not follow them
CLEAR = 7.0  # gain in ln likelihood: there is noise
DIGITS = 1e-6  # of the largest conductance: below lies the rounding of a file
FAR_FROM_ZERO = 3.0  # in standard deviations: from there on the floor does not matter
TWO_GROUPS = -0.8  # excess kurtosis: -1.2 of a uniform error, -2 of two values


class Writes(NamedTuple):
    """Writes of devices: the mean of the reads of each.

    Args:
        device: that was written.
        target_us: of the write.
        mean_us: of its reads.
        noise_us2: variance of that mean for one conductance; 0 where nothing is known of it.
    """

    device: Array
    target_us: Array
    mean_us: Array
    noise_us2: Array

    def where(self, chosen: Array) -> "Writes":
        """Some of the writes."""
        return Writes(*(column[chosen] for column in self))


def fit_programming(made: Measurements, g_max_us: float, read_variance: Callable[[Array], Array]) -> list[EffectFit]:
    """Fit programming noise, and the share of stuck devices.

    Args:
        made: reads of the experiment "programming".
        g_max_us: largest conductance, in microsiemens.
        read_variance: variance of one read at conductances in microsiemens, as the experiment "read" gave it.
    """
    writes = _writes(made, read_variance)
    stuck, fit_stuck = _stuck(writes, g_max_us)
    writes = writes.where(~stuck)
    groups = grouped(writes.target_us, LEAST_WRITES)
    if len(groups) < LEAST_TARGETS:
        refused = (
            f"{len(groups)} targets were written at least {LEAST_WRITES} times, {LEAST_TARGETS} are needed: write more "
            "devices to each target"
        )
        return [EffectFit("programming-noise", refused=refused), *fit_stuck]
    found = [_at_target(writes.where(group), g_max_us) for group in groups]
    r = np.array([writes.target_us[group].mean() / g_max_us for group in groups])
    value, error, gain = np.array(found).T
    levels = Levels(r, value, error, np.array([len(g) for g in groups]))
    if (gain < CLEAR).all():
        refused = "conductances lie at their targets but for the noise of reads: there is no programming noise"
        return [EffectFit("programming-noise", refused=refused), *fit_stuck]
    curve = fit_curve(levels, "sigma_us", positive=True)
    away = (writes.mean_us - writes.target_us) / np.sqrt(
        np.maximum(curve(writes.target_us / g_max_us), 1e-9) ** 2 + writes.noise_us2
    )
    free = writes.target_us > FAR_FROM_ZERO * curve(writes.target_us / g_max_us)
    checks, warnings = _residual_checks(writes, away, free, groups)
    numbers = {"reference_g_max_us": g_max_us, "sigma_us": curve.table()}
    parameters = (*levels.parameters("sigma_us", g_max_us, True), *curve.parameters("sigma_us"))
    panels = (*curve_panels(levels, curve, "programming noise (uS)", g_max_us), _errors(writes, away))
    fit = EffectFit("programming-noise", parameters, numbers, (), (curve.check, *checks), panels, warnings)
    return [fit, *fit_stuck]


def _writes(made: Measurements, read_variance: Callable[[Array], Array]) -> Writes:
    """Writes of a device to a target, told apart by the column `write` where there is one."""
    key = np.stack([np.unique(c, return_inverse=True)[1] for c in (made.device, made.write, made.target_us)])
    _, first, place = np.unique(key, axis=1, return_index=True, return_inverse=True)
    place = place.ravel()
    reads = np.bincount(place)
    mean = np.bincount(place, made.conductance_us) / reads
    squares = np.bincount(place, (made.conductance_us - mean[place]) ** 2)
    target = made.target_us[first]
    _, of_target = np.unique(target, return_inverse=True)
    free = np.bincount(of_target, reads - 1)
    fresh = (np.bincount(of_target, squares) / np.maximum(free, 1))[of_target]
    slow = np.maximum(read_variance(np.maximum(target, 0.0)) - fresh, 0.0)
    return Writes(made.device[first], target, mean, fresh / reads + slow)


def _at_target(writes: Writes, g_max_us: float) -> tuple[float, float, float]:
    """sigma of greatest likelihood at one target, its standard error, and what it gains in ln likelihood over none."""
    from scipy.optimize import minimize_scalar

    tau = np.sqrt(np.maximum(writes.noise_us2, (DIGITS * g_max_us) ** 2))
    x, target = writes.mean_us, writes.target_us

    def cost(log_sigma: float) -> float:
        return -float(_log_density(x, target, math.exp(log_sigma), tau).sum())

    high = math.log(max(float(np.sqrt(np.mean((x - target) ** 2))) * 4, 1e-6 * g_max_us))
    best = minimize_scalar(cost, bounds=(high - 12, high), method="bounded", options={"xatol": 1e-5}).x
    step = 0.02
    curvature = (cost(best + step) - 2 * cost(best) + cost(best - step)) / step**2
    sigma = math.exp(best)
    error = sigma / math.sqrt(curvature) if curvature > 1e-3 else math.nan
    return sigma, error, cost(math.log(1e-3 * DIGITS * g_max_us)) - cost(best)


def _log_density(x: Array, target: Array, sigma: float, tau: Array) -> Array:
    """Logarithm of the density of the mean read of a write."""
    variance = sigma**2 + tau**2
    middle = (x * sigma**2 + target * tau**2) / variance
    spread = sigma * tau / np.sqrt(variance)
    above = -((x - target) ** 2) / (2 * variance) - np.log(variance) / 2 + log_ndtr(middle / spread)
    at_zero = log_ndtr(-target / sigma) - x**2 / (2 * tau**2) - np.log(tau)
    return np.logaddexp(above, at_zero)


def _residual_checks(
    writes: Writes, away: Array, free: Array, groups: list[Array]
) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """Tests of the errors in units of their standard deviation, and what they show that no effect holds."""
    checks, warnings = [], []
    shifts = [(away[g][free[g]].mean() * math.sqrt(free[g].sum()), g) for g in groups if free[g].sum() > 1]
    if shifts:
        z, group = max(shifts, key=lambda shift: abs(shift[0]))
        p = min(2 * float(ndtr(-abs(z))) * len(shifts), 1.0)
        checks.append(Check("mean error is zero at every target", f"largest z = {z:.2f} of {len(shifts)}", p))
        if p < UNLIKELY:
            by = writes.mean_us[group].mean() - writes.target_us[group].mean()
            warnings.append(
                f"written conductances lie off their targets on average, by {by:.3g} uS at "
                f"{writes.target_us[group].mean():.4g} uS (z = {z:.1f}): no effect holds a shift; it counts as noise"
            )
    z = np.sort(away[free])
    if len(z) >= LEAST_WRITES:
        checks.append(_normality(z, warnings))
    _same_devices(writes.where(free), away[free], checks, warnings)
    return tuple(checks), tuple(warnings)


def _normality(z: Array, warnings: list[str]) -> Check:
    """Kolmogorov-Smirnov test of errors against the normal distribution."""
    ranks = np.arange(len(z) + 1) / len(z)
    distance = float(np.maximum(ranks[1:] - ndtr(z), ndtr(z) - ranks[:-1]).max())
    p = float(kolmogorov(distance * math.sqrt(len(z))))
    kurtosis = float(np.mean((z - z.mean()) ** 4) / z.var() ** 2 - 3)
    statistic = f"D = {distance:.3f} of {len(z)}, excess kurtosis {kurtosis:.2f}"
    if p < UNLIKELY:
        shape = (
            "in two groups" if kurtosis < TWO_GROUPS else "with long tails" if kurtosis > 1 else "not as a normal error"
        )
        warnings.append(f"programming errors are distributed {shape} ({statistic}): the effect is Gaussian")
    return Check("errors are normal", statistic, p)


def _same_devices(writes: Writes, away: Array, checks: list[Check], warnings: list[str]) -> None:
    """F test of whether devices that were written several times differ from one another."""
    from scipy.special import fdtrc

    _, place, counts = np.unique(writes.device, return_inverse=True, return_counts=True)
    if len(counts) < 5 or (counts < 2).mean() > 0.5:
        return
    means = np.bincount(place, away) / counts
    free = len(away) - len(counts)
    within = float(((away - means[place]) ** 2).sum() / free)
    between = float((counts * (means - away.mean()) ** 2).sum() / (len(counts) - 1))
    p = float(fdtrc(len(counts) - 1, free, between / within))
    checks.append(Check("errors of a device are independent", f"F = {between / within:.2f}", p))
    if p < UNLIKELY:
        warnings.append(
            f"devices err in their own direction from write to write (F = {between / within:.1f}): that is a "
            "conductance-spread, drawn once per device; it is counted as programming noise"
        )


def _stuck(writes: Writes, g_max_us: float) -> tuple[Array, list[EffectFit]]:
    """Which writes are of devices that do not follow their targets, and the share of such devices."""
    _, place, counts = np.unique(writes.device, return_inverse=True, return_counts=True)
    t = writes.target_us - (np.bincount(place, writes.target_us) / counts)[place]
    spread = np.bincount(place, t**2)
    slope = np.bincount(place, t * writes.mean_us) / np.maximum(spread, 1e-30)
    reach = np.sqrt(spread / counts)
    tells = (counts >= STUCK_TARGETS) & (reach > 0.15 * g_max_us)
    stuck = tells & (slope < STUCK_SLOPE)
    if not tells.any() or not stuck.any():
        return np.zeros(len(writes.device), bool), []
    mean = np.bincount(place, writes.mean_us) / counts
    middle = (writes.target_us.min() + writes.target_us.max()) / 2
    shares = {"at_g_min": stuck & (mean < middle), "at_g_max": stuck & (mean >= middle)}
    parameters = tuple(Parameter.share(key, int(those.sum()), int(tells.sum())) for key, those in shares.items())
    follows = Series("devices", mean[tells], slope[tells])
    panel = Panel("stuck devices", "mean conductance (uS)", "slope against the target", (follows,))
    numbers = {p.key: p.value for p in parameters}
    return stuck[place], [EffectFit("stuck-devices", parameters, numbers, panels=(panel,))]


def _errors(writes: Writes, away: Array) -> Panel:
    """Every error against its target."""
    every = Series("writes", writes.target_us, away, style="faint")
    return Panel("errors of writing", "target (uS)", "error (standard deviations)", (every,))
