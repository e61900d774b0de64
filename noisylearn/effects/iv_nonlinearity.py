"""Currents that are not proportional to the voltage."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf


class IvNonlinearity(Effect):
    """A current that grows faster than the voltage.

        I = G V_max sinh(kappa x) / sinh(kappa),   x = V / V_max

    Args:
        kappa: strength of the nonlinearity.
    """

    site: ClassVar[Site] = "input"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["iv-nonlinearity"] = "iv-nonlinearity"
    kappa: float = Field(gt=0, lt=50)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Effective inputs sinh(kappa x) / sinh(kappa)."""
        return torch.sinh(self.kappa * value) / math.sinh(self.kappa)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """The effective input, and variance 0."""
        return Moments(torch.sinh(self.kappa * value) / math.sinh(self.kappa), torch.zeros_like(value))
