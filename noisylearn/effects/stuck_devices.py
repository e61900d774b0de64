"""Devices that cannot be written."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf


class StuckDevices(Effect):
    """Devices that stay at g_min or g_max whatever is written; which they are is drawn once.

    Args:
        at_g_min: share of the devices that stay at g_min.
        at_g_max: share of the devices that stay at g_max.
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["stuck-devices"] = "stuck-devices"
    at_g_min: float = Field(ge=0, le=1, description="share of the devices")
    at_g_max: float = Field(ge=0, le=1, description="share of the devices")

    @model_validator(mode="after")
    def _shares(self) -> "StuckDevices":
        """Check that the shares sum to more than 0 and at most 1."""
        if not 0 < self.at_g_min + self.at_g_max <= 1:
            raise ValueError(f"at_g_min + at_g_max = {self.at_g_min + self.at_g_max:g} must lie in (0, 1]")
        return self

    def fabricate(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Draw which devices are stuck."""
        state["place"] = draw.uniform("device", tuple(value.shape)).to(value.dtype)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Conductances with those of the stuck devices replaced."""
        low = state["place"] < self.at_g_min
        high = ~low & (state["place"] < self.at_g_min + self.at_g_max)
        return value.masked_fill(low, setting.g_min_us).masked_fill_(high, setting.g_max_us)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Moments of the mixture of free and stuck devices."""
        free = 1 - self.at_g_min - self.at_g_max
        mean = free * value + self.at_g_min * setting.g_min_us + self.at_g_max * setting.g_max_us
        second = free * value**2 + self.at_g_min * setting.g_min_us**2 + self.at_g_max * setting.g_max_us**2
        return Moments(mean, second - mean**2)
