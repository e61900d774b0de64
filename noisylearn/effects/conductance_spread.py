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
    """G -> G m, m drawn once per device.

    distribution: "normal", m = max(1 + sigma z, 0), or "lognormal" of mean 1, m = exp(sigma z - sigma^2 / 2).
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["conductance-spread"] = "conductance-spread"
    sigma: float = Field(gt=0, lt=3)
    distribution: Literal["normal", "lognormal"]

    def fabricate(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        z = draw.normal("device", tuple(value.shape)).to(value.dtype)
        if self.distribution == "lognormal":
            state["factor"] = z.mul_(self.sigma).sub_(self.sigma**2 / 2).exp_()
        else:
            state["factor"] = z.mul_(self.sigma).add_(1).clamp_(min=0)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        return value * state["factor"]

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        if self.distribution == "lognormal":
            return Moments(value, value**2 * math.expm1(self.sigma**2))
        one, sigma = torch.ones_like(value), torch.full_like(value, self.sigma)
        factor = rectified_normal(one, sigma)
        return Moments(value * factor.mean, value**2 * factor.variance)
