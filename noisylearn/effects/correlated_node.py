"""Noise on pre-activations of which the units of a layer share a part."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf


class CorrelatedNode(Effect):
    """a_i -> a_i + sigma (sqrt(rho) z_0 + sqrt(1 - rho) z_i), z_0 common to the units of a layer; fresh at every read.

    Of the noise's covariance, sigma^2 ((1 - rho) I + rho 1 1'), node perturbation estimates the product with the
    gradient: with rho > 0 that is not the gradient's direction.
    """

    site: ClassVar[Site] = "node"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["correlated-node"] = "correlated-node"
    sigma: float = Field(gt=0, description="standard deviation, in units of the pre-activation")
    correlation: float = Field(ge=0, le=1)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        own = draw.normal("read", tuple(value.shape)).to(value.dtype)
        common = draw.normal("common", (*value.shape[:2], *[1] * (value.dim() - 2))).to(value.dtype)
        return value + self.sigma * (math.sqrt(self.correlation) * common + math.sqrt(1 - self.correlation) * own)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(value, torch.full_like(value, self.sigma**2))
