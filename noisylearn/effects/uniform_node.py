"""Uniform noise on pre-activations, fresh at every read."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf


class UniformNode(Effect):
    """a -> a + width (u - 1/2), u ~ U[0, 1) independent for every unit, sample and pass; width in units of a."""

    site: ClassVar[Site] = "node"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["uniform-node"] = "uniform-node"
    width: float = Field(gt=0)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        return value + self.width * (draw.uniform("read", tuple(value.shape)).to(value.dtype) - 0.5)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(value, torch.full_like(value, self.width**2 / 12))
