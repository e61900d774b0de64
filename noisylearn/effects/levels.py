"""Devices that can only be set to a few conductances."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import Draws, StreamOf


class Levels(Effect):
    """A finite number of conductances that can be written.

        G -> nearest of `count` conductances that are evenly spaced over [g_min, g_max]

    Args:
        count: number of conductances.
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "write"

    kind: Literal["levels"] = "levels"
    count: int = Field(ge=2, le=2**24)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Conductances rounded to the levels."""
        step = (setting.g_max_us - setting.g_min_us) / (self.count - 1)
        return ((value - setting.g_min_us) / step).round_().clamp_(0, self.count - 1).mul_(step).add_(setting.g_min_us)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """The rounded conductance, and variance 0."""
        return Moments(self.apply(value, setting, StreamOf(Draws(0)), {}), torch.zeros_like(value))
