"""Mean steps of all devices against their state: are they a straight line, an exponential, or nothing known?"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import chdtrc

from noisylearn.fitting.levels import UNLIKELY
from noisylearn.fitting.results import Array, Check, Panel, Parameter, Series
from noisylearn.fitting.step_lines import CENTRE, Line
from noisylearn.fitting.trains import Trains, place

BINS = 10  # of the state
LEAST = 8  # devices in a bin
NARROW = 0.3  # of the median range: devices with less of it are left out
BENT = 1e-5  # probability below which steps are no straight line: lines of noisy devices are not quite independent
BEND = 0.08  # of the mean step: a smaller deviation from a straight line does not ask for another form


class StepCurve(NamedTuple):
    """Mean step of all devices against their state.

    Args:
        w: mean state of every bin.
        z: the same in units of the devices' own ranges.
        step: mean step per pulse.
        away: of it, what lies off the devices' own lines.
        error: standard error of that.
        variance: of one pulse's noise, in units of the squared step at the devices' centre.
        variance_error: standard error of that.
        relative: step in units of the step at the devices' centre.
        squares: (devices,), mean square of a device's own steps, on its line.
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


def step_curve(trains: Trains, line: Line, width: Array, direction: float) -> StepCurve:
    """Mean steps of one direction in bins of the state in units of each device's own range.

    Args:
        trains: reads.
        line: of the devices.
        width: of the range of each device.
        direction: +1 or -1.
    """
    w, pulse = trains.w, trains.pulse
    values, counts = np.unique(pulse[pulse * direction > 0], return_counts=True)
    m = float(abs(values[counts.argmax()]))
    steps = np.flatnonzero(pulse == direction * m)
    steps = steps[(steps >= 2) & (pulse[steps - 1] != 0)]
    y = direction * (w[:, steps] - w[:, steps - 1]) / m
    middle = (w[:, steps] + w[:, steps - 1]) / 2
    seen = steps - (2 if line.write.any() else 1)
    stands, z = place(w, direction)[:, seen], w[:, seen] / width[:, None]
    usable = np.isfinite(line.intercept) & (width > NARROW * np.median(width))
    within = (stands > CENTRE[0]) & (stands < CENTRE[1]) & usable[:, None]
    bins = np.where(within, np.searchsorted(np.quantile(z[within], np.linspace(0, 1, BINS + 1)[1:-1]), z), -1)
    own = line.intercept[:, None] + line.slope[:, None] * middle
    centre = np.maximum(line.intercept + line.slope * np.median(w, axis=1), 1e-12)[:, None]
    noise = m * (y - own) ** 2 - (1 + (1 + m * line.slope[:, None] * direction) ** 2) * line.write[:, None] / m
    rows, relative = [], []
    for k in range(BINS):
        here = bins == k
        n = here.sum(1)
        some = n > 0
        if some.sum() < LEAST:
            continue
        device = (np.where(here, y - own, 0).sum(1)[some] / n[some], np.where(here, own, 0).sum(1)[some] / n[some])
        weight = n[some] / n[some].sum()
        away = float((weight * device[0]).sum())
        error = float(np.sqrt((weight**2 * (device[0] - away) ** 2).sum()))
        spread = (noise / centre**2)[here]
        z_mean, w_mean = (float(x[here].mean()) for x in (middle / width[:, None], middle))
        errors = (spread.mean(), spread.std() / math.sqrt(spread.size))
        rows.append((w_mean, z_mean, float((weight * device[1]).sum()) + away, away, error, *errors))
        relative.append((own / centre)[here].mean())
    inside = bins >= 0
    squares = np.where(inside, own, 0.0) ** 2
    of_bins = np.array(rows).T
    return StepCurve(*of_bins, np.array(relative), squares.sum(1) / np.maximum(inside.sum(1), 1))  # type: ignore[call-arg]


def straight(curves: dict[float, StepCurve]) -> tuple[list[Check], list[str], bool]:
    """Whether steps are straight functions of the state, and rise or fall alone."""
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
            and rise > max(6 * float(curve.error.max()), 0.05 * curve.step[top])
        ):
            warnings.append(
                f"steps {way} are largest in the middle, at w = {curve.w[top]:.2f} ({curve.step[top]:.3g} per pulse, "
                f"{curve.step[0]:.3g} and {curve.step[-1]:.3g} at the ends): no step of the profile is like that"
            )
        elif p < BENT and bend > BEND:
            curved = True
    return checks, warnings, curved


def exponential(
    curves: dict[float, StepCurve], steps: dict[str, Any], parameters: list[Parameter]
) -> tuple[dict[str, Any], list[Parameter]]:
    """Exponential steps through the mean steps: dw_d (1 - A_d exp(d gamma_d z)), z = -w / (w_max - w_min).

    Args:
        curves: mean steps by direction.
        steps: numbers of the linear fit.
        parameters: of the linear fit; those of the mean step are replaced.

    Returns:
        Numbers and parameters. a = -0.5 and b_shift = 0: other choices mean the same device.
    """
    from scipy.optimize import least_squares

    found = {}
    for d, curve in curves.items():
        x = d * curve.z

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


def step_panels(curves: dict[float, StepCurve]) -> tuple[Panel, Panel]:
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
