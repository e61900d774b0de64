"""Thermal and shot noise of the current through a device."""

from typing import ClassVar, Literal

from pydantic import Field
from scipy import constants
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State


class ThermalShotNoise(Effect):
    """var(G) = (4 k T G / V^2 + 2 q G / V) B, fresh at every read: Johnson-Nyquist and shot noise of the current G V.

    B is the bandwidth of the read-out, V the read voltage of a full-scale input, T the temperature. Like every noise of
    conductances it goes with the input, x^2 var(G); of the currents themselves the thermal noise is the same at every
    voltage and the shot noise goes with |x|: at small inputs it is larger in truth.
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["thermal-shot-noise"] = "thermal-shot-noise"
    temperature_k: float = Field(gt=0)
    read_voltage_v: float = Field(gt=0)
    bandwidth_mhz: float = Field(gt=0)

    def variance_per_conductance_us(self) -> float:
        """var(G) / G, microsiemens."""
        thermal = 4 * constants.k * self.temperature_k / self.read_voltage_v**2
        shot = 2 * constants.e / self.read_voltage_v
        return (thermal + shot) * self.bandwidth_mhz * 1e6 * 1e6

    def read_variance(self, value: Tensor, setting: Setting, state: State) -> Tensor:
        return value.clamp(min=0) * self.variance_per_conductance_us()

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(value, self.read_variance(value, setting, {}))
