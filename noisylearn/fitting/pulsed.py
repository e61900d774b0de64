"""Pulsed devices: how far one pulse moves a device, up and down, against its state, and where it ends.

The reads w_k of a device follow one another with m pulses of direction d between them. Where the mean step is linear in
the state, d i_d (1 - w / a_d) per pulse, it holds exactly that

    w_(k+1) = w_k + alpha + beta w_k + noise,   1 + beta = (1 - i_d / |a_d|)^m,   a_d = -alpha / beta

which is a regression for every device and direction. A read differs from the state by write noise, which would pull
beta towards -1; where the residuals of neighbours show such noise, the read before is the instrument of w_k. The
residuals u_k have, with the noise C of m pulses and the write noise v,

    var(u) = C + (1 + (1 + beta)^2) v,   cov(u_k, u_(k+1)) = -(1 + beta) v

Devices are the sample: the mean and the spread of their numbers are those of greatest likelihood, given the error of
each. Which step is chosen follows from the numbers: see `kind_of_step`.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from noisylearn.fitting.levels import UNLIKELY
from noisylearn.fitting.measurements import Measurements
from noisylearn.fitting.results import Array, Check, EffectFit, Panel, Parameter, Series

LEAST_DEVICES, LEAST_STEPS = 8, 20
CENTRE = (0.12, 0.88)  # share of a device's range in which steps are fitted: beyond, bounds cut them off
DEAD = 0.1  # of the median movement: devices that move less do not answer to pulses
BINS = 10  # of the state
END = 0.15  # of a train, whose reads give a bound


class Trains(NamedTuple):
    """Reads of devices that were pulsed alike.

    Args:
        w: (devices, reads), states in units of full scale.
        pulse: signed pulses before every read.
        device: names.
    """

    w: Array
    pulse: Array
    device: Array


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


def fit_pulsed(
    made: Measurements, zero_us: float | None, full_scale_us: float | None
) -> tuple[EffectFit, tuple[float, float]]:
    """Fit a pulsed device.

    Args:
        made: reads of the experiment "pulse".
        zero_us: conductance at w = 0; None for the middle of the range, or the lowest conductance of one-sided devices.
        full_scale_us: conductance that w = 1 adds; None for half of the range, or the whole one of one-sided devices.

    Returns:
        The fit, and the two conductances, in microsiemens.
    """
    trains, left_out = _trains(made)
    if trains is None or len(trains.w) < LEAST_DEVICES or trains.w.shape[1] <= LEAST_STEPS:
        n, steps = (0, 0) if trains is None else (len(trains.w), trains.w.shape[1] - 1)
        refused = (
            f"{n} devices were read after {steps} equal trains of pulses ({left_out} after others); {LEAST_DEVICES} "
            f"devices with more than {LEAST_STEPS} reads are needed: pulse all devices alike"
        )
        return EffectFit("pulsed-device", refused=refused), (0.0, 1.0)
    scale = _scale(trains, zero_us, full_scale_us)
    trains = trains._replace(w=(trains.w - scale[0]) / scale[1])
    movement = _movement(trains)
    dead = movement < DEAD * np.median(movement)
    alive = trains._replace(w=trains.w[~dead], device=trains.device[~dead])
    if len(alive.w) < LEAST_DEVICES or not np.median(movement) > 0:
        refused = f"{len(alive.w)} devices follow their pulses, {LEAST_DEVICES} are needed: the others do not move"
        return EffectFit("pulsed-device", refused=refused), scale
    signs = [d for d in (1.0, -1.0) if (d * alive.pulse > 0).any()]
    if 1.0 not in signs:
        return EffectFit("pulsed-device", refused="no pulses go up (pulse > 0): give a train of them"), scale
    lines = {d: _line(alive, d) for d in signs}
    if any(line is None for line in lines.values()):
        refused = "fewer than 20 reads lie between the bounds: send fewer pulses between two reads"
        return EffectFit("pulsed-device", refused=refused), scale
    return _fitted(alive, {d: line for d, line in lines.items() if line is not None}, dead), scale


def _trains(made: Measurements) -> tuple[Trains | None, int]:
    """Reads of the devices with the most common sequence of pulses, and how many devices had another."""
    found: dict[bytes, list[Measurements]] = {}
    for series in made.series():
        found.setdefault(series.pulse.tobytes(), []).append(series)
    if not found:
        return None, 0
    most = max(found.values(), key=len)
    w = np.stack([one.conductance_us for one in most])
    return Trains(w, most[0].pulse, np.array([one.device[0] for one in most])), sum(map(len, found.values())) - len(
        most
    )


def _scale(trains: Trains, zero_us: float | None, full_scale_us: float | None) -> tuple[float, float]:
    """Conductances at w = 0 and of w = 1 beyond it."""
    low, high = (float(np.median(np.quantile(trains.w, q, axis=1))) for q in (0.02, 0.98))
    one_sided = not (trains.pulse < 0).any()
    zero = zero_us if zero_us is not None else low if one_sided else (low + high) / 2
    return zero, full_scale_us if full_scale_us is not None else max(high - zero, 1e-9)


def _ends(trains: Trains) -> list[tuple[float, int, int]]:
    """Direction, first and last read of every train."""
    sign = np.sign(trains.pulse)
    starts = [k for k in range(1, len(sign)) if sign[k] and sign[k] != sign[k - 1]]
    return [(float(sign[a]), a - 1, b - 1) for a, b in zip(starts, [*starts[1:], len(sign)], strict=True)]


def _movement(trains: Trains) -> Array:
    """Mean movement of every device along the pulses of a train."""
    moved = [d * (trains.w[:, last] - trains.w[:, first]) for d, first, last in _ends(trains)]
    return np.mean(moved, axis=0)


def _line(trains: Trains, direction: float) -> Line | None:
    """Regression of the steps of one direction on the state, for every device."""
    w, pulse = trains.w, trains.pulse
    values, counts = np.unique(pulse[pulse * direction > 0], return_counts=True)
    m = float(abs(values[counts.argmax()]))
    steps = np.flatnonzero(pulse == direction * m)
    steps = steps[steps >= 2]
    y, x = (w[:, steps] - w[:, steps - 1]), w[:, steps - 1]
    low, high = (np.quantile(w, q, axis=1, keepdims=True) for q in (0.02, 0.98))
    inside = (w > low + CENTRE[0] * (high - low)) & (w < low + CENTRE[1] * (high - low))
    follows = np.diff(steps, append=-1) == 1
    found = _regressed(y, x, x, inside[:, steps - 1], follows)
    if found is None:
        return None
    write, write_error = np.zeros(len(w)), 0.0
    if _pooled(found) < -4 / math.sqrt(found.free.sum()):
        found = _regressed(y, x, w[:, steps - 2], inside[:, steps - 2], follows) or found
        variances = -(found.lag + 2 * found.variance / found.free) / np.maximum(1 + found.beta, 0.2)
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
    """Correlation of neighbouring residuals over all devices, without what the two fitted numbers make of it."""
    good = np.isfinite(of.lag)
    return float(((of.lag + 2 * of.variance / of.free) * of.free)[good].sum() / (of.variance * of.free)[good].sum())


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
    beta = (zs * y).sum(1) / sxz
    middle = (keep * y).sum(1) / np.where(n > 4, n, np.nan)
    u = keep * (y - middle[:, None] - beta[:, None] * (x - centre))
    free = np.maximum(n - 2, 1)
    variance = (u**2).sum(1) / free
    both = keep[:, :-1] * keep[:, 1:] * follows[:-1]
    lag = (u[:, :-1] * u[:, 1:] * both).sum(1) / np.maximum(both.sum(1), 1)
    pooled = lag.sum() / variance.sum()

    def of_sum(a: Array, b: Array) -> Array:
        pairs = a[:, :-1] * b[:, 1:] + a[:, 1:] * b[:, :-1]
        return variance * np.maximum(
            (keep * a * b).sum(1) + pooled * (pairs * both).sum(1), 0.05 * (keep * a * b).sum(1)
        )

    one = np.ones_like(zs)
    var_beta, var_middle = of_sum(zs, zs) / sxz**2, of_sum(one, one) / np.maximum(n, 1) ** 2
    at_zero = np.sqrt(var_middle + centre[:, 0] ** 2 * var_beta)
    alpha = middle - beta * centre[:, 0]
    correlation = -centre[:, 0] * np.sqrt(var_beta) / np.maximum(at_zero, 1e-30)
    return _Regression(alpha, beta, np.stack([at_zero, np.sqrt(var_beta)], 1), correlation, variance, lag, n)


def kind_of_step(trains: Trains, lines: dict[float, Line], plateaus: dict[float, Array], curved: bool) -> str:
    """Which step the profile states: "exponential", "constant", "linear" or "soft-bounds".

    Bounds are soft where the trains end as far out as steps that vanish at a_d lead: at a_d, less what is missing after
    so many pulses, and less what the noise of pulses that cannot cross a_d holds it back by.

    Args:
        trains: reads.
        lines: of the devices, by direction.
        plateaus: in which the trains of each device end, by direction.
        curved: whether steps are no straight function of the state.
    """
    if curved:
        return "exponential"
    if all(_is_flat(line) for line in lines.values()):
        return "constant"
    soft = []
    for d, line in lines.items():
        zero, rate = d * np.median(-line.intercept / line.slope), float(-d * np.median(line.slope))
        if rate <= 0 or zero <= 0:
            return "linear"
        pulses = float(
            np.abs(trains.pulse[np.sign(trains.pulse) == d]).sum() / sum(way == d for way, _, _ in _ends(trains))
        )
        held = HALF_NORMAL * math.sqrt(max(float(np.nanmedian(line.cycle)), 0.0) / (2 * rate))
        reached = zero - (zero - d * float(np.median(plateaus.get(-d, np.zeros(1))))) * math.exp(
            -rate * pulses * (1 - END / 2)
        )
        soft.append(d * float(np.median(plateaus[d])) > SOFT * (reached - held))
    return "soft-bounds" if all(soft) else "linear"


SOFT, HALF_NORMAL = 0.93, 0.8  # of what soft bounds let a train reach; mean of |z|


def _is_flat(line: Line) -> bool:
    """Whether steps are the same at all states."""
    slope = population(line.slope, line.errors[:, 1])
    return abs(slope.mean) < max(4 * slope.mean_error, 0.01 * abs(float(np.nanmedian(line.intercept))))


def _slopes(lines: dict[float, Line], bounds: dict[float, Population]) -> dict[float, Population]:
    """gamma of step = dw (1 - gamma w / bound) over devices, by direction."""
    gammas = {}
    for d, line in lines.items():
        ratio = line.slope / line.intercept
        square = line.errors[:, 1] ** 2 + (ratio * line.errors[:, 0]) ** 2
        square = square - 2 * ratio * line.correlation * line.errors[:, 0] * line.errors[:, 1]
        unit = abs(bounds[d].mean) / np.abs(line.intercept)
        gammas[d] = population(-ratio * bounds[d].mean, unit * np.sqrt(np.maximum(square, 0)))
    return gammas


def _fitted(trains: Trains, lines: dict[float, Line], dead: Array) -> EffectFit:
    """All numbers of the device."""
    plateaus = {d: _plateau(trains, d) for d in lines}
    curves = {d: step_curve(trains, line, d) for d, line in lines.items()}
    checks, warnings, curved = _straight(curves)
    kind = kind_of_step(trains, lines, {d: plateau[0] for d, plateau in plateaus.items()}, curved)
    bounds = {d: population(*(_zero_of_step(lines[d]) if kind == "soft-bounds" else plateaus[d])) for d in lines}
    steps, parameters = _steps(lines)
    numbers: dict[str, Any] = {"step": kind, **steps}
    for d, bound in bounds.items():
        key = "w_max" if d > 0 else "w_min"
        relative = _relative(bound, abs(bound.mean))
        numbers |= {key: bound.mean, f"{key}_spread": relative.spread}
        parameters += [Parameter.normal(key, bound.mean, bound.mean_error), _spread(f"{key}_spread", relative)]
    if kind == "linear":
        more, more_parameters = _gammas(_slopes(lines, bounds))
        numbers, parameters = numbers | more, parameters + more_parameters
    if kind == "exponential":
        more, parameters = exponential(curves, bounds, steps, parameters)
        numbers |= more
    noise, noise_parameters, check = _noise(lines, curves, numbers["dw_min"])
    share = Parameter.share("dead_share", int(dead.sum()), len(dead))
    numbers |= noise | ({"dead_share": share.value} if share.value else {})
    if -1.0 not in lines:
        numbers |= {"one_sided": True, "w_min": 0.0, "w_min_spread": 0.0}
    panels = (_train_panel(trains), *_step_panels(curves), _devices_panel(lines))
    return EffectFit(
        "pulsed-device", (*parameters, *noise_parameters, share), numbers, (), (*checks, check), panels, tuple(warnings)
    )


def _relative(of: Population, unit: float) -> Population:
    """Mean and spread in a unit."""
    return Population(*(one / unit for one in of))


def _gammas(gammas: dict[float, Population]) -> tuple[dict[str, Any], list[Parameter]]:
    """Slopes of linear steps; those of one-sided devices hold both ways."""
    up, down = gammas[1.0], gammas.get(-1.0, gammas[1.0])
    spread = math.hypot(up.spread, down.spread) / math.sqrt(2)
    error = math.hypot(up.spread_error, down.spread_error) / 2
    parameters = [
        *(Parameter.normal(f"gamma_{'up' if d > 0 else 'down'}", g.mean, g.mean_error) for d, g in gammas.items()),
        _spread("gamma_spread", Population(0, 0, spread, error)),
    ]
    return {"gamma_up": up.mean, "gamma_down": down.mean, "gamma_spread": spread}, parameters


def _steps(lines: dict[float, Line]) -> tuple[dict[str, Any], list[Parameter]]:
    """dw_min, its spread and the asymmetry, from the steps of all devices at w = 0."""
    up = lines[1.0]
    u = population(up.intercept, up.errors[:, 0])
    if -1.0 not in lines:
        numbers = {"dw_min": u.mean, "dw_min_spread": u.spread / u.mean, "up_down": 0.0, "up_down_spread": 0.0}
        relative = _relative(u, u.mean)
        return numbers, [Parameter.positive("dw_min", u.mean, u.mean_error), _spread("dw_min_spread", relative)]
    down = lines[-1.0]
    both = np.isfinite(up.intercept + down.intercept)
    a, b = up.intercept[both], down.intercept[both]
    ea, eb = up.errors[both, 0], down.errors[both, 0]
    half, error = (a + b) / 2, np.hypot(ea, eb) / 2
    is_log = _is_lognormal(half, error)
    ratio = population(np.log(np.maximum(a, 1e-12) / np.maximum(b, 1e-12)), np.hypot(ea / np.abs(a), eb / np.abs(b)))
    asymmetry = population((a - b) / 2, error)
    middle = population(np.log(np.maximum(half, 1e-12)), error / half) if is_log else population(half, error)
    center = math.exp(middle.mean) if is_log else middle.mean
    shift = 2 * asymmetry.mean / center if not is_log else math.tanh(ratio.mean / 2) * 2
    shift_error = 2 * asymmetry.mean_error / center if not is_log else ratio.mean_error
    dw_min = center * (1 + abs(shift) / 2)
    dw_error = center * middle.mean_error if is_log else middle.mean_error
    up_down = shift / (1 + abs(shift) / 2)
    spreads = {
        "dw_min_spread": _relative(middle, 1.0 if is_log else dw_min),
        "up_down_spread": _relative(asymmetry, dw_min),
    }
    numbers = {"dw_min": dw_min, "up_down": up_down} | {key: one.spread for key, one in spreads.items()}
    parameters = [
        Parameter.positive("dw_min", dw_min, math.hypot(dw_error, dw_min * shift_error / 2)),
        Parameter.normal("up_down", up_down, shift_error),
        *(_spread(key, one) for key, one in spreads.items()),
    ]
    return numbers | ({"dw_min_distribution": "lognormal"} if is_log else {}), parameters


def _is_lognormal(value: Array, error: Array) -> bool:
    """Whether steps are likelier lognormal than normal over devices."""
    value = value[np.isfinite(value)]
    if (value <= 0).mean() > 0.05 or value.std() < 0.15 * abs(value.mean()):
        return False
    positive = value[value > 0]
    logs = np.log(positive)
    gain = len(positive) * (math.log(positive.std()) - math.log(logs.std())) - float(logs.sum())
    return gain > 4.0


def _spread(key: str, of: Population) -> Parameter:
    """A standard deviation over devices as a parameter."""
    low = max(of.spread**2 - 2 * of.spread * 1.96 * of.spread_error, 0.0)
    high = of.spread**2 + 1.96 * max(2 * of.spread * of.spread_error, of.spread_error**2 * 2)
    return Parameter(key, of.spread, of.spread_error, math.sqrt(low), math.sqrt(high))


def _plateau(trains: Trains, direction: float) -> tuple[Array, Array]:
    """State in which the trains of one direction end, and its standard error, for every device."""
    ends = []
    for d, first, last in _ends(trains):
        if d == direction:
            tail = max(int(END * (last - first)), 1)
            ends.append(trains.w[:, last - tail + 1 : last + 1])
    every = np.concatenate(ends, 1)
    return every.mean(1), every.std(1) / math.sqrt(every.shape[1])


def _zero_of_step(line: Line) -> tuple[Array, Array]:
    """State at which a step vanishes, and its standard error, for every device."""
    at = -line.intercept / line.slope
    relative = np.sqrt(
        (line.errors[:, 0] / line.intercept) ** 2
        + (line.errors[:, 1] / line.slope) ** 2
        - 2 * line.correlation * line.errors[:, 0] * line.errors[:, 1] / (line.intercept * line.slope)
    )
    return at, np.abs(at) * relative


class StepCurve(NamedTuple):
    """Mean step of all devices against the place in their own range.

    Args:
        w: mean state of every bin.
        step: mean step per pulse.
        away: of it, what lies off the devices' own lines.
        error: standard error of that.
        variance: of one pulse's noise, in units of the squared step at the devices' centre.
        relative: step in units of the step at the devices' centre.
        squares: (devices,), mean square of a device's own steps, on its line.
    """

    w: Array
    step: Array
    away: Array
    error: Array
    variance: Array
    relative: Array
    squares: Array


def step_curve(trains: Trains, line: Line, direction: float) -> StepCurve:
    """Mean steps of one direction in bins of the place in each device's own range.

    Args:
        trains: reads.
        line: of the devices.
        direction: +1 or -1.
    """
    w, pulse = trains.w, trains.pulse
    values, counts = np.unique(pulse[pulse * direction > 0], return_counts=True)
    m = float(abs(values[counts.argmax()]))
    steps = np.flatnonzero(pulse == direction * m)
    steps = steps[steps >= 2]
    y = direction * (w[:, steps] - w[:, steps - 1]) / m
    middle = (w[:, steps] + w[:, steps - 1]) / 2
    seen = w[:, steps - 2] if line.write.any() else w[:, steps - 1]
    low, high = (np.quantile(w, q, axis=1, keepdims=True) for q in (0.02, 0.98))
    place = (seen - low) / np.maximum(high - low, 1e-12)
    bins = np.floor((place - CENTRE[0]) / (CENTRE[1] - CENTRE[0]) * BINS)
    own = line.intercept[:, None] + line.slope[:, None] * middle
    centre = np.maximum(line.intercept + line.slope * (low + high)[:, 0] / 2, 1e-12)[:, None]
    noise = m * (y - own) ** 2 - (1 + (1 + m * line.slope[:, None] * direction) ** 2) * line.write[:, None] / m
    good = np.isfinite(own)
    rows = []
    for k in range(BINS):
        here = (bins == k) & good
        n = here.sum(1)
        some = n > 0
        if some.sum() < LEAST_DEVICES:
            continue
        device = (np.where(here, y - own, 0).sum(1)[some] / n[some], np.where(here, own, 0).sum(1)[some] / n[some])
        weight = n[some] / n[some].sum()
        away = float((weight * device[0]).sum())
        error = float(np.sqrt((weight**2 * (device[0] - away) ** 2).sum()))
        step = float((weight * device[1]).sum()) + away
        rows.append(
            (middle[here].mean(), step, away, error, (noise / centre**2)[here].mean(), (own / centre)[here].mean())
        )
    inside = (bins >= 0) & (bins < BINS) & good
    squares = np.where(inside, own, 0.0) ** 2
    w_of, step_of, away_of, error_of, variance_of, relative_of = np.array(rows).T
    of_devices = squares.sum(1) / np.maximum(inside.sum(1), 1)
    return StepCurve(w_of, step_of, away_of, error_of, variance_of, relative_of, of_devices)


def _straight(curves: dict[float, StepCurve]) -> tuple[list[Check], list[str], bool]:
    """Whether steps are straight functions of the state, and rise or fall alone."""
    from scipy.special import chdtrc

    checks, warnings, curved = [], [], False
    for d, curve in curves.items():
        way = "up" if d > 0 else "down"
        chi2 = float(((curve.away / curve.error) ** 2).sum())
        p = float(chdtrc(len(curve.w) - 2, chi2))
        bend = float(np.abs(curve.away).max() / np.abs(curve.step).mean())
        checks.append(Check(f"steps {way} are linear in the state", f"chi2 = {chi2:.3g} of {len(curve.w) - 2}", p))
        top = int(curve.step.argmax())
        rise = min(curve.step[top] - curve.step[0], curve.step[top] - curve.step[-1])
        if (
            p < UNLIKELY
            and 0 < top < len(curve.w) - 1
            and rise > max(6 * float(curve.error.max()), 0.1 * curve.step[top])
        ):
            warnings.append(
                f"steps {way} are largest in the middle, at w = {curve.w[top]:.2f} ({curve.step[top]:.3g} per pulse, "
                f"{curve.step[0]:.3g} and {curve.step[-1]:.3g} at the ends): no step of the profile is like that"
            )
        elif p < UNLIKELY and bend > BEND:
            curved = True
    return checks, warnings, curved


BEND = 0.08  # of the mean step: a smaller deviation from a straight line does not ask for another form


def exponential(
    curves: dict[float, StepCurve], bounds: dict[float, Population], steps: dict[str, Any], parameters: list[Parameter]
) -> tuple[dict[str, Any], list[Parameter]]:
    """Exponential steps through the mean steps: dw_d (1 - A_d exp(d gamma_d z)), z = -w / (w_max - w_min).

    Args:
        curves: mean steps by direction.
        bounds: of the states by direction.
        steps: numbers of the linear fit.
        parameters: of the linear fit; those of the mean step are replaced.

    Returns:
        Numbers and parameters. a = -0.5 and b_shift = 0: other choices mean the same device.
    """
    from scipy.optimize import least_squares

    width = bounds[1.0].mean - (bounds[-1.0].mean if -1.0 in bounds else 0.0)
    found = {}
    for d, curve in curves.items():
        x = d * curve.w / width

        def away(theta: Array, curve: StepCurve = curve, x: Array = x) -> Array:
            p, q, gamma = theta
            return (p + q * np.exp(-gamma * x) - curve.step) / (curve.error + 0.01 * curve.step)

        size = float(curve.step.max())
        tries = [
            least_squares(
                away,
                (size / 3, size / 3, g),
                bounds=((size / 200, 0, 0.01), (5 * size, 50 * size, 25)),
                x_scale=(size, size, 1.0),
            )
            for g in (1.0, 4.0, 10.0)
        ]
        best = min(tries, key=lambda one: one.cost)
        found[d] = best.x
    up = found[1.0]
    down = found.get(-1.0, up)
    dw_min = max(up[0], down[0])
    up_down = (1 if up[0] >= down[0] else -1) * (1 - min(up[0], down[0]) / dw_min)
    numbers = {
        "dw_min": float(dw_min),
        "up_down": float(np.clip(up_down, -0.99, 0.99)),
        "gamma_up": float(up[2]),
        "gamma_down": float(down[2]),
        "A_up": float(-up[1] / up[0]),
        "A_down": float(-down[1] / down[0]),
        "a": -0.5,
        "b_shift": 0.0,
        "up_down_spread": steps["up_down_spread"] * steps["dw_min"] / float(dw_min),
    }
    kept = [p for p in parameters if p.key not in ("dw_min", "up_down", "up_down_spread")]
    for d, curve in curves.items():
        way = "up" if d > 0 else "down"
        kept += [
            Parameter.positive(f"step {way} at w = {w:.3f}", float(step), float(math.hypot(error, step * 0.01)))
            for w, step, error in zip(curve.w, curve.step, curve.error, strict=True)
        ]
    return numbers, kept


def _noise(
    lines: dict[float, Line], curves: dict[float, StepCurve], dw_min: float
) -> tuple[dict[str, Any], list[Parameter], Check]:
    """Noise from pulse to pulse in the unit that holds over the states, and write noise."""
    variance = np.concatenate([curve.variance for curve in curves.values()])
    relative = np.concatenate([curve.relative for curve in curves.values()])
    fits = {"of-step": variance / relative**2, "of-dw-min": variance}
    scatter = {unit: float(np.std(v) / max(abs(np.mean(v)), 1e-30)) for unit, v in fits.items()}
    unit = "of-step" if scatter["of-step"] < scatter["of-dw-min"] else "of-dw-min"
    each = []
    for d, line in lines.items():
        of = curves[d].squares if unit == "of-step" else line.intercept**2
        each.append(line.cycle / np.maximum(of, 1e-18))
    squares = np.nanmean(each, axis=0)
    spread, error = _root_mean(squares)
    numbers: dict[str, Any] = {"cycle_spread": spread, "cycle_noise": unit}
    parameters = [Parameter.positive("cycle_spread", spread, error)]
    write = np.array([line.write[0] for line in lines.values()]) / dw_min**2
    if write.any():
        numbers["write_noise"] = math.sqrt(write.mean())
        error = float(np.mean([line.write_error for line in lines.values()])) / dw_min**2 / math.sqrt(len(write))
        parameters.append(
            Parameter.positive("write_noise", numbers["write_noise"], error / (2 * numbers["write_noise"]))
        )
    worst = "of-dw-min" if unit == "of-step" else "of-step"
    statistic = f"scatter over the states {scatter[unit]:.2f}, as {worst} {scatter[worst]:.2f}"
    return numbers, parameters, Check(f"noise of a pulse is {unit}", statistic, math.nan)


def _root_mean(squares: Array) -> tuple[float, float]:
    """Root of a mean over devices, and its standard error; extreme devices are left out."""
    squares = squares[np.isfinite(squares)]
    squares = np.sort(squares)[len(squares) // 50 : len(squares) - len(squares) // 50]
    mean = max(float(squares.mean()), 0.0)
    error = float(squares.std(ddof=1)) / math.sqrt(len(squares))
    return math.sqrt(mean), error / (2 * math.sqrt(mean)) if mean else math.sqrt(error)


def _train_panel(trains: Trains) -> Panel:
    """States after each pulse: median, and 10th to 90th percentile."""
    sent = np.cumsum(np.abs(np.nan_to_num(trains.pulse)))
    low, middle, high = (np.quantile(trains.w, q, axis=0) for q in (0.1, 0.5, 0.9))
    lines = (
        Series("10th percentile", sent, low, style="dashed"),
        Series("90th percentile", sent, high, style="dashed"),
    )
    return Panel("trains of pulses", "pulses", "state w", (Series("median device", sent, middle, style="line"), *lines))


def _step_panels(curves: dict[float, StepCurve]) -> tuple[Panel, Panel]:
    """Mean steps against the state with the mean of the devices' lines, and what lies off these."""
    data, off = [], []
    for d, curve in curves.items():
        way = "up" if d > 0 else "down"
        data.append(Series(f"{way}, 95 %", curve.w, curve.step, 1.96 * curve.error))
        data.append(Series(f"{way}, mean line", curve.w, curve.step - curve.away, style="line"))
        off.append(Series(way, curve.w, curve.away / curve.error, np.full(len(curve.w), 1.96)))
    state = "state w"
    return (
        Panel("mean step of one pulse", state, "step (full scale)", tuple(data)),
        Panel("residuals: mean step", state, "standard errors", tuple(off)),
    )


def _devices_panel(lines: dict[float, Line]) -> Panel:
    """Steps of all devices, as shares of devices below."""
    series = []
    for d, line in lines.items():
        size = np.sort(line.intercept[np.isfinite(line.intercept)])
        series.append(Series("up" if d > 0 else "down", size, np.linspace(0, 1, len(size)), style="line"))
    return Panel("steps at w = 0 over devices", "step (full scale)", "share of devices below", tuple(series))
