"""Numbers that a profile may state, with the widest range in which they still describe a machine.

The limits are generous, a thousand times and more beyond what is built. They keep every number that is computed from
them finite in float32, squares of conductances included, and catch many a slip of the unit.
"""

from typing import Annotated

from pydantic import Field

Conductance = Annotated[float, Field(ge=1e-4, le=1e5)]
"""Of a device, in microsiemens: 0.1 nS to 0.1 S."""

Seconds = Annotated[float, Field(ge=1e-15, le=1e12)]
"""A time: a femtosecond to 30000 years."""

Microseconds = Annotated[float, Field(ge=1e-9, le=1e18)]
"""The same times, in microseconds."""

Nanoseconds = Annotated[float, Field(ge=1e-6, le=1e21)]
"""The same times, in nanoseconds."""

Amplitude = Annotated[float, Field(ge=1e-9, le=1e6)]
"""Of signals and noise, in units of numbers of order one, such as pre-activations, weights or full-scale products."""

Spread = Annotated[float, Field(ge=0, le=10)]
"""Of devices or circuits, in units of the mean, of full scale, or of another number of order one."""

Count = Annotated[int, Field(ge=1, le=10**9)]
"""How many, or how often."""

LONGEST_S = 1e12
"""Longest time by which a clock may be moved, in seconds."""
