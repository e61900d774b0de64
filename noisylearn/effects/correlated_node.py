"""Noise on pre-activations of which the units of a layer share a part."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Amplitude


class CorrelatedNode(Effect):
    """Gaussian noise on pre-activations with a part that all units of a layer share, fresh at every read.

        a_i -> a_i + sigma (sqrt(rho) z_0 + sqrt(1 - rho) z_i),   z ~ N(0, 1)

    Node perturbation estimates the product of the gradient with the noise's covariance,
    sigma^2 ((1 - rho) I + rho 1 1'): with rho > 0 that is not the gradient's direction.

    Args:
        sigma: standard deviation, in units of the pre-activation.
        correlation: rho, of the noise of two units.
    """

    site: ClassVar[Site] = "node"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["correlated-node"] = "correlated-node"
    sigma: Amplitude = Field(description="standard deviation, in units of the pre-activation")
    correlation: float = Field(ge=0, le=1)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Value plus noise that is fresh at every read."""
        own = draw.normal("read", tuple(value.shape)).to(value.dtype)
        common = draw.normal("common", (*value.shape[:2], *[1] * (value.dim() - 2))).to(value.dtype)
        return value + self.sigma * (math.sqrt(self.correlation) * common + math.sqrt(1 - self.correlation) * own)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean a and variance sigma^2."""
        return Moments(value, torch.full_like(value, self.sigma**2))
