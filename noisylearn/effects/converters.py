"""Converters at the inputs and the outputs of a tile."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Amplitude


def quantise(value: Tensor, bits: int, limit: float | Tensor) -> Tensor:
    """Nearest of the 2^bits - 1 codes that are evenly spaced over [-limit, limit], zero among them.

    Args:
        value: numbers to convert.
        bits: of the converter.
        limit: half the range, in units of the value; a number or a tensor that broadcasts.

    Returns:
        The value of the nearest code; values outside the range give its ends.
    """
    last = 2 ** (bits - 1) - 1
    step = limit / last
    return (value / step).round_().clamp_(-last, last).mul_(step)


def _quantile(rows: Tensor, share: float) -> Tensor:
    """Quantile of every row, linear between neighbours; torch's own refuses more than 2^24 values."""
    place = share * (rows.shape[1] - 1)
    below, above = (rows.kthvalue(int(k) + 1, dim=1).values for k in (math.floor(place), math.ceil(place)))
    return torch.lerp(below, above, place - math.floor(place))


class Dac(Effect):
    """Digital-to-analog converter of the inputs: rounding to evenly spaced levels, zero among them.

        x -> nearest of 2^bits - 1 levels over [-1, 1],   x in units of the full input range

    Args:
        bits: of the converter.
    """

    site: ClassVar[Site] = "input"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["dac"] = "dac"
    bits: int = Field(ge=2, le=24)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Inputs rounded to the levels."""
        return quantise(value, self.bits, 1.0)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """The rounded input, and variance 0."""
        return Moments(quantise(value, self.bits, 1.0), torch.zeros_like(value))


class Adc(Effect):
    """Analog-to-digital converter of the outputs: rounding to evenly spaced levels, zero among them.

        y -> nearest of 2^bits - 1 levels over [-range, range],   y in units of one full-scale product

    Args:
        bits: of the converter.
        range: largest level, in units of one full-scale product.
        calibration_quantile: where stated, `chip.calibrate(x)` sets every tile's range to this quantile of |y| over the
            samples x; until then `range` holds.
        saturation: "clip", or "halve-inputs": an input vector with an output that saturates is read again with halved
            inputs ("bound management").
        max_halvings: how many times inputs are halved at most.
    """

    site: ClassVar[Site] = "output"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["adc"] = "adc"
    bits: int = Field(ge=2, le=24)
    range: Amplitude
    calibration_quantile: float | None = Field(default=None, gt=0, le=1)
    saturation: Literal["clip", "halve-inputs"] = "clip"
    max_halvings: int = Field(default=0, ge=0, le=30)

    @model_validator(mode="after")
    def _states_halvings(self) -> "Adc":
        """Check that halvings are stated where they are used."""
        if (self.saturation == "halve-inputs") != (self.max_halvings > 0):
            raise ValueError('saturation = "halve-inputs" goes with max_halvings >= 1, and "clip" with none')
        return self

    def limit(self, state: State) -> float | Tensor:
        """The range now.

        Args:
            state: what the converters hold.

        Returns:
            A number, or one per tile (tiles, 1, 1), in units of one full-scale product.
        """
        return state.get("range", self.range)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Products rounded to the levels."""
        return quantise(value, self.bits, self.limit(state))

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """The rounded product over the stated range, and variance 0."""
        return Moments(quantise(value, self.bits, self.range), torch.zeros_like(value))

    def calibrate(self, product: Tensor, state: State) -> None:
        """Set every tile's range from its products; a tile without any signal gets `range`.

        Args:
            product: (tiles, rows, columns), in units of one full-scale product.
            state: what the converters hold; updated in place.
        """
        if self.calibration_quantile is None:
            return
        found = _quantile(product.abs().flatten(1), self.calibration_quantile).reshape(-1, 1, 1)
        state["range"] = torch.where(found > 0, found, torch.full_like(found, self.range))
