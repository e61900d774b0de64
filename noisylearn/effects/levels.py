"""Devices that can only be set to a few conductances."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import Draws, StreamOf


class Levels(Effect):
    """G -> nearest of `count` conductances that lie evenly over [g_min, g_max]."""

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "write"

    kind: Literal["levels"] = "levels"
    count: int = Field(ge=2)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        step = (setting.g_max_us - setting.g_min_us) / (self.count - 1)
        return ((value - setting.g_min_us) / step).round_().clamp_(0, self.count - 1).mul_(step).add_(setting.g_min_us)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(self.apply(value, setting, StreamOf(Draws(0)), {}), torch.zeros_like(value))
