"""The range that a device cannot leave when it is written."""

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf


class ConductanceRange(Effect):
    """G -> min(max(G, floor), ceiling), microsiemens: what programming noise carries outside is cut off."""

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "write"

    kind: Literal["conductance-range"] = "conductance-range"
    floor_us: float = Field(ge=0)
    ceiling_us: float = Field(gt=0)

    @model_validator(mode="after")
    def _spans(self) -> "ConductanceRange":
        if self.floor_us >= self.ceiling_us:
            raise ValueError(f"floor_us = {self.floor_us:g} must be below ceiling_us = {self.ceiling_us:g}")
        return self

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        return value.clamp(self.floor_us, self.ceiling_us)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(value.clamp(self.floor_us, self.ceiling_us), torch.zeros_like(value))
