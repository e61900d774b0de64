"""Read noise: white or 1/f, chosen by likelihood, with its amplitude against conductance.

The reads y of a device at times t_1 ... t_n have a mean of their own and the covariance K_d C, where C is

    white:  C = identity
    1/f:    C_ij = R(t_i - t_j) / K,   the covariance of the effect `one-over-f-read-noise`

Both have one number per device, K_d. Of contrasts, which do not know the mean, the likelihood is greatest at
K_d = y' P y / (n - 1), P = C^-1 - C^-1 1 1' C^-1 / (1' C^-1 1), and is then, up to a constant,

    l_d = -((n - 1) ln K_d + ln|C| + ln(1' C^-1 1)) / 2

The sum of the differences of l_d over the devices decides. With ever shorter reads 1/f noise looks ever more white,
so that where the read time is fitted as well, the difference must be one that chance does not bring. K_d is
distributed as chi2 of n - 1, so that a level of m devices knows K to a relative error of sqrt(2 / (m (n - 1))), or
more where devices differ.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc, ndtr

from noisylearn.effects import Curve, OneOverFReadNoise, Setting
from noisylearn.fitting.groups import LEAST_READS, Group, groups
from noisylearn.fitting.levels import UNLIKELY, Levels, curve_panels, fit_curve, grouped
from noisylearn.fitting.measurements import Measurements
from noisylearn.fitting.results import Array, Check, EffectFit, Panel, Parameter, Series
from noisylearn.fitting.telegraph import fit_telegraph

LEAST_DEVICES = 5
NESTED = 5.4  # gain in ln likelihood that 1/f noise must bring where the read time is fitted: 1 in 1,000 by chance
UNLIKE = 3.0  # times what chance gives: devices of one level whose noise differs so much
LAGS = 12  # points of the plot of differences
SHORTEST, GRID = 1e-9, 25  # read times that are tried, in units of the interval between reads; how many
MOST_SPREAD = 0.3  # relative, of the conductances of a level to whose mean a relative amplitude is referred
TINY = 1e-12
NOISELESS = 1e-6  # of the largest conductance: noise below is that of the digits of a file


class Seen(NamedTuple):
    """What one model of the noise says of the devices of all groups.

    Args:
        scale_us2: K_d of every device, in microsiemens squared.
        likelihood: l_d of every device.
        free: n - 1 of every device.
        white: the reads of every device in units of their standard deviations given those before, one after the other.
    """

    scale_us2: Array
    likelihood: Array
    free: Array
    white: list[Array]


Covariance = Callable[[Array, float], Array]  # (lags in seconds, age in seconds) -> C


def seen(of: list[Group], covariance: Covariance) -> Seen:
    """Amplitudes and likelihoods of all devices under one model.

    Args:
        of: groups of reads.
        covariance: of the model.
    """
    parts: list[tuple[Array, Array, Array, list[Array]]] = []
    for group in of:
        lags = np.abs(group.times_s[:, None] - group.times_s[None])
        root = np.linalg.cholesky(covariance(lags, group.age_s) + 1e-9 * np.eye(len(lags)))
        ones, y = (np.linalg.solve(root, one) for one in (np.ones(len(lags)), group.reads_us.T))
        y = y - np.outer(ones, ones @ y) / (ones @ ones)
        free = len(lags) - 1
        scale = np.maximum((y**2).sum(0) / free, 1e-30)
        log_det = 2 * np.log(np.diag(root)).sum() + math.log(ones @ ones)
        parts.append(
            (scale, -(free * np.log(scale) + log_det) / 2, np.full(len(scale), free), list((y / np.sqrt(scale)).T))
        )
    scale, likelihood, free_all = (np.concatenate([part[i] for part in parts]) for i in range(3))
    return Seen(scale, likelihood, free_all, [one for part in parts for one in part[3]])


def white_noise(lags_s: Array, age_s: float) -> Array:
    """C of noise that is fresh at every read."""
    return (lags_s == 0).astype(float)


def one_over_f(t_read_s: float) -> Covariance:
    """C of 1/f noise, from the effect itself.

    Args:
        t_read_s: duration of a read, in seconds.
    """
    effect = OneOverFReadNoise(
        status="fitted", source="", t_read_ns=t_read_s * 1e9, relative_amplitude=Curve(polynomial=(1.0,))
    )

    def covariance(lags_s: Array, age_s: float) -> Array:
        setting = Setting(t0_s=max(age_s, 10 * t_read_s, float(lags_s.max())))
        different, place = np.unique(np.round(lags_s, 15), return_inverse=True)
        values = np.array([effect.covariance(float(lag), setting) for lag in different])
        return values[place].reshape(lags_s.shape)

    return covariance


def fit_reading(
    made: Measurements, g_max_us: float, t_read_ns: float | None
) -> tuple[list[EffectFit], Callable[[Array], Array]]:
    """Fit the noise of reads.

    Args:
        made: reads of the experiment "read".
        g_max_us: largest conductance, in microsiemens.
        t_read_ns: duration of a read, in nanoseconds; None to fit it.

    Returns:
        The fits, and the variance of one read at conductances in microsiemens, in microsiemens squared.
    """
    of, too_few, silent = groups(made, NOISELESS * g_max_us)
    n = sum(len(group.device) for group in of)
    if n < LEAST_DEVICES:
        refused = (
            f"{n} devices show noise in at least {LEAST_READS} reads in a row ({too_few} were read less often, "
            f"{silent} always gave the same), {LEAST_DEVICES} are needed: read more devices, or with more digits"
        )
        return [EffectFit("read-noise", refused=refused)], np.zeros_like
    telegraph, of = fit_telegraph(of, g_max_us)
    found = [] if telegraph is None else [telegraph]
    if sum(len(group.device) for group in of) < LEAST_DEVICES:
        return found, np.zeros_like
    white = seen(of, white_noise)
    t_read_s, spread = (t_read_ns * 1e-9, 0.0) if t_read_ns is not None else _read_time(of)
    coloured = seen(of, one_over_f(t_read_s))
    gain = coloured.likelihood - white.likelihood
    z = float(gain.sum() / max(math.sqrt(len(gain)) * gain.std(ddof=1), 1e-9))
    check = Check(
        "1/f against white noise",
        f"difference of ln likelihood {gain.sum():+.1f} over {len(gain)} devices (z = {z:+.1f})",
        2 * float(ndtr(-abs(z))),
    )
    is_coloured = gain.sum() > (0.0 if t_read_ns is not None else NESTED)
    fit = _amplitudes(
        of, coloured if is_coloured else white, g_max_us, is_coloured, t_read_s, spread, t_read_ns is None
    )
    fit = replace(fit, checks=(check, *fit.checks), panels=(*fit.panels, _differences(of, white, coloured, t_read_s)))
    return [*found, fit], _variance(fit, of, g_max_us, t_read_s)


def _read_time(of: list[Group]) -> tuple[float, float]:
    """Duration of a read that fits 1/f noise best, in seconds, and the standard error of its logarithm."""
    from scipy.optimize import minimize_scalar

    interval = min(float(np.diff(group.times_s).min()) for group in of)

    def cost(log_time: float) -> float:
        return -float(seen(of, one_over_f(math.exp(log_time))).likelihood.sum())

    ends = math.log(max(SHORTEST * interval, 1e-14)), math.log(interval / 2)
    tried = np.linspace(*ends, GRID)
    costs = [cost(one) for one in tried]
    i = int(np.argmin(costs))
    near = tried[max(i - 1, 0)], tried[min(i + 1, GRID - 1)]
    best = float(minimize_scalar(cost, bounds=near, method="bounded", options={"xatol": 1e-3}).x)
    step = 0.3
    curvature = (
        (cost(best + step) - 2 * cost(best) + cost(best - step)) / step**2 if best + step < ends[1] + 0.5 else 0.0
    )
    return math.exp(best), 1 / math.sqrt(curvature) if curvature > 0.01 else 10.0


def _amplitudes(
    of: list[Group], model: Seen, g_max_us: float, is_coloured: bool, t_read_s: float, spread: float, fitted_time: bool
) -> EffectFit:
    """Amplitude of the noise against conductance."""
    mean = np.concatenate([group.reads_us.mean(1) for group in of])
    target = np.concatenate([group.target_us for group in of])
    written = np.where(np.isfinite(target), target, mean)
    unit = np.maximum(np.abs(mean), 1e-3 * g_max_us) if is_coloured else np.ones_like(mean)
    k = model.scale_us2 / unit**2
    chosen = [
        g for g in grouped(written, LEAST_DEVICES) if not is_coloured or mean[g].std() < MOST_SPREAD * mean[g].mean()
    ]
    if not chosen:
        refused = f"no conductance was read on {LEAST_DEVICES} devices: read more devices at the same targets"
        return EffectFit("one-over-f-read-noise" if is_coloured else "read-noise", refused=refused)
    correlated = _slope_of_read_time(of, t_read_s, spread) if is_coloured else 0.0
    key, label = ("relative_amplitude", "1/f amplitude Q") if is_coloured else ("sigma_us", "read noise (uS)")
    r = np.array([mean[g].mean() / g_max_us for g in chosen])
    to_level = [np.ones(len(g)) for g in chosen]
    for _ in range(2):  # the second time with every device brought to the conductance of its level along the curve
        rows = [_level(k[g] * by, model.free[g], correlated) for g, by in zip(chosen, to_level, strict=True)]
        values, errors, dispersions = (np.array(column) for column in zip(*rows, strict=True))
        levels = Levels(r, values, errors, np.array([len(g) for g in chosen]))
        curve = fit_curve(levels, key, positive=True)
        to_level = [
            (curve(at) / np.maximum(curve(mean[g] / g_max_us), TINY)) ** 2 for at, g in zip(r, chosen, strict=True)
        ]
    checks, warnings = _residual_checks(model, list(dispersions), [model.free[g] for g in chosen])
    parameters = [*levels.parameters(key, g_max_us, True), *curve.parameters(key)]
    numbers: dict[str, object] = {"reference_g_max_us": g_max_us, "sigma_us": curve.table()}
    assumed: tuple[str, ...] = ()
    if is_coloured:
        if fitted_time:
            parameters.append(Parameter.positive("t_read_ns", t_read_s * 1e9, t_read_s * 1e9 * spread))
        numbers = {"t_read_ns": t_read_s * 1e9, "relative_amplitude": curve.table()}
        assumed = () if fitted_time else ("t_read_ns",)
    name = "one-over-f-read-noise" if is_coloured else "read-noise"
    panels = curve_panels(levels, curve, label, g_max_us)
    return EffectFit(name, tuple(parameters), numbers, assumed, (curve.check, *checks), panels, warnings)


def _level(k: Array, free: Array, correlated: float) -> tuple[float, float, float]:
    """Amplitude sqrt(K) at one level, its standard error, and the spread of K_d in units of what chi2 gives."""
    mean = float((free * k).sum() / free.sum())
    dispersion = float(((k / mean - 1) ** 2 * free / 2).sum() / max(len(k) - 1, 1))
    relative = math.sqrt(2 / free.sum() * max(dispersion, 1.0)) / 2
    return math.sqrt(mean), math.sqrt(mean) * math.hypot(relative, correlated), dispersion


def _slope_of_read_time(of: list[Group], t_read_s: float, spread: float) -> float:
    """Relative error of amplitudes from that of the read time."""
    if not spread:
        return 0.0
    ends = [seen(of, one_over_f(t_read_s * math.exp(side * 0.3))).scale_us2 for side in (-1, 1)]
    return abs(float(np.mean(np.log(ends[1] / ends[0])))) / 0.6 / 2 * min(spread, 3.0)


def _chance_of(dispersions: list[float], free: list[Array]) -> float:
    """Probability that the largest dispersion of the levels is as large where devices of a level have one noise.

    The dispersion of m devices has mean 1 and, as K_d is chi2 of n - 1, variance (2 + 12 / (n - 1)) / (m - 1): that of
    chi2 of (m - 1) / (1 + 6 / (n - 1)), over its mean.

    Args:
        dispersions: of the levels.
        free: n - 1 of the devices of each level.
    """
    freedom = [max(len(one) - 1, 1) / (1 + 6 * float(np.mean(1 / one))) for one in free]
    least = min(float(chdtrc(m, m * one)) for m, one in zip(freedom, dispersions, strict=True))
    return -math.expm1(len(dispersions) * math.log1p(-min(least, 1 - 1e-9)))


def _residual_checks(
    model: Seen, dispersions: list[float], free: list[Array]
) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """Tests of the noise that is left when each read is predicted from those before."""
    warnings = []
    products = np.array([(w[1:] * w[:-1]).sum() + w.var() for w in model.white])
    z = float(products.sum() / math.sqrt(sum(len(w) - 1 for w in model.white)))
    p = 2 * float(ndtr(-abs(z)))
    checks = [Check("neighbouring reads are as correlated as the fit says", f"z = {z:.2f}", p)]
    if p < UNLIKELY and abs(z) > 6:
        warnings.append(
            f"neighbouring reads are {'more' if z > 0 else 'less'} alike than the chosen noise says (z = {z:.1f}): its "
            "spectrum is neither white nor 1/f"
        )
    kurtosis = np.array([np.mean(w**4) / np.mean(w**2) ** 2 - 3 + 6 / (len(w) + 1) for w in model.white])
    mean = float(kurtosis.mean())
    error = float(np.mean([math.sqrt(24 / len(w)) for w in model.white]) / math.sqrt(len(kurtosis)))
    p = 2 * float(ndtr(-abs(mean) / error))
    checks.append(Check("reads are normal", f"excess kurtosis {mean:.2f}", p))
    if p < UNLIKELY and abs(mean) > 0.3:
        warnings.append(f"reads are not normally distributed (excess kurtosis {mean:.2f}); the effect is Gaussian")
    worst, p = max(dispersions), _chance_of(dispersions, free)
    if worst > UNLIKE and p < UNLIKELY:
        warnings.append(
            f"devices of one conductance differ in their noise, {worst:.1f} times what chance gives: no effect holds "
            "that spread; the mean variance is fitted"
        )
    checks.append(Check("devices of one conductance have one noise", f"largest dispersion {worst:.2f} (1 expected)", p))
    return tuple(checks), tuple(warnings)


def _differences(of: list[Group], white: Seen, coloured: Seen, t_read_s: float) -> Panel:
    """Mean square difference of two reads against the time between them, data and both models."""
    group = max(of, key=lambda one: one.reads_us.size)
    first = sum(len(one.device) for one in of[: [one is group for one in of].index(True)])
    mine = slice(first, first + len(group.device))
    y = group.reads_us / np.sqrt(white.scale_us2[mine])[:, None]
    i, j = np.triu_indices(len(group.times_s), 1)
    every, squares = group.times_s[j] - group.times_s[i], (y[:, j] - y[:, i]) ** 2
    edges = np.geomspace(every.min() * 0.99, every.max() * 1.01, LAGS + 1)
    bins = [np.flatnonzero((every >= low) & (every < high)) for low, high in pairwise(edges)]
    bins = [inside for inside in bins if len(inside)]
    lags = np.array([float(np.exp(np.log(every[inside]).mean())) for inside in bins])
    each = [squares[:, inside].mean(1) for inside in bins]
    value, error = np.array([e.mean() for e in each]), np.array([e.std() / math.sqrt(len(e)) for e in each])
    c = one_over_f(t_read_s)(np.append(0.0, lags)[None], group.age_s)[0]
    scale = float(np.mean(coloured.scale_us2[mine] / white.scale_us2[mine]))
    return Panel(
        "reads: white or 1/f",
        "time between two reads (s)",
        "mean square difference / variance",
        (
            Series("devices, 95 %", lags, value, 1.96 * error),
            Series("1/f", lags, 2 * scale * (c[0] - c[1:]), style="line"),
            Series("white", lags, np.full(len(lags), 2.0), style="dashed"),
        ),
        log_x=True,
    )


def _variance(fit: EffectFit, of: list[Group], g_max_us: float, t_read_s: float) -> Callable[[Array], Array]:
    """Variance of one read against conductance, in microsiemens squared."""
    known = [(p.key, p.value) for p in fit.parameters if " at " in p.key]
    if not known:
        return np.zeros_like
    g = np.array([float(key.split(" at ")[1].split()[0]) for key, _ in known])
    amplitude = np.array([value for _, value in known])
    if fit.name == "read-noise":
        return lambda at: np.interp(at, g, amplitude) ** 2
    age = float(np.median([group.age_s for group in of]))
    whole = float(one_over_f(t_read_s)(np.zeros((1, 1)), age)[0, 0])
    return lambda at: (at * np.interp(at, g, amplitude)) ** 2 * whole
