"""Read-out circuits whose output is not zero at zero input."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Product, Setting, Site, State
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Amplitude


class OffsetSpread(Effect):
    """Offsets of read-out circuits, drawn once for every column of every tile.

        y -> y + b,   b ~ N(0, sigma^2)

    Args:
        sigma: standard deviation, in units of one full-scale product.
    """

    site: ClassVar[Site] = "output"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["offset-spread"] = "offset-spread"
    sigma: Amplitude

    def fabricate(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Draw the offset of every column."""
        state["offset"] = draw.normal("device", tuple(value.shape)).to(value.dtype).mul_(self.sigma)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Products plus the offset of their column."""
        return value + state["offset"]

    def carry(self, product: Product, setting: Setting, draw: StreamOf, state: State) -> None:
        """Add the offsets to the products."""
        product.mean = product.mean + state["offset"]

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean y and variance sigma^2, over columns."""
        return Moments(value, torch.full_like(value, self.sigma**2))
