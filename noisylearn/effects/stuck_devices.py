"""Devices that cannot be written."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf


class StuckDevices(Effect):
    """A share of the devices, drawn once, stays at g_min and another at g_max, whatever is written."""

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["stuck-devices"] = "stuck-devices"
    at_g_min: float = Field(ge=0, le=1, description="share of the devices")
    at_g_max: float = Field(ge=0, le=1, description="share of the devices")

    @model_validator(mode="after")
    def _shares(self) -> "StuckDevices":
        if not 0 < self.at_g_min + self.at_g_max <= 1:
            raise ValueError(f"at_g_min + at_g_max = {self.at_g_min + self.at_g_max:g} must lie in (0, 1]")
        return self

    def fabricate(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        state["place"] = draw.uniform("device", tuple(value.shape)).to(value.dtype)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        low = state["place"] < self.at_g_min
        high = ~low & (state["place"] < self.at_g_min + self.at_g_max)
        return value.masked_fill(low, setting.g_min_us).masked_fill_(high, setting.g_max_us)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        free = 1 - self.at_g_min - self.at_g_max
        mean = free * value + self.at_g_min * setting.g_min_us + self.at_g_max * setting.g_max_us
        second = free * value**2 + self.at_g_min * setting.g_min_us**2 + self.at_g_max * setting.g_max_us**2
        return Moments(mean, second - mean**2)
