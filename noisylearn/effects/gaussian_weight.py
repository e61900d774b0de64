"""Gaussian noise injected into the weights, one draw for a whole pass: what weight perturbation learns from."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Amplitude


class GaussianWeight(Effect):
    """Gaussian noise on weights, independent for every weight and bias, the same for all samples of a pass.

        w -> w + sigma z,   z ~ N(0, 1)

    Args:
        sigma: standard deviation, in units of the weight.
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "pass"

    kind: Literal["gaussian-weight"] = "gaussian-weight"
    sigma: Amplitude = Field(description="standard deviation, in units of the weight")

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Weights plus noise that is drawn anew in every pass."""
        return value + self.sigma * draw.normal("pass", tuple(value.shape)).to(value.dtype)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean w and variance sigma^2."""
        return Moments(value, torch.full_like(value, self.sigma**2))
