"""Curves of an effect as numbers, so that one kernel takes any of them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from noisylearn.effects.curves import FARTHEST, LARGEST, Curve

# Where the numbers of a piece stand: its limit, then its terms, the polynomial last, with its highest power first.
LOG, POWER, SATURATING, CLIP, POLYNOMIAL = 1, 3, 5, 7, 9
WIDTH = POLYNOMIAL + 16
SMALLEST = 1e-30  # argument of a logarithm
HAS_LOG, HAS_POWER, HAS_SATURATING = 32, 64, 128
LEAST_US = 1e-6  # conductance that an amplitude in microsiemens is divided by
Shape = tuple[int, ...]


@dataclass(frozen=True)
class CurveNumbers:
    """A curve of the conductance, for a kernel.

    Args:
        numbers: of every piece, on the device of the weights.
        shape: of every piece, the number of coefficients of its polynomial, plus HAS_LOG, HAS_POWER, HAS_SATURATING.
        per_us: argument of the curve per microsiemens.
        largest: argument from which on the curve stays what it is there.
        gain: what the value is multiplied with.
    """

    numbers: Float32[Tensor, "pieces _"]
    shape: Shape
    per_us: float
    largest: float
    gain: float


class Noise(NamedTuple):
    """Gaussian noise of every device, made in the kernel.

    Args:
        curve: its size, as a curve of the conductance.
        key: of the draw, (1,).
    """

    curve: CurveNumbers
    key: Int64[Tensor, " 1"]


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
    return len(piece.polynomial) + sum(bit for term, bit in terms if term is not None)


def _numbers(piece: Curve, limit: float) -> list[float]:
    low, high = (
        end if math.isfinite(end) else math.copysign(torch.finfo(torch.float32).max, end) for end in piece.clip
    )
    terms = (*(piece.log or (0.0, 0.0)), *(piece.power or (0.0, 0.0)), *(piece.saturating or (0.0, 1.0)), low, high)
    highest_first = [*reversed(piece.polynomial)]
    return [limit, *terms, *highest_first, *[0.0] * (WIDTH - POLYNOMIAL - len(highest_first))]
