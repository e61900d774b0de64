"""Gaussian noise on pre-activations, fresh at every read."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf


class GaussianNode(Effect):
    """a -> a + sigma z, z ~ N(0, 1) independent for every unit, sample and pass; sigma in units of a."""

    site: ClassVar[Site] = "node"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["gaussian-node"] = "gaussian-node"
    sigma: float = Field(gt=0, description="standard deviation, in units of the pre-activation")

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        z = draw.normal("read", tuple(value.shape)).to(value.dtype)
        return z.mul_(self.sigma).add_(value)  # in place: the draw is nobody else's

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(value, torch.full_like(value, self.sigma**2))
