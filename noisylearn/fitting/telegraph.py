"""Random telegraph noise: devices whose reads fall into two groups.

The reads of a device are normal, or a mixture of two of equal width at G (1 - A / 2) and G (1 + A / 2).
A device switches where the mixture's likelihood is far greater and the two are far apart. Two reads of a device that
switches, a lag apart, are in different groups with probability (1 - exp(-2 lag / tau)) / 2; tau is log-uniform between
two dwell times, whose likelihood is integrated over tau and taken from a grid.
"""

import math
from typing import NamedTuple

import numpy as np

from noisylearn.fitting.groups import Group
from noisylearn.fitting.levels import Levels, curve_panels, fit_curve, grouped
from noisylearn.fitting.results import Array, Check, EffectFit, Panel, Parameter, Series

LEAST_SWITCHING, LEAST_SHARE = 8, 0.03  # devices; of all, below which chance or 1/f noise may look alike
CONVINCING, APART = 30.0, 3.5  # twice the gain in ln likelihood; distance of the two groups in standard deviations
ROUNDS, GRID = 40, 41  # of the mixture's iteration; dwell times that are tried


class Mixture(NamedTuple):
    """Two groups of reads in every device.

    Args:
        low_us: conductance of the lower group.
        high_us: conductance of the upper group.
        is_high: (devices, reads), which reads belong to the upper group.
        switches: which devices have two groups.
    """

    low_us: Array
    high_us: Array
    is_high: Array
    switches: Array


def mixture(reads_us: Array) -> Mixture:
    """Divide the reads of every device into two groups.

    Args:
        reads_us: (devices, reads), in microsiemens.
    """
    n = reads_us.shape[1]
    whole = np.maximum(reads_us.std(1), 1e-30)
    low, high = reads_us.min(1), reads_us.max(1)
    weight, sigma = np.full(len(low), 0.5), whole / 2
    for _ in range(ROUNDS):
        logs = [
            np.log(share)[:, None] - (reads_us - mean[:, None]) ** 2 / (2 * sigma[:, None] ** 2)
            for share, mean in ((1 - weight, low), (weight, high))
        ]
        total = np.logaddexp(*logs)
        upper = np.exp(logs[1] - total)
        weight = np.clip(upper.mean(1), 1 / n, 1 - 1 / n)
        high = (upper * reads_us).sum(1) / np.maximum(upper.sum(1), 1e-9)
        low = ((1 - upper) * reads_us).sum(1) / np.maximum((1 - upper).sum(1), 1e-9)
        left = upper * (reads_us - high[:, None]) ** 2 + (1 - upper) * (reads_us - low[:, None]) ** 2
        sigma = np.sqrt(np.maximum(left.mean(1), (1e-3 * whole) ** 2))
    gain = 2 * ((total.sum(1) - n * np.log(sigma)) - (-n * np.log(whole) - n / 2))
    both = np.minimum((upper > 0.5).sum(1), (upper <= 0.5).sum(1)) >= 2
    return Mixture(low, high, upper > 0.5, (gain > CONVINCING) & ((high - low) > APART * sigma) & both)


def fit_telegraph(of: list[Group], g_max_us: float) -> tuple[EffectFit | None, list[Group]]:
    """Fit random telegraph noise, where some devices show it.

    Args:
        of: groups of reads.
        g_max_us: largest conductance, in microsiemens.

    Returns:
        The fit, None where no devices switch, and the reads of the devices that do not switch.
    """
    found = [mixture(group.reads_us) for group in of]
    n, hits = sum(len(group.device) for group in of), int(sum(one.switches.sum() for one in found))
    if hits < max(LEAST_SWITCHING, LEAST_SHARE * n):
        return None, of
    low, high = (np.concatenate([getattr(one, key)[one.switches] for one in found]) for key in ("low_us", "high_us"))
    middle = (low + high) / 2
    target = np.concatenate([group.target_us[one.switches] for group, one in zip(of, found, strict=True)])
    relative = (high - low) / np.maximum(middle, 1e-3 * g_max_us)
    chosen = grouped(np.where(np.isfinite(target), target, middle), 4)
    if not chosen:
        return None, of
    errors = [max(relative[g].std(ddof=1), 1e-4 * relative[g].mean()) / math.sqrt(len(g)) for g in chosen]
    levels = Levels(
        np.array([middle[g].mean() for g in chosen]) / g_max_us,
        np.array([relative[g].mean() for g in chosen]),
        np.array(errors),
        np.array([len(g) for g in chosen]),
    )
    curve = fit_curve(levels, "relative_amplitude", positive=True)
    dwell, panel = _dwell_times(of, found)
    share = Parameter.share("share", hits, n)
    numbers = {
        "share": share.value,
        "relative_amplitude": curve.table(),
        "dwell_time_s": [parameter.value for parameter in dwell],
    }
    parameters = (share, *dwell, *levels.parameters("relative_amplitude", g_max_us, True))
    longest = max(float(group.times_s[-1]) for group in of)
    check = Check("devices that switched while they were read", f"{hits} of {n}, within {longest:.3g} s", math.nan)
    panels = (*curve_panels(levels, curve, "telegraph amplitude A", g_max_us), panel)
    fit = EffectFit("random-telegraph-noise", parameters, numbers, (), (curve.check, check), panels)
    return fit, [_without(group, one.switches) for group, one in zip(of, found, strict=True) if not one.switches.all()]


def _without(group: Group, some: Array) -> Group:
    keep = ~some
    return group._replace(reads_us=group.reads_us[keep], device=group.device[keep], target_us=group.target_us[keep])


def _dwell_times(of: list[Group], found: list[Mixture]) -> tuple[tuple[Parameter, Parameter], Panel]:
    """Shortest and longest mean dwell time with their intervals, by likelihood on a grid."""
    steps = np.concatenate([np.diff(group.times_s) for group in of])
    longest = max(float(group.times_s[-1]) for group in of)
    tau = np.geomspace(steps.min() / 5, longest * 5, GRID)
    each = []
    for group, one in zip(of, found, strict=True):
        flips = np.diff(one.is_high[one.switches].astype(int), axis=1) != 0
        chance = -np.expm1(-2 * np.diff(group.times_s)[:, None] / tau) / 2
        each.append(flips @ np.log(chance) + (~flips) @ np.log1p(-chance))
    log_like = np.concatenate(each)
    peak = log_like.max(1, keepdims=True)
    likelihood = np.concatenate([np.zeros((len(peak), 1)), np.exp(log_like - peak).cumsum(1)], axis=1)
    table = np.full((GRID, GRID), -np.inf)
    for a in range(GRID):
        for b in range(a, GRID):
            table[a, b] = np.log((likelihood[:, b + 1] - likelihood[:, a]) / (b + 1 - a) + 1e-300).sum()
    inside = 2 * (table.max() - table) < 3.84
    i, j = (int(at) for at in np.unravel_index(int(table.argmax()), table.shape))
    shortest, last = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    half = math.sqrt(tau[1] / tau[0])
    pair = tuple(
        Parameter(
            f"dwell_time_s[{k}]", float(tau[at]), math.nan, float(tau[ends[0]] / half), float(tau[ends[-1]] * half)
        )
        for k, (at, ends) in enumerate(((i, shortest), (j, last)))
    )
    best = Series("devices, most likely", np.sort(tau[log_like.argmax(1)]), np.linspace(0, 1, len(peak)))
    line = Series("fit", tau[[i, j]], np.array([0.0, 1.0]), style="line")
    panel = Panel("dwell times", "mean dwell time (s)", "share of devices below", (best, line), log_x=True)
    return (pair[0], pair[1]), panel
