"""Noise on the voltages that drive a tile."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf


class InputNoise(Effect):
    """x -> x + sigma z, z ~ N(0, 1) fresh for every input at every read; sigma in units of the full input range.

    All columns of a tile see the same disturbed input, so this noise is correlated between outputs.
    """

    site: ClassVar[Site] = "input"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["input-noise"] = "input-noise"
    sigma: float = Field(gt=0)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        return value + self.sigma * draw.normal("read", tuple(value.shape)).to(value.dtype)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(value, torch.full_like(value, self.sigma**2))
