"""The range of conductances that a device can be written to."""

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Conductance


class ConductanceRange(Effect):
    """Conductances outside the range that a device can take, such as after programming noise, are clipped to it.

        G -> min(max(G, floor), ceiling)

    Args:
        floor_us: smallest conductance of a device, in microsiemens.
        ceiling_us: largest conductance of a device, in microsiemens.
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "write"

    kind: Literal["conductance-range"] = "conductance-range"
    floor_us: float = Field(ge=0, le=1e5)
    ceiling_us: Conductance

    @model_validator(mode="after")
    def _spans(self) -> "ConductanceRange":
        """Check that the range is not empty."""
        if self.floor_us >= self.ceiling_us:
            raise ValueError(f"floor_us = {self.floor_us:g} must be below ceiling_us = {self.ceiling_us:g}")
        return self

    def check(self, setting: Setting) -> None:
        """Check that some of the conductances to be written lie within the range."""
        if self.floor_us >= setting.g_max_us or self.ceiling_us <= setting.g_min_us:
            raise ValueError(
                f"no conductance from g_min_us = {setting.g_min_us:g} to g_max_us = {setting.g_max_us:g} lies between "
                f"floor_us = {self.floor_us:g} and ceiling_us = {self.ceiling_us:g}; check the units"
            )

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Conductances clipped to the range."""
        return value.clamp(self.floor_us, self.ceiling_us)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """The clipped conductance, and variance 0."""
        return Moments(value.clamp(self.floor_us, self.ceiling_us), torch.zeros_like(value))
