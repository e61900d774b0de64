"""Gaussian noise on pre-activations, fresh at every read."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Amplitude


class GaussianNode(Effect):
    """Gaussian noise on pre-activations, independent for every unit, sample and pass.

        a -> a + sigma z,   z ~ N(0, 1)

    Args:
        sigma: standard deviation, in units of the pre-activation.
    """

    site: ClassVar[Site] = "node"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["gaussian-node"] = "gaussian-node"
    sigma: Amplitude = Field(description="standard deviation, in units of the pre-activation")

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Value plus noise that is fresh at every read."""
        z = draw.normal("read", tuple(value.shape)).to(value.dtype)
        return z.mul_(self.sigma).add_(value)  # in place: the draw is nobody else's

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean a and variance sigma^2."""
        return Moments(value, torch.full_like(value, self.sigma**2))
