"""Read-out circuits that amplify more or less than they should."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Product, Setting, Site, State
from noisylearn.ground.draws import StreamOf


class GainSpread(Effect):
    """y -> m y, m ~ N(1, sigma^2) drawn once for every column of every tile; noise of the devices is amplified too."""

    site: ClassVar[Site] = "output"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["gain-spread"] = "gain-spread"
    sigma: float = Field(gt=0, lt=1)

    def fabricate(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        state["gain"] = draw.normal("device", tuple(value.shape)).to(value.dtype).mul_(self.sigma).add_(1)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        return value * state["gain"]

    def carry(self, product: Product, setting: Setting, draw: StreamOf, state: State) -> None:
        product.mean = product.mean * state["gain"]
        if product.variance is not None:
            product.variance = product.variance * state["gain"].square()

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(value, (self.sigma * value) ** 2)
