"""Noise of a shift register on pre-activations, as the neurons of Loihi make it, fresh at every read."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Amplitude

STATES = 256


class LfsrNode(Effect):
    """Noise of a shift register, as in the neurons of Loihi, independent for every unit, sample and pass.

        a -> a + lsb 2^(exponent - 7) (r - 128 + 64 mantissa),   r one of 0..255 with equal probability

    Of the register's 8 bits only the distribution is simulated. Mean lsb 2^(exponent - 7) (64 mantissa - 1/2), variance
    (lsb 2^(exponent - 7))^2 (256^2 - 1) / 12: a standard deviation of 0.577 lsb 2^exponent.

    Args:
        exponent: of the amplitude.
        mantissa: of the mean.
        lsb: the machine's unit of the pre-activation, in units of the pre-activation.
    """

    site: ClassVar[Site] = "node"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["lfsr-node"] = "lfsr-node"
    exponent: int = Field(ge=0, le=15)
    mantissa: int = Field(ge=-8, le=7)
    lsb: Amplitude = Field(description="in units of the pre-activation")

    @property
    def step(self) -> float:
        """Distance of two neighbouring values, in units of the pre-activation."""
        return float(self.lsb * 2.0 ** (self.exponent - 7))

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Value plus noise that is fresh at every read."""
        register = (draw.uniform("read", tuple(value.shape)) * STATES).floor().clamp_(max=STATES - 1)
        return value + self.step * (register.to(value.dtype) - 128 + 64 * self.mantissa)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean and variance of the uniform distribution over 256 values."""
        mean = value + self.step * (64 * self.mantissa - 0.5)
        return Moments(mean, torch.full_like(value, self.step**2 * (STATES**2 - 1) / 12))
