"""Two-valued noise on pre-activations, fresh at every read."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Amplitude


class BernoulliNode(Effect):
    """Two-valued noise on pre-activations, independent for every unit, sample and pass.

        a -> a + amplitude s,   s = +1 or -1 with equal probability

    Args:
        amplitude: of the noise, in units of the pre-activation.
    """

    site: ClassVar[Site] = "node"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["bernoulli-node"] = "bernoulli-node"
    amplitude: Amplitude = Field(description="in units of the pre-activation")

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Value plus noise that is fresh at every read."""
        up = draw.uniform("read", tuple(value.shape)) < 0.5
        return value + torch.where(up, self.amplitude, -self.amplitude).to(value.dtype)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean a and variance amplitude^2."""
        return Moments(value, torch.full_like(value, self.amplitude**2))
