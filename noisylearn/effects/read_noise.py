"""Gaussian noise of a device that is fresh at every read."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.effects.curves import Curve


class ReadNoise(Effect):
    """G -> G + (g_max / reference_g_max_us) sigma(r) z, r = G / g_max, z ~ N(0, 1) fresh at every read.

    sigma in microsiemens at the g_max it was measured at. Lumped at the output; reads are not clipped at zero.
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["read-noise"] = "read-noise"
    reference_g_max_us: float = Field(gt=0)
    sigma_us: Curve

    @model_validator(mode="after")
    def _not_negative(self) -> "ReadNoise":
        self.sigma_us.check_not_negative("sigma_us", self.reference_g_max_us)
        return self

    def read_variance(self, value: Tensor, setting: Setting, state: State) -> Tensor:
        """One number where all devices have the same."""
        seen = value.new_zeros(()) if self.sigma_us.is_constant else value
        sigma = self.sigma_us.at(seen / setting.g_max_us, self.reference_g_max_us)
        return sigma.mul_(setting.g_max_us / self.reference_g_max_us).square_()

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(value, self.read_variance(value, setting, {}).expand_as(value))
