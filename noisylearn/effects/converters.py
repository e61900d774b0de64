"""Converters at the inputs and the outputs of a tile."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf


def quantise(value: Tensor, bits: int, limit: float | Tensor) -> Tensor:
    """Nearest of the 2^bits - 1 codes that lie evenly over [-limit, limit], zero among them."""
    last = 2 ** (bits - 1) - 1
    step = limit / last
    return (value / step).round_().clamp_(-last, last).mul_(step)


def _quantile(rows: Tensor, share: float) -> Tensor:
    """Of every row, linear between neighbours; torch's own refuses more than 2^24 values."""
    place = share * (rows.shape[1] - 1)
    below, above = (rows.kthvalue(int(k) + 1, dim=1).values for k in (math.floor(place), math.ceil(place)))
    return torch.lerp(below, above, place - math.floor(place))


class Dac(Effect):
    """x -> nearest of 2^bits - 1 levels over [-1, 1], zero among them; x in units of the full input range."""

    site: ClassVar[Site] = "input"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["dac"] = "dac"
    bits: int = Field(ge=2, le=24)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        return quantise(value, self.bits, 1.0)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(quantise(value, self.bits, 1.0), torch.zeros_like(value))


class Adc(Effect):
    """y -> nearest of 2^bits - 1 levels over [-range, range], zero among them; y in units of one full-scale product.

    calibration_quantile: where stated, `chip.calibrate(x)` sets every tile's range to this quantile of |y| over the
    samples x; until then `range` holds.  saturation: "clip", or "halve-inputs": a vector of which some output
    saturates is read again with halved inputs, up to max_halvings times ("bound management").
    """

    site: ClassVar[Site] = "output"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["adc"] = "adc"
    bits: int = Field(ge=2, le=24)
    range: float = Field(gt=0)
    calibration_quantile: float | None = Field(default=None, gt=0, le=1)
    saturation: Literal["clip", "halve-inputs"] = "clip"
    max_halvings: int = Field(default=0, ge=0, le=30)

    @model_validator(mode="after")
    def _states_halvings(self) -> "Adc":
        if (self.saturation == "halve-inputs") != (self.max_halvings > 0):
            raise ValueError('saturation = "halve-inputs" goes with max_halvings >= 1, and "clip" with none')
        return self

    def limit(self, state: State) -> float | Tensor:
        """The range now, a number or one per tile (tiles, 1, 1)."""
        return state.get("range", self.range)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        return quantise(value, self.bits, self.limit(state))

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(quantise(value, self.bits, self.range), torch.zeros_like(value))

    def calibrate(self, product: Tensor, state: State) -> None:
        """Set every tile's range from its products (tiles, rows, columns); a tile without any signal keeps its own."""
        if self.calibration_quantile is None:
            return
        found = _quantile(product.abs().flatten(1), self.calibration_quantile).reshape(-1, 1, 1)
        state["range"] = torch.where(found > 0, found, torch.full_like(found, self.range))
