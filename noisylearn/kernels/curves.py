"""Curves of an effect as numbers that one kernel takes, whatever terms they have."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from jaxtyping import Float32
from torch import Tensor

from noisylearn.effects.curves import FARTHEST, LARGEST, Curve

# Where the numbers of a piece stand: its limit, then its terms, the polynomial last, with its highest power first.
LOG, POWER, SATURATING, CLIP, POLYNOMIAL = (tl.constexpr(place) for place in (1, 3, 5, 7, 9))
WIDTH = tl.constexpr(POLYNOMIAL.value + 16)
SMALLEST = tl.constexpr(1e-30)  # argument of a logarithm
HAS_LOG, HAS_POWER, HAS_SATURATING = (tl.constexpr(bit) for bit in (32, 64, 128))
Shape = tuple[int, ...]


@dataclass(frozen=True)
class CurveNumbers:
    """A curve of the conductance, for a kernel.

    Args:
        numbers: of every piece, on the device of the weights.
        shape: of every piece, the number of coefficients of its polynomial, plus HAS_LOG, HAS_POWER, HAS_SATURATING: a
            kernel is compiled for these terms, not for their coefficients.
        per_us: argument of the curve per microsiemens.
        largest: argument from which on the curve stays what it is there.
        gain: what the value is multiplied with.
    """

    numbers: Float32[Tensor, "pieces _"]
    shape: Shape
    per_us: float
    largest: float
    gain: float


def curve_numbers(
    curve: Curve, g_max_us: float, reference_g_max_us: float, gain: float, device: torch.device
) -> CurveNumbers:
    """A curve and its use as `Curve.at` uses it, times a gain.

    Args:
        curve: of the relative conductance.
        g_max_us: largest conductance of the machine.
        reference_g_max_us: largest conductance of the devices that were measured.
        gain: what the value is multiplied with.
        device: of the weights.
    """
    pieces = list(_pieces(curve))
    unit = reference_g_max_us if curve.argument == "us" else 1.0
    return CurveNumbers(
        torch.tensor([_numbers(piece, limit) for piece, limit in pieces], device=device),
        tuple(_shape(piece) for piece, _ in pieces),
        unit / g_max_us,
        FARTHEST * unit,
        gain,
    )


def _pieces(curve: Curve) -> Iterator[tuple[Curve, float]]:
    """A curve and those below it, from the highest on, with the argument below which each holds."""
    yield curve, LARGEST
    limit, below = LARGEST, curve.below
    while below is not None:
        limit = min(limit, below.limit)
        yield below, limit
        below = below.below


def _shape(piece: Curve) -> int:
    terms = (piece.log, HAS_LOG), (piece.power, HAS_POWER), (piece.saturating, HAS_SATURATING)
    return len(piece.polynomial) + sum(bit.value for term, bit in terms if term is not None)


def _numbers(piece: Curve, limit: float) -> list[float]:
    low, high = (
        end if math.isfinite(end) else math.copysign(torch.finfo(torch.float32).max, end) for end in piece.clip
    )
    terms = (*(piece.log or (0.0, 0.0)), *(piece.power or (0.0, 0.0)), *(piece.saturating or (0.0, 1.0)), low, high)
    highest_first = [*reversed(piece.polynomial)]
    return [limit, *terms, *highest_first, *[0.0] * (WIDTH.value - POLYNOMIAL.value - len(highest_first))]


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
