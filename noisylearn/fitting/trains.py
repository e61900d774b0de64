"""Trains of pulses that devices were sent, and what they read after each."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from noisylearn.fitting.measurements import Measurements
from noisylearn.fitting.results import Array

END = 0.15  # of a train, whose reads give a bound


class Trains(NamedTuple):
    """Reads of devices that were pulsed alike.

    Args:
        w: (devices, reads), states in units of full scale.
        pulse: signed pulses before every read; 0 where there are none, as at the start or after a reset.
        device: names.
    """

    w: Array
    pulse: Array
    device: Array


def equal_trains(made: Measurements) -> tuple[Trains | None, int]:
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


def scale_of(trains: Trains, zero_us: float | None, full_scale_us: float | None) -> tuple[float, float]:
    """Conductances at w = 0 and of w = 1 beyond it."""
    low, high = (float(np.median(np.quantile(trains.w, q, axis=1))) for q in (0.02, 0.98))
    one_sided = not (trains.pulse < 0).any()
    zero = zero_us if zero_us is not None else low if one_sided else (low + high) / 2
    return zero, full_scale_us if full_scale_us is not None else max(high - zero, 1e-9)


def ends(trains: Trains) -> list[tuple[float, int, int]]:
    """Direction, first and last read of every train."""
    sign = np.sign(trains.pulse)
    edges = [0, *(np.flatnonzero(np.diff(sign)) + 1), len(sign)]
    return [(float(sign[a]), max(a - 1, 0), b - 1) for a, b in pairwise(edges) if sign[a]]


def steps_of(trains: Trains, direction: float) -> tuple[Array, float]:
    """Reads after the usual number of pulses of one direction, with two reads before, and that number."""
    pulse = trains.pulse
    values, counts = np.unique(pulse[pulse * direction > 0], return_counts=True)
    usual = values[counts.argmax()]
    steps = np.flatnonzero(pulse == usual)
    return steps[(steps >= 2) & (pulse[steps - 1] != 0)], float(abs(usual))


def movement(trains: Trains) -> Array:
    """Mean movement of every device along the pulses of a train."""
    moved = [d * (trains.w[:, last] - trains.w[:, first]) for d, first, last in ends(trains)]
    return np.mean(moved, axis=0)


def plateau(trains: Trains, direction: float) -> tuple[Array, Array]:
    """State in which the trains of one direction end, and its standard error, for every device."""
    reads = []
    for d, first, last in ends(trains):
        if d == direction:
            tail = max(int(END * (last - first)), 1)
            reads.append(trains.w[:, last - tail + 1 : last + 1])
    every = np.concatenate(reads, 1)
    return every.mean(1), every.std(1) / math.sqrt(every.shape[1])


def place(w: Array, direction: float) -> Array:
    """Where in its own range a device stands: 0 where pulses of the direction come from, 1 where they lead to."""
    low, high = (np.quantile(w, q, axis=1, keepdims=True) for q in (0.02, 0.98))
    up = (w - low) / np.maximum(high - low, 1e-12)
    return up if direction > 0 else 1 - up
