"""Pulsed devices: all numbers of the profile's table [write.device], from trains of pulses.

Devices are the sample: means and spreads over them are those of greatest likelihood, given the error of each. The step
is chosen by `shape`, and where it is straight by `kind_of_step`.
"""

import math
from typing import Any

import numpy as np
from scipy.special import chdtrc

from noisylearn.fitting.measurements import Measurements
from noisylearn.fitting.population import Population, population
from noisylearn.fitting.results import Array, Check, EffectFit, Panel, Parameter, Series
from noisylearn.fitting.step_curves import BENT, LOOSE, MORE, StepCurve, exponential, shape, step_curve, step_panels
from noisylearn.fitting.step_lines import LEAST_STEPS, SEEN, Line, lines_of
from noisylearn.fitting.trains import END, Trains, ends, equal_trains, movement, plateau, scale_of

LEAST_DEVICES = 8
DEAD = 0.1  # of the median movement: devices that move less do not answer to pulses
CONVINCING = 8.0  # gain in ln likelihood of lognormal steps over normal ones
HIDDEN, WORST = 0.5, 0.9  # relative error of steps from which noise hides them, at this quantile of the devices
ARRIVED = 0.3  # of a step within the range: bounds are reached where the reads at the end of a train move less
OFF = 0.05  # in full scale: distance by which noise keeps devices off their bounds, step variance / (2 step)
COARSE = 0.15  # of the range: a mean step between two reads that is larger cannot be fitted
UNLIKE = 1.25  # ratio of the variance of noise to a law, less 4 standard errors, from which it follows none
MOST_NOISE = 90.0  # of a pulse, in units of a step: profiles state up to 100
EXTREME = 50  # the largest and the smallest of so many devices do not count in the noise of pulses
SOFT, HARD = 0.93, 0.75  # of what soft bounds let a train reach: more are soft, less are not
HALF_NORMAL = 0.8  # mean of |z|


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
    lines = lines_of(alive, signs)
    if lines is None:
        refused = "fewer than 20 reads lie between the bounds: send fewer pulses between two reads"
        return EffectFit("pulsed-device", refused=refused), scale
    if unclear := _unclear(alive, lines):
        return EffectFit("pulsed-device", refused=unclear), scale
    return _fitted(alive, lines, dead), scale


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
    trains: Trains, lines: dict[float, Line], plateaus: dict[float, tuple[Array, Array]]
) -> tuple[str, list[Check], list[str]]:
    """Which straight step the profile states, "constant", "linear" or "soft-bounds", with checks and warnings.

    Args:
        trains: reads.
        lines: of the devices, by direction.
        plateaus: states in which the trains of each device end, with their errors, by direction.
    """
    is_constant, check, unclear = _constant(trains, lines)
    if is_constant:
        return "constant", [check], unclear
    is_soft, another, unclear = _soft(trains, lines, plateaus)
    return "soft-bounds" if is_soft else "linear", [check, another], unclear


def _constant(trains: Trains, lines: dict[float, Line]) -> tuple[bool, Check, list[str]]:
    """Whether no slope of the steps is seen, and what is to be said where a large one may be there."""
    low, middle, high = np.quantile(trains.w, (0.02, 0.5, 0.98), axis=1)
    devices, half = len(trains.w), float(np.median(high - low)) / 2
    is_flat, evidence, most = True, 0.0, 0.0
    for line in lines.values():
        slope, step = population(line.slope, line.errors[:, 1]), float(np.nanmedian(line.intercept))
        is_flat &= abs(slope.mean) < max(4 * slope.mean_error, 0.01 * abs(step))
        evidence += devices * math.log1p((slope.mean / slope.mean_error) ** 2 / devices) - math.log(devices)
        centre = float(np.nanmedian(line.intercept + line.slope * middle))
        most = max(most, (abs(slope.mean) + 1.96 * slope.mean_error) * half / centre)
    said = f"BIC(constant) - BIC(linear) = {evidence:.1f}, from middle to bound by {most:.1%} at most"
    unclear = f"the data do not decide whether steps change with the state ({said}): constant ones are stated; {MORE}"
    return is_flat, Check("steps change with the state", said, math.nan), [unclear] if most > LOOSE else []


def _soft(
    trains: Trains, lines: dict[float, Line], plateaus: dict[float, tuple[Array, Array]]
) -> tuple[bool, Check, list[str]]:
    """Whether trains end as far out as soft bounds would let them, and what is to be said where that is open."""
    shares = {d: _share_reached(trains, d, line, plateaus) for d, line in lines.items()}
    said = "trains go " + " and ".join(
        f"{share:.0%} ({low:.0%} to {high:.0%}) of the way to where steps {'up' if d > 0 else 'down'} vanish"
        for d, (low, share, high) in shares.items()
    )
    low, share, high = (min(column) for column in zip(*shares.values(), strict=True))
    is_soft = share > (SOFT + HARD) / 2
    unclear = (
        f"the data do not decide whether bounds are soft ({said}): {'soft' if is_soft else 'hard'} ones are stated; "
        "measure more devices or longer trains"
    )
    return is_soft, Check("bounds are soft", said, math.nan), [unclear] if low < HARD and high > SOFT else []


def _share_reached(
    trains: Trains, direction: float, line: Line, plateaus: dict[float, tuple[Array, Array]]
) -> tuple[float, float, float]:
    """How far trains go, of how far they would if bounds were soft, between the ends of its 95 % interval.

    They would go to where steps vanish, less what is missing after so many pulses, and what the noise of pulses that
    cannot cross a bound holds them back by.
    """
    gamma, error = _own_slope(line, plateaus[direction])
    end, rate = direction * float(np.median(plateaus[direction][0])), float(-direction * np.nanmedian(line.slope))
    if rate <= 0 or end <= 0:
        return 0.0, 0.0, 0.0
    pulses = float(
        np.abs(trains.pulse[np.sign(trains.pulse) == direction]).sum()
        / sum(way == direction for way, _, _ in ends(trains))
    )
    held = HALF_NORMAL * math.sqrt(max(float(np.nanmedian(line.cycle)), 0.0) / (2 * rate))
    start = direction * float(np.median(plateaus[-direction][0])) if -direction in plateaus else 0.0
    missing = math.exp(-rate * pulses * (1 - END / 2))

    def share(slope: float) -> float:
        zero = end / max(slope, 1e-9)
        return end / max(zero - (zero - start) * missing - held, 1e-9)

    return share(gamma - 1.96 * error), share(gamma), share(gamma + 1.96 * error)


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
    curves = {d: curve for d, line in lines.items() if (curve := step_curve(trains, line, width, d)) is not None}
    if len(curves) < len(lines):
        return EffectFit("pulsed-device", refused="too few devices were read at the same states: measure more devices")
    checks, warnings, curved = shape(curves, len(trains.w))
    if curved:
        kind = "exponential"
    else:
        kind, more_checks, more_warnings = kind_of_step(trains, lines, plateaus)
        checks, warnings = checks + more_checks, warnings + more_warnings
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
        noisiest = max(float(np.nanmean(line.cycle)) for line in lines.values())
        least = math.sqrt(max(noisiest, 0.0)) / MOST_NOISE
        more, parameters, unlike = exponential(curves, steps, parameters, least)
        numbers, warnings = numbers | more, warnings + unlike
    if kind != "soft-bounds":
        warnings += [line for d, curve in curves.items() if (line := _not_arrived(trains, d, curve, lines[d]))]
    noise, noise_parameters, check, unlike = _noise(lines, curves, numbers, parameters)
    share = Parameter.share("dead_share", int(dead.sum()), len(dead))
    numbers |= noise | ({"dead_share": share.value} if share.value else {})
    if -1.0 not in lines:
        numbers |= {"one_sided": True, "w_min": 0.0, "w_min_spread": 0.0}
    panels = (_train_panel(trains), *step_panels(curves), _devices_panel(lines))
    return EffectFit(
        "pulsed-device",
        (*parameters, *noise_parameters, share),
        numbers,
        checks=(*checks, check),
        panels=panels,
        warnings=(*warnings, *unlike),
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


def _own_slope(line: Line, plateau: tuple[Array, Array]) -> tuple[float, float]:
    """gamma of steps i (1 - gamma w / e), with the state e in which a device's own trains end, and its error.

    A weighted mean over devices of slope = -gamma i / e; the error is that of the jackknife over devices.
    """
    own = plateau[0]
    at_own = line.intercept / own
    error2 = (line.errors[:, 0] / own) ** 2 + line.errors[:, 1] ** 2
    error2 = error2 + 2 * line.correlation * line.errors.prod(1) / own
    good = np.isfinite(at_own + error2) & (error2 > 0)
    weight = 1 / error2[good]
    top, bottom = -weight * line.slope[good], weight * at_own[good]
    without = (top.sum() - top) / (bottom.sum() - bottom)
    error = math.sqrt(float(((without - without.mean()) ** 2).sum() * (len(weight) - 1) / len(weight)))
    return float(top.sum() / bottom.sum()), error


def _soft_bound(line: Line, plateau: tuple[Array, Array]) -> Population:
    """Bounds e / gamma at which steps vanish, over devices."""
    gamma, error = _own_slope(line, plateau)
    mean, mean_error, spread, spread_error = _relative(population(*plateau), gamma)
    return Population(mean, math.hypot(mean_error, mean * error / gamma), spread, spread_error)


def _unit_of_noise(curves: dict[float, StepCurve]) -> tuple[str, Check, list[str]]:
    """The unit that noise from pulse to pulse keeps over the states, and what is to be said where it keeps none."""
    variance, error, relative = (
        np.concatenate([getattr(curve, key) for curve in curves.values()])
        for key in ("variance", "variance_error", "relative")
    )
    chi2, ratio = {}, {}
    for unit, x in (("of-step", relative**2), ("of-dw-min", np.ones_like(relative))):
        law = x * (x * variance / error**2).sum() / (x**2 / error**2).sum()
        chi2[unit] = float((((variance - law) / error) ** 2).sum())
        low, high = (variance - 4 * error) / law, (variance + 4 * error) / law
        ratio[unit] = max(float(low.max()), 1 / max(float(high.min()), 1e-9))
    unit = min(chi2, key=chi2.__getitem__)
    statistic = ", ".join(f"{name}: chi2 = {value:.3g}" for name, value in chi2.items()) + f" of {len(variance) - 1}"
    check = Check(f"noise of a pulse is {unit}", statistic, float(chdtrc(len(variance) - 1, chi2[unit])))
    said = f"the noise of a pulse is neither the same at all states nor as its step ({statistic})"
    return unit, check, [said] if check.p < BENT and ratio[unit] > UNLIKE else []


def _noise(
    lines: dict[float, Line], curves: dict[float, StepCurve], numbers: dict[str, Any], parameters: list[Parameter]
) -> tuple[dict[str, Any], list[Parameter], Check, list[str]]:
    """Noise from pulse to pulse in the unit that holds over the states, write noise, a check and warnings."""
    unit, check, warnings = _unit_of_noise(curves)
    squares = {d: curve.squares for d, curve in curves.items()}
    if unit == "of-dw-min":
        squares = {d: line.intercept**2 - line.errors[:, 0] ** 2 for d, line in lines.items()}
        if numbers["step"] == "exponential":  # dw_d is a coefficient, not the step at w = 0
            up, up_down = numbers["dw_min"], numbers["up_down"]
            dw = {1.0: up * (1 + min(up_down, 0.0)), -1.0: up * (1 - max(up_down, 0.0))}
            squares = {d: of * (dw[d] / np.nanmean(lines[d].intercept)) ** 2 for d, of in squares.items()}
    cycle = _cycle_spread(lines, squares)
    coefficient = Parameter("dw_min", numbers["dw_min"], 0.0, 0.0, 0.0)  # without an error of its own
    write = _write_noise(lines[1.0], next((p for p in parameters if p.key == "dw_min"), coefficient))
    stated = {"cycle_noise": unit, "cycle_spread": cycle.value} | ({"write_noise": write.value} if write.low else {})
    return stated, [cycle, write], check, warnings


def _cycle_spread(lines: dict[float, Line], squares: dict[float, Array]) -> Parameter:
    """Noise of a pulse in the unit whose squares are given for every device, by direction.

    Of sums over devices, since steps of single ones may be uncertain; without extreme devices. The error includes that
    of the noise of reads.
    """
    cycle, unit, per_write = (
        np.sum([line.free * of for line, of in zip(lines.values(), columns, strict=True)], axis=0)
        for columns in (
            [line.cycle for line in lines.values()],
            [squares[d] for d in lines],
            [line.per_write for line in lines.values()],
        )
    )
    good = np.flatnonzero(np.isfinite(cycle + unit))
    extreme = len(good) // EXTREME
    kept = good[np.argsort((cycle / unit)[good])][extreme : len(good) - extreme]
    total = max(float(unit[kept].sum()), 1e-30)
    square = float(cycle[kept].sum()) / total
    off = np.zeros_like(cycle)
    off[kept] = cycle[kept] - square * unit[kept]
    off -= per_write[kept].sum() * lines[1.0].write_shift
    error, spread = float(np.sqrt((off**2).sum())) / total, math.sqrt(max(square, 0.0))
    return Parameter.positive("cycle_spread", spread, error / (2 * spread) if spread else math.sqrt(error))


def _write_noise(line: Line, dw_min: Parameter) -> Parameter:
    """Noise of a write, and of a read, in units of dw_min; its interval begins at 0 where it may be there by chance."""
    variance, error = line.write, float(np.sqrt((line.write_shift**2).sum()))
    value = math.sqrt(variance) / dw_min.value
    if variance > SEEN * error:
        relative = math.hypot(error / (2 * variance), dw_min.error / dw_min.value)
        return Parameter.positive("write_noise", value, value * relative)
    high = math.sqrt(variance + 1.96 * error) / dw_min.value
    return Parameter("write_noise", value, high / 1.96, 0.0, high)


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
