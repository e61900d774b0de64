"""Uniform noise on pre-activations, fresh at every read."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Amplitude


class UniformNode(Effect):
    """Uniform noise on pre-activations, independent for every unit, sample and pass.

        a -> a + width (u - 1/2),   u ~ U[0, 1)

    Args:
        width: of the distribution, in units of the pre-activation.
    """

    site: ClassVar[Site] = "node"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["uniform-node"] = "uniform-node"
    width: Amplitude

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Value plus noise that is fresh at every read."""
        return value + self.width * (draw.uniform("read", tuple(value.shape)).to(value.dtype) - 0.5)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean a and variance width^2 / 12."""
        return Moments(value, torch.full_like(value, self.width**2 / 12))
