"""How a changed weight becomes an integer again: its fraction is rounded up where it exceeds a threshold."""

from typing import Protocol, final, get_args

import numpy as np

from noisylearn.backends.loihi.arithmetic import Integers
from noisylearn.ground.errors import unknown_name
from noisylearn.profiles.cores import Rounding

FRACTION_BITS = 7
ONE = 2**FRACTION_BITS
_SEED_OF_LAVA = 2


class Thresholds(Protocol):
    """What gives the thresholds of one connection, in 1/128 of a weight's LSB."""

    def next(self) -> Integers | float:
        """Thresholds of the next learning phase: one number, or one for each weight (targets, sources)."""
        ...


@final
class Fixed:
    """Always the same threshold.

    Args:
        threshold: 64 rounds to nearest (halves down), 127 rounds down.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    def next(self) -> float:
        """The threshold."""
        return self._threshold


@final
class Shared:
    """One uniform number in 0..128 for a whole connection, from the stream that Lava gives every connection alike."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(_SEED_OF_LAVA)
        self._random.random(1)  # drawn at construction, and never used for rounding

    def next(self) -> float:
        """The threshold of this learning phase."""
        return float(self._random.random(1)[0]) * ONE


@final
class PerSynapse:
    """One of 0..127 for each weight.

    Args:
        shape: of the weights, (targets, sources).
        seed: of the random stream.
    """

    def __init__(self, shape: tuple[int, int], seed: tuple[int, ...]) -> None:
        self._shape, self._bits = shape, np.random.SFC64(seed)

    def next(self) -> Integers:
        """The thresholds of this learning phase, (targets, sources)."""
        size = self._shape[0] * self._shape[1]
        drawn = self._bits.random_raw(-(-size // 8)).view(np.uint8)[:size]  # four times as fast as Generator.bytes
        return (drawn >> 1).reshape(self._shape)


def thresholds(rounding: Rounding, shape: tuple[int, int], seed: tuple[int, ...]) -> Thresholds:
    """The thresholds of one connection.

    Args:
        rounding: "nearest", "floor", "shared" or "per-synapse".
        shape: of the weights, (targets, sources).
        seed: of the random stream, for "per-synapse".

    Raises:
        UserError: no rounding has this name.
    """
    if rounding == "nearest":
        return Fixed(ONE / 2)
    if rounding == "floor":
        return Fixed(ONE - 1)
    if rounding == "shared":
        return Shared()
    if rounding == "per-synapse":
        return PerSynapse(shape, seed)
    raise unknown_name("rounding", rounding, get_args(Rounding))
