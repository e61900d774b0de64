"""Drift: conductances that change with the time since programming, as a power law or by wandering.

    power-law-drift:  ln G(t) = ln G(t0) - nu x,   x = ln(t / t0),   nu = |N(mu, s^2)| of each device
    relaxation:       G(t) = G(t0) + shift x + sigma(t) z(t),   whose increments are independent

At every level of the conductance the increments y between the times of the reads are normal, in ln G or in G,

    power law:   mean -mu dx,    covariance s^2 dx dx' + e^2 T
    relaxation:  mean shift dx,  covariance diag(w) + e^2 T

with T that of differences of independent reads (2 on the diagonal, -1 beside it). Both likelihoods are maximal at every
level; their sum, less half of ln n per parameter, decides (BIC). Error of writing is what is there at t0: relaxation
counts from there.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import chdtrc

from noisylearn.fitting.levels import UNLIKELY, CurveFit, Levels, curve_panels, fit_curve, grouped
from noisylearn.fitting.measurements import Measurements
from noisylearn.fitting.results import Array, Check, EffectFit, Panel, Parameter, Series

LEAST_DEVICES, LEAST_TIMES = 8, 3
STILL = 1e-6  # relative change of conductances below which there is no drift to speak of
LOWEST = 0.15  # of the mean of its level: a level with lower conductances is left out, the floor at zero bends it
TINY = 1e-12


class Paths(NamedTuple):
    """Conductances of devices at common times.

    Args:
        times_s: since programming, rising.
        g_us: (devices, times), means of the reads at each time.
        target_us: written conductance, where it was noted.
        reads: at each time of each device.
    """

    times_s: Array
    g_us: Array
    target_us: Array
    reads: float

    @property
    def x(self) -> Array:
        """ln(t / t0)."""
        return np.log(self.times_s / self.times_s[0])


class Fit(NamedTuple):
    """Largest likelihood of one model at one level.

    Args:
        cost: minus ln likelihood, with half of ln n for every parameter (BIC / 2).
        values: of its parameters, means first, then logarithms of standard deviations.
        covariance: of these.
    """

    cost: float
    values: Array
    covariance: Array


def fit_drift(made: Measurements, g_max_us: float) -> tuple[EffectFit, float | None]:
    """Fit drift as a power law, or as relaxation where that is likelier.

    Args:
        made: reads of the experiment "drift".
        g_max_us: largest conductance, in microsiemens.

    Returns:
        The fit, and the time from which drift counts, in seconds; None where there is none.
    """
    paths, left_out = _paths(made)
    if paths is None or len(paths.g_us) < LEAST_DEVICES or len(paths.times_s) < LEAST_TIMES:
        n, times = (0, 0) if paths is None else (len(paths.g_us), len(paths.times_s))
        refused = (
            f"{n} devices were read at {times} common times ({left_out} at others); {LEAST_DEVICES} devices at "
            f"{LEAST_TIMES} times are needed: read all devices at the same times"
        )
        return EffectFit("power-law-drift", refused=refused), None
    t0_s = float(paths.times_s[0])
    change = np.abs(np.diff(paths.g_us, axis=1)).max() / max(np.abs(paths.g_us).max(), TINY)
    if change < STILL:
        return EffectFit("power-law-drift", refused="conductances stay the same to six digits: nothing drifts"), t0_s
    chosen = _levels(paths)
    if not chosen:
        refused = f"no conductance well above zero was read on {LEAST_DEVICES} devices: program more devices"
        return EffectFit("power-law-drift", refused=refused), t0_s
    power = _power_laws(paths, chosen, g_max_us)
    walk = [_relaxation(np.diff(paths.g_us[g], axis=1), paths) for g in chosen]
    still = [_still(np.diff(paths.g_us[g], axis=1), paths) for g in chosen]
    jacobian = sum(float(np.log(paths.g_us[g][:, 1:]).sum()) for g in chosen)
    scores = {
        "power-law-drift": sum(fit.cost for fit in power) + jacobian,
        "relaxation": sum(fit.cost for fit in walk),
        "no drift": sum(fit.cost for fit in still),
    }
    best = min(scores, key=scores.__getitem__)
    other = min(value for name, value in scores.items() if name != best)
    check = Check(
        "power law, relaxation or none, by BIC / 2", f"{best} by {other - scores[best]:.1f} over the next", math.nan
    )
    if best == "no drift":
        refused = "conductances change no more than their read noise: nothing drifts within the time measured"
        return EffectFit("power-law-drift", refused=refused, checks=(check,)), t0_s
    if best == "relaxation":
        return _as_relaxation(paths, chosen, walk, g_max_us, check), t0_s
    return _as_power_law(paths, chosen, power, g_max_us, check), t0_s


def _paths(made: Measurements) -> tuple[Paths | None, int]:
    """Mean conductances of all devices that were read at the times at which most were, and how many were not."""
    found: dict[bytes, list[tuple[Array, Array, float, float]]] = {}
    for series in made.series():
        times, place, counts = np.unique(np.round(series.time_s, 9), return_inverse=True, return_counts=True)
        g = np.bincount(place, series.conductance_us) / counts
        target = float(series.target_us[0])
        found.setdefault(times.tobytes(), []).append((times, g, target, float(counts.mean())))
    if not found:
        return None, 0
    most = max(found.values(), key=len)
    left_out = sum(map(len, found.values())) - len(most)
    columns = [np.array([one[i] for one in most]) for i in range(1, 4)]
    return Paths(most[0][0], columns[0], columns[1], float(columns[2].mean())), left_out


def _levels(paths: Paths) -> list[Array]:
    """Devices of much the same conductance, well above zero at all times."""
    g0 = paths.g_us[:, 0]
    written = np.where(np.isfinite(paths.target_us), paths.target_us, g0)
    groups = grouped(written, LEAST_DEVICES)
    return [g for g in groups if (paths.g_us[g] > LOWEST * paths.g_us[g].mean(0)).all() and (paths.g_us[g] > 0).all()]


def _maximised(cost: Any, start: Array, n: int) -> Fit:
    """Largest likelihood, with the covariance from its curvature; the price of the parameters is part of the cost."""
    from scipy.optimize import minimize

    found = minimize(cost, start, method="BFGS")
    found = minimize(cost, found.x, method="BFGS")  # again, where the first was stopped by rounding
    return Fit(float(found.fun) + len(start) * math.log(n) / 2, found.x, np.linalg.pinv(_curvature(cost, found.x)))


def _curvature(cost: Any, at: Array) -> Array:
    """Second derivatives, by differences."""
    n, h = len(at), np.maximum(1e-3 * np.abs(at), 1e-4)
    steps = np.diag(h)
    matrix = np.empty((n, n))
    for i in range(n):
        for j in range(i, n):
            signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
            four = [a * b * cost(at + a * steps[i] + b * steps[j]) for a, b in signs]
            matrix[i, j] = matrix[j, i] = sum(four) / (4 * h[i] * h[j])
    return matrix


def _normal_cost(y: Array, mean: Array, covariance: Array) -> float:
    """Minus ln likelihood of rows of a multivariate normal variable, without its constant."""
    try:
        root = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return math.inf
    z = np.linalg.solve(root, (y - mean).T)
    return float((z**2).sum() / 2 + len(y) * np.log(np.diag(root)).sum())


def _differences(n: int) -> Array:
    """T, the covariance of the n differences of n + 1 independent reads."""
    return 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)


def _power_laws(paths: Paths, chosen: list[Array], g_max_us: float) -> list[Fit]:
    """Power law at every level; the second time with the mean exponent of each device at its own conductance."""
    r = [paths.g_us[g, 0] / g_max_us for g in chosen]
    offsets = [np.zeros(len(g)) for g in chosen]
    for _ in range(2):
        increments = [np.diff(np.log(paths.g_us[g]), axis=1) for g in chosen]
        own = [y + np.outer(by, np.diff(paths.x)) for y, by in zip(increments, offsets, strict=True)]
        fits = [_power_law(y, paths) for y in own]
        mean, _ = _exponents(r, fits)
        curve = fit_curve(mean, "exponent_mean", False)
        offsets = [curve(one) - curve(one.mean()) for one in r]
    return fits


def _exponents(r: list[Array], fits: list[Fit]) -> tuple[Levels, Levels]:
    """Mean and spread of the exponents at every level."""
    at, n = np.array([one.mean() for one in r]), np.array([len(one) for one in r])
    errors = np.array([np.sqrt(np.abs(np.diag(fit.covariance))) for fit in fits])
    values = np.array([fit.values for fit in fits])
    spread = np.exp(values[:, 1])
    return Levels(at, values[:, 0], errors[:, 0], n), Levels(at, spread, spread * np.minimum(errors[:, 1], 10.0), n)


def _power_law(y: Array, paths: Paths) -> Fit:
    """mu, ln s and ln e of the power law, from increments of ln G."""
    dx = np.diff(paths.x)
    t = _differences(len(dx))
    nu = -(y @ dx) / (dx @ dx)
    e = max(float(np.sqrt(((y + np.outer(nu, dx)) ** 2).mean() / 2)), 1e-9)

    def cost(theta: Array) -> float:
        s, noise = np.exp(np.clip(theta[1:], -25, 10))
        return _normal_cost(y, -theta[0] * dx, s**2 * np.outer(dx, dx) + (noise**2 + 1e-18) * t)

    start = np.array([nu.mean(), math.log(max(nu.std(), 1e-6)), math.log(e)])
    return _maximised(cost, start, len(y))


def _relaxation(y: Array, paths: Paths) -> Fit:
    """shift, ln sqrt(w) of every increment and ln e of relaxation, from increments of G."""
    dx = np.diff(paths.x)
    t = _differences(len(dx))
    scale = max(float(y.std()), TINY)

    def cost(theta: Array) -> float:
        w, noise = np.exp(np.clip(theta[1:-1], -25, 25)) ** 2, math.exp(min(max(theta[-1], -25), 25))
        return _normal_cost(y, theta[0] * dx, np.diag(w) + (noise**2 + (1e-7 * scale) ** 2) * t)

    start = np.array([(y @ dx).mean() / (dx @ dx), *np.log(np.maximum(y.std(0), 1e-3 * scale)), math.log(scale / 4)])
    return _maximised(cost, start, len(y))


def _still(y: Array, paths: Paths) -> Fit:
    """ln e where nothing but the noise of reads changes."""
    t = _differences(y.shape[1])

    def cost(theta: Array) -> float:
        return _normal_cost(y, np.zeros(y.shape[1]), math.exp(2 * min(max(theta[0], -25), 25)) * t)

    return _maximised(cost, np.array([math.log(max(float(y.std()), TINY))]), len(y))


def _as_power_law(paths: Paths, chosen: list[Array], fits: list[Fit], g_max_us: float, check: Check) -> EffectFit:
    """Exponents against conductance."""
    mean, spreads = _exponents([paths.g_us[g, 0] / g_max_us for g in chosen], fits)
    values = np.array([fit.values for fit in fits])
    curves = {"exponent_mean": fit_curve(mean, "exponent_mean", False), "exponent_spread": _spread_curve(spreads)}
    away = [
        (np.diff(np.log(paths.g_us[g]), axis=1) + v[0] * np.diff(paths.x)) for g, v in zip(chosen, values, strict=True)
    ]
    dx = np.diff(paths.x)
    noise = [np.exp(fit.values[1:]) ** 2 for fit in fits]
    covariances = [s2 * np.outer(dx, dx) + e2 * _differences(len(dx)) for s2, e2 in noise]
    straight, warnings = _straightness(away, covariances, paths)
    numbers = {key: curve.table() for key, curve in curves.items()}
    parameters = (
        *mean.parameters("exponent_mean", g_max_us, False),
        *spreads.parameters("exponent_spread", g_max_us, True),
        *(p for key, curve in curves.items() for p in curve.parameters(key)),
    )
    panels = (
        _path_panel(paths, chosen, [(v[0], None) for v in values]),
        *curve_panels(mean, curves["exponent_mean"], "drift exponent: mean", g_max_us),
        *curve_panels(spreads, curves["exponent_spread"], "drift exponent: spread", g_max_us),
    )
    checks = (check, *(curve.check for curve in curves.values()), straight)
    return EffectFit("power-law-drift", parameters, numbers, (), checks, panels, warnings)


def _spread_curve(spreads: Levels) -> CurveFit:
    """Curve of the spread of exponents; levels where it cannot be told from zero do not take part."""
    clear = spreads.error < 0.7 * spreads.value
    if not clear.any():
        clear = np.ones(len(spreads.r), bool)
    return fit_curve(
        Levels(*(getattr(spreads, key)[clear] for key in ("r", "value", "error", "n"))), "exponent_spread", True
    )


def _straightness(away: list[Array], covariances: list[Array], paths: Paths) -> tuple[Check, tuple[str, ...]]:
    """Whether drift is straight in ln t: the mean increments of every level off the fit, against their errors.

    Args:
        away: increments less their fitted mean, (devices, times - 1) at every level.
        covariances: of one device's increments, as fitted, at every level.
        paths: conductances.
    """
    chi2, free, worst = 0.0, 0, (0.0, 0)
    for y, covariance in zip(away, covariances, strict=True):
        mean = y.mean(0)
        chi2 += float(len(y) * mean @ np.linalg.solve(covariance, mean))
        free += len(mean) - 1
        z = np.abs(mean) / np.sqrt(np.diag(covariance) / len(y))
        worst = max(worst, (float(z.max()), int(z.argmax())))
    p = float(chdtrc(max(free, 1), chi2)) if free else math.nan
    check = Check("drift is straight in ln t", f"chi2 = {chi2:.3g} of {free}", p)
    if not p < UNLIKELY:
        return check, ()
    a, b = paths.times_s[worst[1]], paths.times_s[worst[1] + 1]
    warning = (
        f"drift is not straight in ln t ({check.statistic}), most of all between {a:.3g} s and {b:.3g} s: no effect "
        "holds that; fit the times before or after"
    )
    return check, (warning,)


def _as_relaxation(paths: Paths, chosen: list[Array], fits: list[Fit], g_max_us: float, check: Check) -> EffectFit:
    """Standard deviation at every time against conductance, and the mean shift."""
    r = np.array([paths.g_us[g, 0].mean() for g in chosen]) / g_max_us
    n = np.array([len(g) for g in chosen])
    growth = [np.cumsum(np.exp(2 * np.clip(fit.values[1:-1], -25, 25))) for fit in fits]
    errors = [_growth_errors(fit) for fit in fits]
    weights = np.array([1 / max(fit.covariance[0, 0], TINY) for fit in fits])
    shifts = np.array([fit.values[0] for fit in fits])
    shift, shift_error = float((weights * shifts).sum() / weights.sum()), float(1 / math.sqrt(weights.sum()))
    curves: list[CurveFit] = []
    parameters: list[Parameter] = []
    panels: list[Panel] = []
    for k, t in enumerate(paths.times_s[1:]):
        sigma = np.sqrt([one[k] for one in growth])
        levels = Levels(r, sigma, np.array([one[k] for one in errors]) / (2 * sigma), n)
        curves.append(fit_curve(levels, f"sigma_us at {t:.3g} s", True))
        parameters += levels.parameters(f"sigma_us after {t:.4g} s", g_max_us, True)
        if k in (0, len(paths.times_s) - 2):
            panels += curve_panels(levels, curves[-1], f"spread after {t:.3g} s (uS)", g_max_us)
    parameters.append(Parameter.normal("shift_us_per_log_time", shift, shift_error))
    chi2 = float((weights * (shifts - shift) ** 2).sum())
    alike, warnings = _one_shift(chi2, shifts, r, g_max_us)
    dx = np.diff(paths.x)
    away = [np.diff(paths.g_us[g], axis=1) - own * dx for g, own in zip(chosen, shifts, strict=True)]
    noise = [np.exp(2 * np.clip(fit.values[1:], -25, 25)) for fit in fits]
    straight, bent = _straightness(away, [np.diag(e2[:-1]) + e2[-1] * _differences(len(dx)) for e2 in noise], paths)
    numbers = {
        "reference_g_max_us": g_max_us,
        "times_s": [float(t) for t in paths.times_s],
        "sigma_us": [{"polynomial": [0.0]}, *(curve.table() for curve in curves)],
        "shift_us_per_log_time": shift,
    }
    panels.insert(0, _path_panel(paths, chosen, [(None, shift)] * len(chosen)))
    checks = (check, alike, straight, *(curve.check for curve in curves))
    return EffectFit("relaxation", tuple(parameters), numbers, (), checks, tuple(panels), warnings + bent)


def _growth_errors(fit: Fit) -> Array:
    """Standard errors of the sums of w."""
    w = np.exp(2 * np.clip(fit.values[1:-1], -25, 25))
    slope = np.tril(np.ones((len(w), len(w)))) * (2 * w)
    return np.sqrt(np.maximum(np.diag(slope @ fit.covariance[1:-1, 1:-1] @ slope.T), TINY**2))


def _one_shift(chi2: float, shifts: Array, r: Array, g_max_us: float) -> tuple[Check, tuple[str, ...]]:
    """Whether all conductances shift alike, as the effect has it."""
    p = float(chdtrc(len(shifts) - 1, chi2)) if len(shifts) > 1 else math.nan
    check = Check("all conductances shift alike", f"chi2 = {chi2:.3g} of {len(shifts) - 1}", p)
    if not p < UNLIKELY:
        return check, ()
    i, j = int(shifts.argmin()), int(shifts.argmax())
    return check, (
        f"the mean shift depends on the conductance, {shifts[i]:.3g} uS per unit of ln t at {r[i] * g_max_us:.3g} uS "
        f"and {shifts[j]:.3g} at {r[j] * g_max_us:.3g} uS: relaxation has one shift for all, their mean is fitted",
    )


def _path_panel(paths: Paths, chosen: list[Array], models: list[tuple[float | None, float | None]]) -> Panel:
    """Mean conductance of every level over time, with the fit."""
    series = []
    for number, (group, (exponent, shift)) in enumerate(zip(chosen, models, strict=True)):
        g = paths.g_us[group]
        error = 1.96 * g.std(0) / math.sqrt(len(g))
        line = g[:, 0].mean() + (shift or 0.0) * paths.x
        if exponent is not None:
            line = g[:, 0].mean() * np.exp(-exponent * paths.x)
        series.append(Series("", paths.times_s, g.mean(0), error))
        series.append(Series("" if number else "fit", paths.times_s, line, style="dashed"))
    return Panel(
        "drift: mean of each level, 95 %", "time since programming (s)", "conductance (uS)", tuple(series), log_x=True
    )
