"""Counts of numbers that did not fit their range, by the place where it happened."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from noisylearn.backends.loihi.arithmetic import Integers


@dataclass
class Saturation:
    """How many numbers were clipped to their range.

    Args:
        counts: place -> number of clipped numbers.
    """

    counts: Counter[str] = field(default_factory=Counter)

    def clip(self, place: str, values: Integers, low: int, high: int) -> Integers:
        """`values` clipped to low..high; those outside are counted.

        Args:
            place: where it happened, for the counts.
            values: integers of any shape.
            low: smallest value.
            high: largest value.

        Returns:
            Integers of the shape of `values`; `values` itself where all fit.
        """
        if not values.size or (values.max() <= high and values.min() >= low):
            return values
        self.counts[place] += int(np.count_nonzero((values < low) | (values > high)))
        return np.minimum(np.maximum(values, low), high)

    def count(self, place: str, times: int) -> None:
        """Count numbers that were clipped elsewhere."""
        if times:
            self.counts[place] += times

    def add(self, counts: Mapping[str, int]) -> None:
        """Add the counts of another part of the machine."""
        self.counts.update(counts)

    def __str__(self) -> str:
        """One line, with the word SATURATED where anything was clipped."""
        if not self.counts:
            return "nothing saturated"
        places = ", ".join(f"{place} {times:,}" for place, times in sorted(self.counts.items()))
        return f"SATURATED (numbers clipped): {places}"
