"""Conductances that wander from where they were written."""

import math
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.effects.curves import Curve
from noisylearn.effects.rectified import rectified_normal
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Conductance, Seconds


class Relaxation(Effect):
    """Conductances that wander from where they were written.

        G(t) = max(G + shift ln(t / t0) + (g_max / reference_g_max_us) sigma(r, t) z(t), 0),   r = G / g_max as written

    sigma(r, t) is stated at a few times after programming and interpolated linearly in ln t, constant outside them.
    z(t) ~ N(0, 1): where sigma grows, the growth of the variance is new and independent; where it shrinks, z stays.
    Two passes of a step see the same conductance.

    Args:
        reference_g_max_us: g_max of the measurement, in microsiemens.
        times_s: times after programming at which sigma is stated, rising, in seconds.
        sigma_us: standard deviation at each of them as a curve of r, in microsiemens at the g_max of the measurement.
        shift_us_per_log_time: mean shift per unit of ln t, in microsiemens.
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "memory"

    kind: Literal["relaxation"] = "relaxation"
    reference_g_max_us: Conductance
    times_s: tuple[Seconds, ...] = Field(min_length=1, max_length=100)
    sigma_us: tuple[Curve, ...] = Field(min_length=1, max_length=100)
    shift_us_per_log_time: float = 0.0

    @model_validator(mode="after")
    def _one_curve_per_time(self) -> "Relaxation":
        """Check the times and their curves."""
        if len(self.times_s) != len(self.sigma_us):
            raise ValueError(f"{len(self.times_s)} times_s but {len(self.sigma_us)} curves sigma_us: give one per time")
        if list(self.times_s) != sorted(set(self.times_s)):
            raise ValueError(f"times_s must rise, found {[*self.times_s]}")
        if abs(self.shift_us_per_log_time) > self.reference_g_max_us:
            raise ValueError(f"shift_us_per_log_time = {self.shift_us_per_log_time:g} is beyond reference_g_max_us")
        for curve in self.sigma_us:
            curve.check("sigma_us", 0, 10 * self.reference_g_max_us, self.reference_g_max_us)
        return self

    def check(self, setting: Setting) -> None:
        """Check the g_max of the measurement."""
        setting.check_reference(self.reference_g_max_us)

    def deviation_us(self, value: Tensor, setting: Setting) -> Tensor:
        """Standard deviation at the time of `setting`, before the floor.

        Args:
            value: conductances as they were written, in microsiemens.
            setting: what is known of the chip.

        Returns:
            Standard deviation in microsiemens, of the shape of `value`.
        """
        r = value / setting.g_max_us
        at = [curve.at(r, self.reference_g_max_us) for curve in self.sigma_us]
        place = float(np.interp(math.log(setting.age_s), np.log(self.times_s), range(len(at))))
        before, share = int(place), place - int(place)
        sigma = at[before] if not share else torch.lerp(at[before], at[before + 1], share)
        return sigma * (setting.g_max_us / self.reference_g_max_us)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Conductances at the time of `setting`."""
        return (value + state["offset_us"] + self._shift(setting)).clamp_(min=0)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Moments of the rectified normal."""
        return rectified_normal(value + self._shift(setting), self.deviation_us(value, setting))

    def start(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Draw the deviation at the time of programming."""
        state["sigma_us"] = self.deviation_us(value, setting)
        state["offset_us"] = state["sigma_us"] * draw.normal("walk", tuple(value.shape)).to(value.dtype)

    def elapse(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Grow or shrink the deviation."""
        before, now = state["sigma_us"], self.deviation_us(value, setting)
        z = draw.normal("walk", tuple(value.shape)).to(value.dtype)
        grown = state["offset_us"] + (now**2 - before**2).clamp_(min=0).sqrt_() * z
        shrunk = state["offset_us"] * now / torch.where(before > 0, before, 1.0)
        state["offset_us"] = torch.where(now >= before, grown, shrunk)
        state["sigma_us"] = now

    def _shift(self, setting: Setting) -> float:
        """Mean shift at this time, in microsiemens."""
        return self.shift_us_per_log_time * math.log(setting.age_s / setting.t0_s)
