"""Read-out circuits that do not give zero for nothing."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Product, Setting, Site, State
from noisylearn.ground.draws import StreamOf


class OffsetSpread(Effect):
    """y -> y + b, b ~ N(0, sigma^2) drawn once for every column of every tile; in units of one full-scale product."""

    site: ClassVar[Site] = "output"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["offset-spread"] = "offset-spread"
    sigma: float = Field(gt=0)

    def fabricate(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        state["offset"] = draw.normal("device", tuple(value.shape)).to(value.dtype).mul_(self.sigma)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        return value + state["offset"]

    def carry(self, product: Product, setting: Setting, draw: StreamOf, state: State) -> None:
        product.mean = product.mean + state["offset"]

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(value, torch.full_like(value, self.sigma**2))
