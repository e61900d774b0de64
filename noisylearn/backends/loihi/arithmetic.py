"""Integer arithmetic that the emulator and the processes in Lava share. Everything is exact: no number is a float."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[Any]


def signed_range(bits: int) -> tuple[int, int]:
    """Smallest and largest number of `bits` bits, the sign among them."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def shifted(values: Integers, exponent: int) -> Integers:
    """floor(values 2^exponent)."""
    return values << exponent if exponent >= 0 else values >> -exponent


def shifted_to_nearest(values: Integers, exponent: int) -> Integers:
    """values 2^exponent to the nearest integer, halves up."""
    if exponent >= 0:
        return values << exponent
    return (values + (1 << (-exponent - 1))) >> -exponent


def scaled_at_random(values: Integers, factor: int, shift: int, random: np.random.Generator) -> Integers:
    """values (n,) x factor 2^-shift, shift at most 32, rounded up with the chance that the fraction gives."""
    product = values * factor
    if not shift:
        return product
    drawn = np.frombuffer(random.bytes(4 * len(values)), np.uint32) >> (32 - shift)
    return (product + drawn) >> shift


def trace_of(payload: Integers, trace_bits: int) -> Integers:
    """The trace that a graded spike leaves: half its payload, halves to even, at most 2^trace_bits - 1."""
    half = (payload >> 1) + ((payload & 3) == 3)
    return np.minimum(half, 2**trace_bits - 1)
