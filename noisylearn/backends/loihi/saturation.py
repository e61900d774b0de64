"""Counts of numbers that did not fit, by the place where it happened."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from noisylearn.backends.loihi.arithmetic import Integers


@dataclass
class Saturation:
    """How many numbers were clipped to their range, by place."""

    counts: Counter[str] = field(default_factory=Counter)

    def clip(self, place: str, values: Integers, low: int, high: int) -> Integers:
        """values within low..high; what was outside is counted."""
        if not values.size or (values.max() <= high and values.min() >= low):
            return values
        self.counts[place] += int(np.count_nonzero((values < low) | (values > high)))
        return np.minimum(np.maximum(values, low), high)

    def count(self, place: str, times: int) -> None:
        """Note that so many numbers were clipped elsewhere."""
        if times:
            self.counts[place] += times

    def add(self, counts: Mapping[str, int]) -> None:
        """Add the counts of another part of the machine."""
        self.counts.update(counts)

    def __str__(self) -> str:
        if not self.counts:
            return "nothing saturated"
        places = ", ".join(f"{place} {times:,}" for place, times in sorted(self.counts.items()))
        return f"SATURATED (numbers clipped): {places}"
