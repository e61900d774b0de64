"""Devices that can only be set to a few conductances, evenly spaced."""

import math

import numpy as np

from noisylearn.fitting.measurements import Measurements
from noisylearn.fitting.results import Array, Check, EffectFit, Panel, Parameter, Series

MOST, LEAST_TARGETS = 256, 5  # conductances that are tried; targets that tell
PLAIN = 0.1  # of the variance about the targets: all that may be left about a staircase


def fit_staircase(made: Measurements, g_min_us: float, g_max_us: float) -> EffectFit | None:
    """Fit evenly spaced conductances, where they leave hardly anything of the error of writing.

    Args:
        made: reads of the experiment "programming".
        g_min_us: smallest conductance, in microsiemens.
        g_max_us: largest conductance, in microsiemens.

    Returns:
        The fit; None where conductances follow the targets as they are.
    """
    targets, place, counts = np.unique(made.target_us, return_inverse=True, return_counts=True)
    if len(targets) < LEAST_TARGETS:
        return None
    mean = np.bincount(place, made.conductance_us) / counts
    plain = float(np.mean((mean - targets) ** 2))
    left = {n: float(np.mean((mean - rounded(targets, n, g_min_us, g_max_us)) ** 2)) for n in range(2, MOST + 1)}
    count = min(left, key=left.__getitem__)
    noise = float(np.mean((made.conductance_us - mean[place]) ** 2)) / counts.min()
    if left[count] > PLAIN * plain or plain < 25 * noise:
        return None
    steps = np.linspace(g_min_us, g_max_us, 500)
    panel = Panel(
        "levels",
        "target (uS)",
        "mean conductance (uS)",
        (
            Series("targets", targets, mean),
            Series(f"{count} levels", steps, rounded(steps, count, g_min_us, g_max_us), style="line"),
        ),
    )
    check = Check("variance about the levels / about the targets", f"{left[count] / plain:.2g}", math.nan)
    return EffectFit(
        "levels",
        (Parameter("count", count, math.nan, count, count),),
        {"count": count},
        checks=(check,),
        panels=(panel,),
    )


def rounded(target_us: Array, count: int, g_min_us: float, g_max_us: float) -> Array:
    """Targets at the nearest of evenly spaced conductances.

    Args:
        target_us: conductances in microsiemens.
        count: how many conductances there are.
        g_min_us: the smallest, in microsiemens.
        g_max_us: the largest, in microsiemens.
    """
    step = (g_max_us - g_min_us) / (count - 1)
    return g_min_us + step * np.clip(np.round((target_us - g_min_us) / step), 0, count - 1)
