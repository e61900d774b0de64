"""Curves of an effect at many conductances, in one kernel for every curve."""

import math
from typing import NamedTuple

import numpy as np

from noisylearn.kernels.curves import (
    CLIP,
    HAS_LOG,
    HAS_POWER,
    HAS_SATURATING,
    LOG,
    POLYNOMIAL,
    POWER,
    SATURATING,
    SMALLEST,
    CurveNumbers,
)
from noisylearn.kernels.on_cpu.elementary import F, compiled, exp2_32, log2_32

_LN_2, _LOG2_E = F(math.log(2)), F(math.log2(math.e))


class Terms(NamedTuple):
    """`CurveNumbers` as a kernel takes them."""

    numbers: np.ndarray
    shape: np.ndarray
    per_us: np.float32
    largest: np.float32
    gain: np.float32


def terms_of(curve: CurveNumbers) -> Terms:
    """A curve for a kernel."""
    shape = np.array(curve.shape, np.int64)
    return Terms(curve.numbers.numpy(), shape, F(curve.per_us), F(curve.largest), F(curve.gain))


@compiled
def curve_into(out, conductance, terms, scratch, n):  # type: ignore[no-untyped-def]
    """The curve at n conductances, in microsiemens; `scratch` is memory to work in, (3, n or more)."""
    argument, part, lower = scratch[0], scratch[1], scratch[2]
    for i in range(n):
        argument[i] = min(conductance[i] * terms.per_us, terms.largest)
    _piece_into(out, argument, terms.numbers[0], terms.shape[0], part, n)
    for piece in range(1, terms.shape.shape[0]):
        _piece_into(lower, argument, terms.numbers[piece], terms.shape[piece], part, n)
        for i in range(n):
            out[i] = lower[i] if argument[i] < terms.numbers[piece, 0] else out[i]
    for i in range(n):
        out[i] *= terms.gain


@compiled
def _piece_into(out, argument, numbers, shape, part, n):  # type: ignore[no-untyped-def]
    for i in range(n):
        out[i] = F(0)
    for power in range(shape % HAS_LOG):
        coefficient = numbers[POLYNOMIAL + power]
        for i in range(n):
            out[i] = out[i] * argument[i] + coefficient
    if shape & (HAS_LOG | HAS_POWER):
        for i in range(n):
            part[i] = log2_32(max(argument[i], F(SMALLEST)))
    if shape & HAS_LOG:
        slope, offset = numbers[LOG] * _LN_2, numbers[LOG + 1]
        for i in range(n):
            out[i] += slope * part[i] + offset
    if shape & HAS_POWER:
        factor, power = numbers[POWER], numbers[POWER + 1]
        for i in range(n):
            out[i] += factor * exp2_32(part[i] * power)
    if shape & HAS_SATURATING:
        height, rate = numbers[SATURATING], -_LOG2_E / numbers[SATURATING + 1]
        for i in range(n):
            out[i] += height * (F(1) - exp2_32(argument[i] * rate))
    low, high = numbers[CLIP], numbers[CLIP + 1]
    for i in range(n):
        out[i] = min(max(out[i], low), high)
