"""Gaussian noise of a device that is fresh at every read."""

from typing import ClassVar, Literal

from pydantic import model_validator
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.effects.curves import Curve
from noisylearn.ground.quantities import Conductance


class ReadNoise(Effect):
    """Gaussian noise of the conductance, fresh at every read.

        G -> G + (g_max / reference_g_max_us) sigma(r) z,   z ~ N(0, 1),   r = G / g_max

    Lumped at the output; reads are not clipped at zero.

    Args:
        reference_g_max_us: g_max of the measurement, in microsiemens.
        sigma_us: standard deviation as a curve of r, in microsiemens at the g_max of the measurement.
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["read-noise"] = "read-noise"
    reference_g_max_us: Conductance
    sigma_us: Curve

    @model_validator(mode="after")
    def _not_negative(self) -> "ReadNoise":
        """Check that the standard deviation is not negative."""
        self.sigma_us.check("sigma_us", 0, 10 * self.reference_g_max_us, self.reference_g_max_us)
        return self

    def check(self, setting: Setting) -> None:
        """Check the g_max of the measurement."""
        setting.check_reference(self.reference_g_max_us)

    def read_variance(self, value: Tensor, setting: Setting, state: State) -> Tensor:
        """((g_max / reference_g_max_us) sigma(r))^2; one number where it is the same for all devices."""
        seen = value.new_zeros(()) if self.sigma_us.is_constant else value
        sigma = self.sigma_us.at(seen / setting.g_max_us, self.reference_g_max_us)
        return sigma.mul_(setting.g_max_us / self.reference_g_max_us).square_()

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean G and that variance."""
        return Moments(value, self.read_variance(value, setting, {}).expand_as(value))
