"""Read-out circuits that amplify more or less than they should."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Product, Setting, Site, State
from noisylearn.ground.draws import StreamOf


class GainSpread(Effect):
    """Mismatch of the gain of read-out circuits; noise of the devices is amplified too.

        y -> m y,   m ~ N(1, sigma^2) drawn once for every column of every tile

    Args:
        sigma: relative standard deviation of the gain.
    """

    site: ClassVar[Site] = "output"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["gain-spread"] = "gain-spread"
    sigma: float = Field(ge=1e-9, lt=1)

    def fabricate(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Draw the gain of every column."""
        state["gain"] = draw.normal("device", tuple(value.shape)).to(value.dtype).mul_(self.sigma).add_(1)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Products times the gain of their column."""
        return value * state["gain"]

    def carry(self, product: Product, setting: Setting, draw: StreamOf, state: State) -> None:
        """Amplify products and their noise."""
        product.mean = product.mean * state["gain"]
        if product.variance is not None:
            product.variance = product.variance * state["gain"].square()

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean y and variance (sigma y)^2, over columns."""
        return Moments(value, (self.sigma * value) ** 2)
