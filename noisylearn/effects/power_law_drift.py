"""Conductance drift of phase-change memory."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.effects.curves import Curve
from noisylearn.ground.draws import StreamOf


class PowerLawDrift(Effect):
    """Drift of the conductance, with an exponent drawn per device at every programming.

        G(t) = G (t / t0)^-nu,   nu = |N(mu(r), s(r)^2)|,   r = G / g_max

    t is the time since programming plus t0, so that a read right after programming sees no drift.

    Args:
        exponent_mean: mu as a curve of r.
        exponent_spread: s as a curve of r.
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "memory"

    kind: Literal["power-law-drift"] = "power-law-drift"
    exponent_mean: Curve
    exponent_spread: Curve

    @model_validator(mode="after")
    def _not_negative(self) -> "PowerLawDrift":
        """Check that the spread is not negative."""
        self.exponent_spread.check_not_negative("exponent_spread", 1.0)
        return self

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Conductances at the time of `setting`."""
        if setting.since_write_s == 0:
            return value
        r = value / setting.g_max_us
        exponent = self.exponent_spread(r).mul_(state["exponent"]).add_(self.exponent_mean(r)).abs_()
        return exponent.mul_(-self._log_time(setting)).exp_().mul_(value)

    def elapse(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Draw the exponents, when time first passes."""
        if "exponent" not in state:  # drawn when time first passes: training that stands still needs none
            state["exponent"] = draw.normal("exponent", tuple(value.shape)).to(value.dtype)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """With a = ln(t / t0): from E[exp(-k a nu)] of the folded normal nu, for k = 1 and 2."""
        r = value / setting.g_max_us
        mu, s = self.exponent_mean(r), self.exponent_spread(r)
        first, second = (_folded_normal_laplace(k * self._log_time(setting), mu, s) for k in (1, 2))
        return Moments(value * first, value**2 * (second - first**2))

    @staticmethod
    def _log_time(setting: Setting) -> float:
        """ln(t / t0)."""
        return math.log(setting.age_s / setting.t0_s)


def _folded_normal_laplace(a: float, mu: Tensor, s: Tensor) -> Tensor:
    """E[exp(-a |X|)], X ~ N(mu, s^2)."""
    cdf = torch.special.ndtr
    gain = math.e ** (0.5 * (a * s) ** 2)
    return gain * (torch.exp(-a * mu) * cdf(mu / s - a * s) + torch.exp(a * mu) * cdf(-mu / s - a * s))
