"""Currents that are not proportional to the voltage."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf

LARGEST_VOLTAGE = 2.0  # in units of the full range: no driver gives more, whatever its noise


class IvNonlinearity(Effect):
    """A current that grows faster than the voltage.

        I = G V_max sinh(kappa x) / sinh(kappa),   x = V / V_max, at most 2 in size

    Args:
        kappa: strength of the nonlinearity.
    """

    site: ClassVar[Site] = "input"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["iv-nonlinearity"] = "iv-nonlinearity"
    kappa: float = Field(ge=1e-3, le=20)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Effective inputs sinh(kappa x) / sinh(kappa)."""
        return self.current(value)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """The effective input, and variance 0."""
        return Moments(self.current(value), torch.zeros_like(value))

    def current(self, x: Tensor) -> Tensor:
        """sinh(kappa x) / sinh(kappa), with voltages beyond twice the range counting as twice the range.

        Args:
            x: voltages, in units of the full range.
        """
        return torch.sinh(self.kappa * x.clamp(-LARGEST_VOLTAGE, LARGEST_VOLTAGE)) / math.sinh(self.kappa)
