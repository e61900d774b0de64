"""Curves of an effect in a kernel that is compiled for their terms, not for their coefficients."""

import triton
import triton.language as tl

from noisylearn.kernels import curves

LOG, POWER, SATURATING, CLIP, POLYNOMIAL = (
    tl.constexpr(place) for place in (curves.LOG, curves.POWER, curves.SATURATING, curves.CLIP, curves.POLYNOMIAL)
)
WIDTH, SMALLEST = tl.constexpr(curves.WIDTH), tl.constexpr(curves.SMALLEST)
HAS_LOG, HAS_POWER, HAS_SATURATING = (
    tl.constexpr(bit) for bit in (curves.HAS_LOG, curves.HAS_POWER, curves.HAS_SATURATING)
)


@triton.jit
def value_at(
    conductance: tl.tensor,
    numbers: tl.tensor,
    per_us: tl.tensor,
    largest: tl.tensor,
    gain: tl.tensor,
    shape: tl.constexpr,
) -> tl.tensor:
    """The curve at conductances, in microsiemens, elementwise; the other arguments are those of `CurveNumbers`."""
    argument = tl.minimum(conductance * per_us, largest)
    total = _piece(argument, numbers, shape[0])
    for i in tl.static_range(1, len(shape)):
        below = argument < tl.load(numbers + i * WIDTH)
        total = tl.where(below, _piece(argument, numbers + i * WIDTH, shape[i]), total)
    return total * gain


@triton.jit
def _piece(argument: tl.tensor, numbers: tl.tensor, shape: tl.constexpr) -> tl.tensor:
    total = tl.zeros_like(argument)
    for i in tl.static_range(shape % 32):
        total = total * argument + tl.load(numbers + POLYNOMIAL + i)
    if (HAS_LOG | HAS_POWER) & shape:
        logarithm = tl.log(tl.maximum(argument, SMALLEST))
        if HAS_LOG & shape:
            total += tl.load(numbers + LOG) * logarithm + tl.load(numbers + LOG + 1)
        if HAS_POWER & shape:
            total += tl.load(numbers + POWER) * tl.exp(logarithm * tl.load(numbers + POWER + 1))
    if HAS_SATURATING & shape:
        total += tl.load(numbers + SATURATING) * (1.0 - tl.exp(-argument / tl.load(numbers + SATURATING + 1)))
    return tl.minimum(tl.maximum(total, tl.load(numbers + CLIP)), tl.load(numbers + CLIP + 1))
