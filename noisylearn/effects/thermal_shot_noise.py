"""Thermal and shot noise of the current through a device."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State


class ThermalShotNoise(Effect):
    """Johnson-Nyquist and shot noise of the current G V through a device, fresh at every read.

        var(G) = (4 k T G / V^2 + 2 q G / V) B

    Like all noise of conductances it is scaled with the input, x^2 var(G). Of real currents the thermal noise is the
    same at every voltage and the shot noise grows as |x|, so at small inputs the noise is larger than simulated.

    Args:
        temperature_k: T, in kelvin.
        read_voltage_v: V, the read voltage of a full-scale input, in volts.
        bandwidth_mhz: B, the bandwidth of the read-out, in megahertz.
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["thermal-shot-noise"] = "thermal-shot-noise"
    temperature_k: float = Field(ge=1e-3, le=1e4)
    read_voltage_v: float = Field(ge=1e-4, le=1e3)
    bandwidth_mhz: float = Field(ge=1e-9, le=1e6)

    def check(self, setting: Setting) -> None:
        """Check the noise against the conductances of the machine."""
        deviation_us = (self.variance_per_conductance_us() * setting.g_max_us) ** 0.5
        if deviation_us > 10 * setting.g_max_us:
            raise ValueError(
                f"noise of {deviation_us:.2g} uS on a device of {setting.g_max_us:g} uS; check temperature_k, "
                "read_voltage_v, bandwidth_mhz and their units"
            )

    def variance_per_conductance_us(self) -> float:
        """var(G) / G, in microsiemens."""
        from scipy import constants  # here, so that importing the package stays light

        thermal = 4 * constants.k * self.temperature_k / self.read_voltage_v**2
        shot = 2 * constants.e / self.read_voltage_v
        return (thermal + shot) * self.bandwidth_mhz * 1e6 * 1e6

    def read_variance(self, value: Tensor, setting: Setting, state: State) -> Tensor:
        """var(G), in microsiemens squared."""
        return value.clamp(min=0) * self.variance_per_conductance_us()

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean G and variance var(G)."""
        return Moments(value, self.read_variance(value, setting, {}))
