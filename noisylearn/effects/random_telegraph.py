"""Random telegraph noise of devices: two conductances, with memory."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.effects.curves import Curve
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Seconds


class RandomTelegraphNoise(Effect):
    """Switching between two conductances in a share of the devices, after dwell times of mean tau in each state.

        G -> G (1 + s A(r) / 2),   s = +1 or -1

    tau is drawn per device, log-uniformly between the stated times; autocorrelation of s: exp(-2 lag / tau). Of two
    reads a pass interval D apart, E[s s'] = rho = exp(-2 D / tau): sqrt(rho) s is the slow part that both share, and
    the rest, of variance 1 - rho, is fresh at every read and lumped at the output as Gaussian. The sum over a column's
    devices is nearly Gaussian, a single device is not.

    Args:
        share: share of the devices that switch.
        relative_amplitude: A as a curve of r = G / g_max.
        dwell_time_s: [shortest, longest] mean dwell time, in seconds.
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "memory"

    kind: Literal["random-telegraph-noise"] = "random-telegraph-noise"
    share: float = Field(gt=0, le=1, description="share of the devices that switch")
    relative_amplitude: Curve
    dwell_time_s: tuple[Seconds, Seconds]

    @model_validator(mode="after")
    def _times(self) -> "RandomTelegraphNoise":
        """Check the order of the dwell times."""
        shortest, longest = self.dwell_time_s
        if shortest > longest:
            raise ValueError(f"dwell_time_s = [shortest, longest] needs the shortest first: {[*self.dwell_time_s]}")
        return self

    def check(self, setting: Setting) -> None:
        """Check that the amplitude makes sense."""
        self.relative_amplitude.check("relative_amplitude", 0, 10, setting.g_max_us)

    def correlation(self, lag_s: float) -> float:
        """Correlation of two reads of a device that switches: exp(-2 lag / tau), averaged over tau.

        Args:
            lag_s: time between the reads, in seconds.
        """
        shortest, longest = self.dwell_time_s
        if lag_s == 0:
            return 1.0
        if shortest == longest:
            return math.exp(-2 * lag_s / longest)
        from scipy.special import exp1  # here, so that importing the package stays light

        first, second = exp1([2 * lag_s / longest, 2 * lag_s / shortest])
        return float(first - second) / math.log(longest / shortest)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Conductances with the slow part of the noise."""
        shared = torch.exp(-setting.pass_interval_s / state["dwell_s"])
        return value * (1 + state["half_swing"] * state["sign"] * shared)

    def read_variance(self, value: Tensor, setting: Setting, state: State) -> Tensor:
        """Variance of the part that is fresh at every read."""
        fresh = -torch.expm1(-2 * setting.pass_interval_s / state["dwell_s"])
        return (value * state["half_swing"]).square_().mul_(fresh)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean G and variance share (G A / 2)^2, over devices."""
        half = value * self._amplitude(value, setting) / 2
        return Moments(value, half.square_().mul_(self.share))

    def start(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Draw which devices switch, their dwell times and states."""
        shape = tuple(value.shape)
        switches = draw.uniform("share", shape) < self.share
        state["half_swing"] = self._amplitude(value, setting).mul_(switches).mul_(0.5)
        shortest, longest = self.dwell_time_s
        exponent = draw.uniform("dwell", shape).to(value.dtype)
        state["dwell_s"] = shortest * (longest / shortest) ** exponent
        state["sign"] = torch.where(draw.uniform("sign", shape) < 0.5, -1.0, 1.0).to(value.dtype)
        state["seen_s"] = torch.zeros((), dtype=torch.float64)

    def elapse(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Draw the states after the time that passed."""
        passed = setting.since_write_s - float(state["seen_s"])
        root = (-torch.expm1(-2 * passed / state["dwell_s"]) / 2).sqrt_()  # of the chance that s is another one now
        first, second = (draw.uniform("flip", tuple(value.shape)) < root for _ in range(2))  # one draw is too coarse
        state["sign"] = torch.where(first & second, -state["sign"], state["sign"])
        state["seen_s"] = torch.tensor(setting.since_write_s, dtype=torch.float64)

    def _amplitude(self, value: Tensor, setting: Setting) -> Tensor:
        """A of every device, by its conductance."""
        return self.relative_amplitude.at(value / setting.g_max_us, setting.g_max_us)
