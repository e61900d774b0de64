"""Pulsed devices: all numbers of the profile's table [write.device], from trains of pulses.

Devices are the sample: means and spreads over them are those of greatest likelihood, given the error of each. The step
is chosen by `kind_of_step`.
"""

import math
from typing import Any

import numpy as np
from scipy.special import chdtrc

from noisylearn.fitting.measurements import Measurements
from noisylearn.fitting.population import Population, population
from noisylearn.fitting.results import Array, Check, EffectFit, Panel, Parameter, Series
from noisylearn.fitting.step_curves import BENT, StepCurve, exponential, step_curve, step_panels, straight
from noisylearn.fitting.step_lines import LEAST_STEPS, Line, line_of
from noisylearn.fitting.trains import END, Trains, ends, equal_trains, movement, plateau, scale_of

LEAST_DEVICES = 8
DEAD = 0.1  # of the median movement: devices that move less do not answer to pulses
CONVINCING = 8.0  # gain in ln likelihood of lognormal steps over normal ones
HIDDEN, WORST = 0.5, 0.9  # relative error of steps from which noise hides them, at this quantile of the devices
ARRIVED = 0.3  # of a step within the range: bounds are reached where the reads at the end of a train move less
OFF = 0.05  # in full scale: distance by which noise keeps devices off their bounds, step variance / (2 step)
COARSE = 0.15  # of the range: a mean step between two reads that is larger cannot be fitted
SOFT, HALF_NORMAL = 0.93, 0.8  # of what soft bounds let a train reach; mean of |z|


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
    trains, left_out = equal_trains(made)
    if trains is None or len(trains.w) < LEAST_DEVICES or trains.w.shape[1] <= LEAST_STEPS:
        n, steps = (0, 0) if trains is None else (len(trains.w), trains.w.shape[1] - 1)
        refused = (
            f"{n} devices were read after {steps} equal trains of pulses ({left_out} after others); {LEAST_DEVICES} "
            f"devices with more than {LEAST_STEPS} reads are needed: pulse all devices alike"
        )
        return EffectFit("pulsed-device", refused=refused), (0.0, 1.0)
    scale = scale_of(trains, zero_us, full_scale_us)
    trains = trains._replace(w=(trains.w - scale[0]) / scale[1])
    moved = movement(trains)
    dead = moved < DEAD * np.median(moved)
    alive = trains._replace(w=trains.w[~dead], device=trains.device[~dead])
    if len(alive.w) < LEAST_DEVICES or not np.median(moved) > 0:
        refused = f"{len(alive.w)} devices follow their pulses, {LEAST_DEVICES} are needed: the others do not move"
        return EffectFit("pulsed-device", refused=refused), scale
    signs = [d for d in (1.0, -1.0) if (d * alive.pulse > 0).any()]
    if 1.0 not in signs:
        return EffectFit("pulsed-device", refused="no pulses go up (pulse > 0): give a train of them"), scale
    lines = {d: line_of(alive, d) for d in signs}
    if any(line is None for line in lines.values()):
        refused = "fewer than 20 reads lie between the bounds: send fewer pulses between two reads"
        return EffectFit("pulsed-device", refused=refused), scale
    found = {d: line for d, line in lines.items() if line is not None}
    if unclear := _unclear(alive, found):
        return EffectFit("pulsed-device", refused=unclear), scale
    return _fitted(alive, found, dead), scale


def _unclear(trains: Trains, lines: dict[float, Line]) -> str:
    """Why steps cannot be told from bounds and noise; "" where they can."""
    span = float(np.median(np.quantile(trains.w, 0.98, axis=1) - np.quantile(trains.w, 0.02, axis=1)))
    for d, line in lines.items():
        between = float(np.abs(trains.pulse[np.sign(trains.pulse) == d]).max())
        middle = (np.quantile(trains.w, 0.02, axis=1) + np.quantile(trains.w, 0.98, axis=1)) / 2
        step = between * float(np.nanmedian(line.intercept + line.slope * middle))
        way = "up" if d > 0 else "down"
        if step > COARSE * span:
            advice = "send fewer between two reads" if between > 1 else "weaker or shorter ones are needed"
            return f"{between:.0f} pulses {way} cross {step / span:.0%} of the range, whose ends cut them off: {advice}"
        relative = line.error_at(middle) / np.maximum(line.intercept + line.slope * middle, 1e-12)
        worst = float(np.nanquantile(relative, WORST))
        if worst > HIDDEN:
            return f"noise hides the steps {way}, uncertain by {worst:.0%} in a tenth of the devices: send more trains"
    return ""


def kind_of_step(
    trains: Trains, lines: dict[float, Line], plateaus: dict[float, tuple[Array, Array]], curved: bool
) -> str:
    """Which step the profile states: "exponential", "constant", "linear" or "soft-bounds".

    Bounds are soft where the trains end as far out as steps that vanish at a_d lead: at a_d, less twice its error, what
    is missing after so many pulses, and what the noise of pulses that cannot cross a_d holds it back by.

    Args:
        trains: reads.
        lines: of the devices, by direction.
        plateaus: states in which the trains of each device end, with their errors, by direction.
        curved: whether steps are no straight function of the state.
    """
    if curved:
        return "exponential"
    if all(_is_flat(line) for line in lines.values()):
        return "constant"
    soft = []
    for d, line in lines.items():
        bound, rate = _soft_bound(line, plateaus[d]), float(-d * np.nanmedian(line.slope))
        zero = d * bound.mean - 2 * bound.mean_error
        if rate <= 0 or zero <= 0:
            return "linear"
        pulses = float(
            np.abs(trains.pulse[np.sign(trains.pulse) == d]).sum() / sum(way == d for way, _, _ in ends(trains))
        )
        held = HALF_NORMAL * math.sqrt(max(float(np.nanmedian(line.cycle)), 0.0) / (2 * rate))
        start = d * float(np.median(plateaus[-d][0])) if -d in plateaus else 0.0
        reached = zero - (zero - start) * math.exp(-rate * pulses * (1 - END / 2))
        soft.append(d * float(np.median(plateaus[d][0])) > SOFT * (reached - held))
    return "soft-bounds" if all(soft) else "linear"


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
    plateaus = {d: plateau(trains, d) for d in lines}
    width = np.maximum(plateaus[1.0][0] - (plateaus[-1.0][0] if -1.0 in plateaus else 0.0), 1e-9)
    curves = {d: step_curve(trains, line, width, d) for d, line in lines.items()}
    checks, warnings, curved = straight(curves)
    kind = kind_of_step(trains, lines, plateaus, curved)
    bounds = {
        d: _soft_bound(lines[d], plateaus[d]) if kind == "soft-bounds" else population(*plateaus[d]) for d in lines
    }
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
        more, parameters = exponential(curves, steps, parameters)
        numbers |= more
    if kind != "soft-bounds":
        warnings += [line for d, curve in curves.items() if (line := _not_arrived(trains, d, curve, lines[d]))]
    noise, noise_parameters, check = _noise(lines, curves, numbers["dw_min"])
    if check.p < BENT:
        warnings.append(f"the noise of a pulse is neither the same at all states nor as its step ({check.statistic})")
    share = Parameter.share("dead_share", int(dead.sum()), len(dead))
    numbers |= noise | ({"dead_share": share.value} if share.value else {})
    if -1.0 not in lines:
        numbers |= {"one_sided": True, "w_min": 0.0, "w_min_spread": 0.0}
    panels = (_train_panel(trains), *step_panels(curves), _devices_panel(lines))
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
    asymmetry, middle = population((a - b) / 2, error), population(half, error)
    shift, shift_error = 2 * asymmetry.mean / middle.mean, 2 * asymmetry.mean_error / middle.mean
    is_log = _is_lognormal(half)
    size = _median_of_lognormal(middle) if is_log else middle
    dw_min = size.mean * (1 + abs(shift) / 2)
    up_down = shift / (1 + abs(shift) / 2)
    spreads = {
        "dw_min_spread": size if is_log else _relative(middle, dw_min),
        "up_down_spread": _relative(asymmetry, dw_min),
    }
    numbers = {"dw_min": dw_min, "up_down": up_down} | {key: one.spread for key, one in spreads.items()}
    parameters = [
        Parameter.positive("dw_min", dw_min, math.hypot(size.mean_error, dw_min * shift_error / 2)),
        Parameter.normal("up_down", up_down, shift_error),
        *(_spread(key, one) for key, one in spreads.items()),
    ]
    return numbers | ({"dw_min_distribution": "lognormal"} if is_log else {}), parameters


def _median_of_lognormal(of: Population) -> Population:
    """Median, and standard deviation of the logarithm, of a lognormal number of this mean and spread."""
    c2 = (of.spread / of.mean) ** 2
    c2_error = 2 * of.spread / of.mean**2 * math.hypot(of.spread_error, of.spread / of.mean * of.mean_error)
    sigma, median = math.sqrt(math.log1p(c2)), of.mean / math.sqrt(1 + c2)
    sigma_error = c2_error / (1 + c2) / (2 * sigma)
    return Population(
        median, math.hypot(of.mean_error / math.sqrt(1 + c2), median * sigma * sigma_error), sigma, sigma_error
    )


def _is_lognormal(value: Array) -> bool:
    """Whether steps are likelier lognormal than normal over devices."""
    if (value <= 0).mean() > 0.05 or value.std() < 0.3 * abs(value.mean()):
        return False
    positive = value[value > 0]
    logs = np.log(positive)
    gain = len(positive) * (math.log(positive.std()) - math.log(logs.std())) - float(logs.sum())
    return gain > CONVINCING


def _spread(key: str, of: Population) -> Parameter:
    """A standard deviation over devices as a parameter."""
    low = max(of.spread**2 - 2 * of.spread * 1.96 * of.spread_error, 0.0)
    high = of.spread**2 + 1.96 * max(2 * of.spread * of.spread_error, of.spread_error**2 * 2)
    return Parameter(key, of.spread, of.spread_error, math.sqrt(low), math.sqrt(high))


def _not_arrived(trains: Trains, direction: float, curve: StepCurve, line: Line) -> str:
    """What to say where devices do not reach their bounds, or noise keeps them off; "" where they reach them."""
    moved, pulses = [], 0.0
    for d, first, last in ends(trains):
        if d == direction:
            tail = max(int(END * (last - first)), 1)
            moved.append(direction * (trains.w[:, last] - trains.w[:, last - tail]))
            pulses = float(np.abs(trains.pulse[last - tail + 1 : last + 1]).sum())
    step = float(curve.step[-1 if direction > 0 else 0])
    share, held = float(np.mean(moved)) / pulses / step, max(float(np.nanmedian(line.cycle)), 0.0) / (2 * step)
    way, key = ("up", "w_max") if direction > 0 else ("down", "w_min")
    if held > OFF:
        return f"the noise of pulses {way} keeps devices {held:.2g} off their bound: {key} lies beyond what is stated"
    if share < ARRIVED:
        return ""
    return f"trains {way} end while devices still move, by {share:.0%} of a step: {key} lies beyond what is stated"


def _soft_bound(line: Line, plateau: tuple[Array, Array]) -> Population:
    """Bound at which steps vanish, over devices.

    With steps i (1 - w / b) and i independent of b, the mean of b is E[i] / E[i / b] times E[b] E[1 / b], which is
    1 + c^2 to second order in the relative spread c of b, that of the states in which the trains end. The error is that
    of the jackknife over devices.
    """
    good = np.isfinite(line.intercept + line.slope)
    i, slope, error = line.intercept[good], line.slope[good], line.errors[good, 0]
    weight = 1 / (error**2 + population(i, error).spread ** 2)
    sums = (weight * i).sum(), (weight * slope).sum()
    value = -sums[0] / sums[1]
    without = -(sums[0] - weight * i) / (sums[1] - weight * slope)
    value_error = math.sqrt(float(((without - without.mean()) ** 2).sum() * (len(i) - 1) / len(i)))
    ends = population(*plateau)
    c = ends.spread / abs(ends.mean)
    mean = float(value) * (1 + c**2)
    spread_error = ends.spread_error / abs(ends.mean) * abs(mean)
    return Population(mean, math.hypot(value_error * (1 + c**2), 2 * c * spread_error), c * abs(mean), spread_error)


def _noise(
    lines: dict[float, Line], curves: dict[float, StepCurve], dw_min: float
) -> tuple[dict[str, Any], list[Parameter], Check]:
    """Noise from pulse to pulse in the unit that holds over the states, and write noise."""
    variance, its_error, relative = (
        np.concatenate([getattr(curve, key) for curve in curves.values()])
        for key in ("variance", "variance_error", "relative")
    )
    units = {"of-step": relative**2, "of-dw-min": np.ones_like(relative)}
    chi2 = {unit: _proportion(variance, of, its_error) for unit, of in units.items()}
    unit = min(chi2, key=chi2.__getitem__)
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
    statistic = ", ".join(f"{name}: chi2 = {value:.3g}" for name, value in chi2.items()) + f" of {len(variance) - 1}"
    return (
        numbers,
        parameters,
        Check(f"noise of a pulse is {unit}", statistic, float(chdtrc(len(variance) - 1, chi2[unit]))),
    )


def _proportion(y: Array, x: Array, error: Array) -> float:
    """chi2 of y = c x with the best c."""
    c = (x * y / error**2).sum() / (x**2 / error**2).sum()
    return float((((y - c * x) / error) ** 2).sum())


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


def _devices_panel(lines: dict[float, Line]) -> Panel:
    """Steps of all devices, as shares of devices below."""
    series = []
    for d, line in lines.items():
        size = np.sort(line.intercept[np.isfinite(line.intercept)])
        series.append(Series("up" if d > 0 else "down", size, np.linspace(0, 1, len(size)), style="line"))
    return Panel("steps at w = 0 over devices", "step (full scale)", "share of devices below", tuple(series))
