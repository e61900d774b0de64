"""Noise of the read-out circuit."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Product, Setting, Site, State
from noisylearn.ground.draws import StreamOf


class OutputNoise(Effect):
    """y -> y + sigma z, z ~ N(0, 1) fresh at every read of every column of every tile, before the converter.

    sigma in units of one full-scale product: a device at g_max driven with the full input range.
    """

    site: ClassVar[Site] = "output"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["output-noise"] = "output-noise"
    sigma: float = Field(gt=0)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        return value + self.sigma * draw.normal("read", tuple(value.shape)).to(value.dtype)

    def carry(self, product: Product, setting: Setting, draw: StreamOf, state: State) -> None:
        product.add_variance(product.mean.new_full((1, 1, 1), self.sigma**2))

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(value, torch.full_like(value, self.sigma**2))
