"""Noise of the read-out circuit."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Product, Setting, Site, State
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Amplitude


class OutputNoise(Effect):
    """Gaussian noise of the read-out circuit before the converter, fresh at every read of every column of every tile.

        y -> y + sigma z,   z ~ N(0, 1)

    Args:
        sigma: standard deviation, in units of one full-scale product: a device at g_max driven with the full input
            range.
    """

    site: ClassVar[Site] = "output"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["output-noise"] = "output-noise"
    sigma: Amplitude

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Value plus noise that is fresh at every read."""
        return value + self.sigma * draw.normal("read", tuple(value.shape)).to(value.dtype)

    def carry(self, product: Product, setting: Setting, draw: StreamOf, state: State) -> None:
        """Add sigma^2 to the variance of the products."""
        product.add_variance(product.mean.new_full((1, 1, 1), self.sigma**2))

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean y and variance sigma^2."""
        return Moments(value, torch.full_like(value, self.sigma**2))
