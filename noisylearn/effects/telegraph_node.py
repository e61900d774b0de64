"""Two-state noise of stochastic magnetic tunnel junctions, one in every neuron, with memory."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf


class TelegraphNode(Effect):
    """a -> a + b + m s, s = +-1 flips after dwell times of mean tau in each state; b and m drawn once per neuron.

    b ~ N(0, offset_spread^2),  m ~ N(amplitude, (amplitude amplitude_spread)^2).  Passes of a sample follow one another
    at the pass interval D, so that their s correlate by exp(-2 D / tau); samples of a batch start independently.
    A junction cannot be switched off.
    """

    site: ClassVar[Site] = "node"
    lifetime: ClassVar[Lifetime] = "memory"

    kind: Literal["telegraph-node"] = "telegraph-node"
    amplitude: float = Field(gt=0, description="in units of the pre-activation")
    amplitude_spread: float = Field(ge=0, lt=1, description="relative")
    offset_spread: float = Field(ge=0, description="in units of the pre-activation")
    dwell_time_us: float = Field(gt=0)

    @property
    def can_be_off(self) -> bool:
        return False

    def correlation(self, lag_s: float) -> float:
        """E[s s'] of two reads a lag apart."""
        return math.exp(-2 * lag_s / (self.dwell_time_us * 1e-6))

    def fabricate(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        shape = tuple(value.shape)
        z = draw.normal("amplitude", shape).to(value.dtype)
        state["amplitude"] = z.mul_(self.amplitude_spread).add_(1).mul_(self.amplitude)
        state["offset"] = draw.normal("offset", shape).to(value.dtype).mul_(self.offset_spread)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """value: (passes, batch, ...), the passes in their order in time."""
        flip_chance = torch.full((len(value),), (1 - self.correlation(setting.pass_interval_s)) / 2)
        flip_chance[0] = 0.5
        flip_chance = flip_chance.to(value.device).reshape(-1, *[1] * (value.dim() - 1))
        flips = draw.uniform("flip", tuple(value.shape)) < flip_chance
        sign = torch.where(flips, -1.0, 1.0).to(value.dtype).cumprod(0)
        return value + state["offset"] + state["amplitude"] * sign

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        variance = self.amplitude**2 * (1 + self.amplitude_spread**2) + self.offset_spread**2
        return Moments(value, torch.full_like(value, variance))
