"""Two-state noise of stochastic magnetic tunnel junctions, one in every neuron, with memory."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Amplitude, Microseconds


class TelegraphNode(Effect):
    """Two-state noise of a stochastic magnetic tunnel junction in every neuron.

        a -> a + b + m s,   b ~ N(0, offset_spread^2),   m ~ N(amplitude, (amplitude amplitude_spread)^2)

    s = +1 or -1 flips after dwell times of mean tau in each state; b and m are drawn once per neuron. The s of two
    reads of a sample have the correlation exp(-2 lag / tau): its passes follow one another at the pass interval, then
    comes the next step of its sequence. Samples of a batch start independently. A junction cannot be switched off.

    Args:
        amplitude: mean of m, in units of the pre-activation.
        amplitude_spread: relative standard deviation of m.
        offset_spread: standard deviation of b, in units of the pre-activation.
        dwell_time_us: tau, in microseconds.
    """

    site: ClassVar[Site] = "node"
    lifetime: ClassVar[Lifetime] = "memory"

    kind: Literal["telegraph-node"] = "telegraph-node"
    amplitude: Amplitude = Field(description="in units of the pre-activation")
    amplitude_spread: float = Field(ge=0, lt=1, description="relative")
    offset_spread: float = Field(ge=0, le=1e6, description="in units of the pre-activation")
    dwell_time_us: Microseconds

    def correlation(self, lag_s: float) -> float:
        """Correlation of two reads, E[s s'] = exp(-2 lag / tau).

        Args:
            lag_s: time between the reads, in seconds.
        """
        return math.exp(-2 * lag_s / (self.dwell_time_us * 1e-6))

    def fabricate(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Draw amplitude and offset of every neuron."""
        shape = tuple(value.shape)
        z = draw.normal("amplitude", shape).to(value.dtype)
        state["amplitude"] = z.mul_(self.amplitude_spread).add_(1).mul_(self.amplitude)
        state["offset"] = draw.normal("offset", shape).to(value.dtype).mul_(self.offset_spread)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """One step: `value` is (passes, batch, ...), the passes in order of time."""
        return self.evolve(value.unsqueeze(1), setting, draw, state, {}).squeeze(1)

    def evolve(self, value: Tensor, setting: Setting, draw: StreamOf, state: State, trail: State) -> Tensor:
        """Flip the states from read to read; the trail holds the last ones."""
        n_passes, n_steps, *rest = value.shape
        chances = [(1 - self.correlation(wait_s)) / 2 for wait_s in setting.waits_s(n_passes, n_steps)]
        if not trail:
            chances[0] = 0.5
        chance = torch.tensor(chances).reshape(n_steps, n_passes, *[1] * len(rest)).transpose(0, 1).to(value.device)
        flips = draw.uniform("flip", tuple(value.shape)) < chance
        in_time = torch.where(flips, -1.0, 1.0).to(value.dtype).transpose(0, 1).flatten(0, 1)
        sign = in_time.cumprod(0).mul_(trail.get("sign", 1.0))
        trail["sign"] = sign[-1].clone()
        return value + state["offset"] + state["amplitude"] * sign.unflatten(0, (n_steps, n_passes)).transpose(0, 1)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean a and variance amplitude^2 (1 + amplitude_spread^2) + offset_spread^2, over neurons and time."""
        variance = self.amplitude**2 * (1 + self.amplitude_spread**2) + self.offset_spread**2
        return Moments(value, torch.full_like(value, variance))
