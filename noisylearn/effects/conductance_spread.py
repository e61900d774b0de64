"""Devices that systematically conduct more or less than they should."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.effects.rectified import rectified_normal
from noisylearn.ground.draws import StreamOf


class ConductanceSpread(Effect):
    """Mismatch of devices: a factor drawn once per device.

        G -> G m,   m = max(1 + sigma z, 0)  or  m = exp(sigma z - sigma^2 / 2),   z ~ N(0, 1)

    Args:
        sigma: relative standard deviation of a "normal" factor, standard deviation of ln m of a "lognormal" one.
        distribution: "normal", the first form of m, or "lognormal", the second, of mean 1.
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["conductance-spread"] = "conductance-spread"
    sigma: float = Field(ge=1e-9, lt=3)
    distribution: Literal["normal", "lognormal"]

    def fabricate(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Draw the factor of every device."""
        z = draw.normal("device", tuple(value.shape)).to(value.dtype)
        if self.distribution == "lognormal":
            state["factor"] = z.mul_(self.sigma).sub_(self.sigma**2 / 2).exp_()
        else:
            state["factor"] = z.mul_(self.sigma).add_(1).clamp_(min=0)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Conductances times the factors of their devices."""
        return value * state["factor"]

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Moments over devices; those of a normal factor are of the rectified normal."""
        if self.distribution == "lognormal":
            return Moments(value, value**2 * math.expm1(self.sigma**2))
        one, sigma = torch.ones_like(value), torch.full_like(value, self.sigma)
        factor = rectified_normal(one, sigma)
        return Moments(value * factor.mean, value**2 * factor.variance)
