"""Integer arithmetic shared by the emulator and the Lava processes; every result is exact, and none is a float."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[Any]


def signed_range(bits: int) -> tuple[int, int]:
    """Smallest and largest number of `bits` bits, including the sign bit."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def shifted(values: Integers, exponent: int) -> Integers:
    """floor(values 2^exponent), of the shape of `values`; the exponent may be negative."""
    return values << exponent if exponent >= 0 else values >> -exponent


def shifted_to_nearest(values: Integers, exponent: int) -> Integers:
    """The product values 2^exponent rounded to the nearest integer, halves up; of the shape of `values`."""
    if exponent >= 0:
        return values << exponent
    return (values + (1 << (-exponent - 1))) >> -exponent


def scaled_at_random(values: Integers, factor: int, shift: int, random: np.random.Generator) -> Integers:
    """The product values factor 2^-shift, rounded stochastically: up with a probability equal to the fraction.

    Args:
        values: integers, (n,).
        factor: an integer.
        shift: 0 to 32.
        random: source of one 32-bit number a value; no number is drawn where `shift` is 0.

    Returns:
        Integers, (n,).
    """
    product = values * factor
    if not shift:
        return product
    drawn = np.frombuffer(random.bytes(4 * len(values)), np.uint32) >> (32 - shift)
    return (product + drawn) >> shift


def trace_of(payload: Integers, trace_bits: int) -> Integers:
    """The trace that a graded spike leaves: half its payload, halves rounded to even, at most 2^trace_bits - 1.

    Args:
        payload: integers from 0, of any shape.
        trace_bits: bits of a trace.

    Returns:
        Integers of the shape of `payload`.
    """
    half = (payload >> 1) + ((payload & 3) == 3)
    return np.minimum(half, 2**trace_bits - 1)
