"""Mean steps of all devices against their state: are they a straight line, an exponential, or nothing known?"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import chdtrc

from noisylearn.fitting.levels import UNLIKELY
from noisylearn.fitting.results import Array, Check, Panel, Parameter, Series
from noisylearn.fitting.step_lines import CENTRE, Line
from noisylearn.fitting.trains import Trains, place, steps_of

BINS, LEAST_BINS = 10, 4  # of the state
LEAST = 8  # devices in a bin
NARROW = 0.3  # of the median range: devices with less of it are left out
BENT = 1e-5  # probability below which steps are of no known form: lines of noisy devices are not quite independent
BEND, LOOSE = 0.05, 0.15  # of the mean step: a bend counts from the one; if the other is not excluded, that is said
STRONG = 6.0  # difference of BIC from which evidence is strong (Kass and Raftery 1995)
MORE = "measure more devices or trains"
GAMMAS = np.geomspace(0.1, 25, 12)  # of exponential steps, per range, that are tried


class StepCurve(NamedTuple):
    """Mean step of all devices against their state.

    Args:
        w: mean state of every bin.
        z: the same in units of the devices' own ranges.
        step: mean step per pulse.
        away: of it, what lies off the devices' own lines.
        error: standard error of that.
        variance: of one pulse's noise, in units of the mean squared step at the devices' centre.
        variance_error: standard error of that.
        relative: root of the mean square step, in units of that at the devices' centre.
        squares: (devices,), mean square of a device's own steps, without the error of its line.
    """

    w: Array
    z: Array
    step: Array
    away: Array
    error: Array
    variance: Array
    variance_error: Array
    relative: Array
    squares: Array


def step_curve(trains: Trains, line: Line, width: Array, direction: float) -> StepCurve | None:
    """Mean steps of one direction in bins of the state in units of each device's own range.

    Args:
        trains: reads.
        line: of the devices.
        width: of the range of each device.
        direction: +1 or -1.

    Returns:
        The curve; None where fewer than four bins hold enough devices.
    """
    w = trains.w
    steps, m = steps_of(trains, direction)
    y = direction * (w[:, steps] - w[:, steps - 1]) / m
    middle = (w[:, steps] + w[:, steps - 1]) / 2
    seen = steps - line.back
    stands, z = place(w, direction)[:, seen], w[:, seen] / width[:, None]
    usable = np.isfinite(line.intercept) & (width > NARROW * np.median(width))
    within = (stands > CENTRE[0]) & (stands < CENTRE[1]) & usable[:, None]
    bins = np.where(within, np.searchsorted(np.quantile(z[within], np.linspace(0, 1, BINS + 1)[1:-1]), z), -1)
    own = line.intercept[:, None] + line.slope[:, None] * middle
    centre = np.maximum(line.intercept + line.slope * np.median(w, axis=1), 1e-12)[:, None] + 0 * own
    of_reads = (1 + (1 + m * line.slope[:, None] * direction) ** 2) * line.write / m + 0 * own
    squares, rows = np.zeros_like(own), []
    for k in range(BINS):
        here = bins == k
        n = here.sum(1)
        some = n > 0
        if some.sum() < LEAST:
            bins[here] = -1
            continue
        device = (np.where(here, y - own, 0).sum(1)[some] / n[some], np.where(here, own, 0).sum(1)[some] / n[some])
        weight = n[some] / n[some].sum()
        away = float((weight * device[0]).sum())
        error = float(np.sqrt((weight**2 * (device[0] - away) ** 2).sum()))
        step = own[here] + away
        unit, noise = centre[here] ** 2, m * (y[here] - step) ** 2 - of_reads[here]
        variance = noise.mean() / unit.mean()
        its_error = (noise - variance * unit).std() / unit.mean() / math.sqrt(noise.size)
        squares[here] = step**2
        means = (middle[here].mean(), (middle / width[:, None])[here].mean(), float((weight * device[1]).sum()) + away)
        relative = math.sqrt((step**2).mean() / unit.mean())
        rows.append((*means, away, error, variance, its_error, relative))
    if len(rows) < LEAST_BINS:
        return None
    inside = bins >= 0
    squares -= np.where(inside, line.error_at(middle.T).T ** 2, 0.0)
    n = np.where(inside.any(1), inside.sum(1), np.nan)
    return StepCurve(*np.array(rows).T, squares.sum(1) / n)  # type: ignore[call-arg]


class _Bend(NamedTuple):
    """The exponential that best fits what lies off the straight lines.

    Args:
        gain: in chi2 over straight lines.
        share: how far it is off them at most, of the mean step.
        most: upper end of the 95 % interval of that.
        rest: what lies off this, too, of the mean step.
        p: probability of what lies off this, too.
    """

    gain: float
    share: float
    most: float
    rest: float
    p: float


def _bend(curve: StepCurve, direction: float) -> _Bend:
    """Fit c exp(-gamma x), c >= 0, x along the pulses, without its own straight line, to what lies off the lines."""
    x, weight, mean = direction * curve.z, 1 / curve.error, float(np.abs(curve.step).mean())
    line, _ = np.linalg.qr(np.stack([weight, x * weight], 1))
    off = curve.away * weight
    off = off - line @ (line.T @ off)
    shapes = np.exp(-GAMMAS[:, None] * (x - x.min())) * weight
    shapes = shapes - (shapes @ line) @ line.T
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    best = shapes[(shapes @ off).argmax()]
    size, largest = max(float(best @ off), 0.0), float(np.abs(best / weight).max()) / mean
    rest = off - size * best
    return _Bend(
        size**2,
        size * largest,
        (size + 1.96) * largest,
        float(np.abs(rest / weight).max()) / mean,
        float(chdtrc(len(x) - 3, (rest**2).sum())),
    )


def shape(curves: dict[float, StepCurve], devices: int) -> tuple[list[Check], list[str], bool]:
    """Whether steps are exponential rather than straight functions of the state, and how sure that is.

    Exponential steps have one number more in each direction, so that the difference of BIC is their gain in
    -2 ln likelihood less ln(devices) for each.

    Args:
        curves: mean steps by direction.
        devices: how many there are.

    Returns:
        Checks, warnings, and whether steps are exponential.
    """
    checks, warnings, bends = [], [], {}
    for d, curve in curves.items():
        way = "up" if d > 0 else "down"
        chi2 = float(((curve.away / curve.error) ** 2).sum())
        p = float(chdtrc(len(curve.w) - 2, chi2))
        checks.append(Check(f"steps {way} are linear in the state", f"chi2 = {chi2:.3g} of {len(curve.w) - 2}", p))
        if p < UNLIKELY and (said := _largest_within(curve, way)):
            warnings.append(said)
        else:
            bends[way] = _bend(curve, d)
    evidence = sum(devices * math.log1p(one.gain / devices) - math.log(devices) for one in bends.values())
    share, most = (max((getattr(one, key) for one in bends.values()), default=0.0) for key in ("share", "most"))
    said = f"BIC(straight) - BIC(exponential) = {evidence:.1f}, bend of {share:.1%} of a step, at most {most:.1%}"
    checks.append(Check("steps are exponential", said, math.nan))
    curved = evidence > 0 and share > BEND
    excluded = most < BEND or (most < LOOSE and evidence < -STRONG)
    if evidence < STRONG if curved else not excluded:
        kind = "exponential" if curved else "straight"
        warnings.append(
            f"the data do not decide whether steps are straight or exponential ({said}): {kind} ones are stated; {MORE}"
        )
    if not curved:
        warnings += [_unlike(way, one.rest) for way, one in bends.items() if one.p < BENT and one.rest > BEND]
    return checks, warnings, curved


def _largest_within(curve: StepCurve, way: str) -> str:
    """What to say where steps are largest in the middle; "" where they are not."""
    top = int(curve.step.argmax())
    rise = min(curve.step[top] - curve.step[0], curve.step[top] - curve.step[-1])
    if rise <= max(6 * float(curve.error.max()), 0.05 * curve.step[top]):
        return ""
    return (
        f"steps {way} are largest in the middle, at w = {curve.w[top]:.2f} ({curve.step[top]:.3g} per pulse, "
        f"{curve.step[0]:.3g} and {curve.step[-1]:.3g} at the ends): no step of the profile is like that"
    )


def _unlike(way: str, off: float) -> str:
    return (
        f"steps {way} are neither straight nor exponential in the state, but {off:.0%} of a step off: no step of the "
        "profile is like that"
    )


def exponential(
    curves: dict[float, StepCurve], steps: dict[str, Any], parameters: list[Parameter], least: float
) -> tuple[dict[str, Any], list[Parameter], list[str]]:
    """Exponential steps through the mean steps: dw_d (1 - A_d exp(d gamma_d z)), z = -w / (w_max - w_min).

    Args:
        curves: mean steps by direction.
        steps: numbers of the linear fit.
        parameters: of the linear fit; those of the mean step are replaced.
        least: smallest dw_d, in whose units the noise of a pulse may have to be stated.

    Returns:
        Numbers, parameters and warnings. a = -0.5 and b_shift = 0: other choices mean the same device.
    """
    from scipy.optimize import least_squares

    found, warnings = {}, []
    for d, curve in curves.items():
        x = d * curve.z

        def away(theta: Array, curve: StepCurve = curve, x: Array = x) -> Array:
            p, q, gamma = theta
            return (p + q * np.exp(-gamma * x) - curve.step) / (curve.error + 0.01 * curve.step)

        size = float(curve.step.max())
        lowest = max(size / 200, least)
        tries = [
            least_squares(
                away,
                (lowest + size / 3, size / 3, g),
                bounds=((lowest, 0, 0.01), (lowest + 5 * size, 50 * size, 25)),
                x_scale=(size, size, 1.0),
            )
            for g in (1.0, 4.0, 10.0)
        ]
        best = min(tries, key=lambda one: one.cost)
        found[d] = best.x
        off = np.abs(best.fun) * (curve.error + 0.01 * curve.step)
        if (off - 4 * curve.error).max() > BEND * curve.step.mean():
            warnings.append(_unlike("up" if d > 0 else "down", float(off.max() / curve.step.mean())))
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
    return numbers, kept, warnings


def step_panels(curves: dict[float, StepCurve]) -> tuple[Panel, Panel]:
    """Mean steps against the state with the mean of the devices' lines, and what lies off these."""
    data, off = [], []
    for color, (d, curve) in enumerate(curves.items()):
        way = "up" if d > 0 else "down"
        data.append(Series(f"{way}, 95 %", curve.w, curve.step, 1.96 * curve.error, color=color))
        data.append(Series(f"{way}, mean line", curve.w, curve.step - curve.away, style="line", color=color))
        off.append(Series(way, curve.w, curve.away / curve.error, np.full(len(curve.w), 1.96)))
    state = "state w"
    return (
        Panel("mean step of one pulse", state, "step (full scale)", tuple(data)),
        Panel("residuals: mean step", state, "standard errors", tuple(off)),
    )
