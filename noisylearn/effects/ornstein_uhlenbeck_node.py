"""Gaussian noise of neurons with an exponential autocorrelation: the Ornstein-Uhlenbeck process."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Amplitude, Microseconds


class OrnsteinUhlenbeckNode(Effect):
    """Stationary Gaussian noise on pre-activations with an exponential autocorrelation.

        a -> a + n(t),   E[n] = 0,   E[n(t) n(t + lag)] = sigma^2 exp(-lag / tau)

    One independent n for every unit and sample; reads follow one another at the pass interval and the step interval of
    the profile. From read to read, a lag apart, exactly: n' = rho n + sigma sqrt(1 - rho^2) z, rho = exp(-lag / tau),
    z ~ N(0, 1).

    The circuit's own: it cannot be switched off, and is never injected noise. Rules that read injected noise (NP, INP)
    take it to be independent in every pass and step: with noise of correlation rho between two passes, NP's estimate
    with a noisy baseline is 1 - rho times the gradient, and along sequences a step is credited with what the noise of
    the steps before did. ANP with a noisy baseline divides by the difference of passes that it measured.

    Args:
        sigma: standard deviation, in units of the pre-activation.
        correlation_time_us: tau, in which the correlation falls to 1 / e, in microseconds.

    Source:
        Uhlenbeck and Ornstein, Physical Review 36, 823 (1930); the exact update: Gillespie, Physical Review E 54, 2084
        (1996).
    """

    site: ClassVar[Site] = "node"
    lifetime: ClassVar[Lifetime] = "memory"

    kind: Literal["ornstein-uhlenbeck-node"] = "ornstein-uhlenbeck-node"
    sigma: Amplitude = Field(description="standard deviation, in units of the pre-activation")
    correlation_time_us: Microseconds = Field(description="tau, in which the correlation falls to 1 / e")

    def correlation(self, lag_s: float) -> float:
        """Correlation of two reads, E[n n'] / sigma^2 = exp(-lag / tau).

        Args:
            lag_s: time between the reads, in seconds.
        """
        return math.exp(-lag_s / (self.correlation_time_us * 1e-6))

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """One step: `value` is (passes, batch, ...), the passes in order of time."""
        return self.evolve(value.unsqueeze(1), setting, draw, state, {}).squeeze(1)

    def evolve(self, value: Tensor, setting: Setting, draw: StreamOf, state: State, trail: State) -> Tensor:
        """Continue the process from read to read; the trail holds its last value."""
        noise = draw.normal("walk", tuple(value.shape)).to(value.dtype)
        before = trail.get("noise")
        for i, wait_s in enumerate(setting.waits_s(*value.shape[:2])):
            step, p = divmod(i, len(value))
            now = noise[p, step]
            if before is not None:
                rho = self.correlation(wait_s)
                now.mul_(math.sqrt(1 - rho**2)).add_(before, alpha=rho)
            before = now
        if before is not None:
            trail["noise"] = before.clone()
        return noise.mul_(self.sigma).add_(value)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean a and variance sigma^2."""
        return Moments(value, torch.full_like(value, self.sigma**2))
