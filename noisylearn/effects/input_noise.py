"""Noise on the voltages that drive a tile."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf


class InputNoise(Effect):
    """Gaussian noise of the input drivers, fresh for every input at every read.

        x -> x + sigma z,   z ~ N(0, 1)

    All columns of a tile see the same noisy input, so this noise is correlated between outputs.

    Args:
        sigma: standard deviation, in units of the full input range.
    """

    site: ClassVar[Site] = "input"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["input-noise"] = "input-noise"
    sigma: float = Field(ge=1e-9, le=10)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Value plus noise that is fresh at every read."""
        return value + self.sigma * draw.normal("read", tuple(value.shape)).to(value.dtype)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean x and variance sigma^2."""
        return Moments(value, torch.full_like(value, self.sigma**2))
