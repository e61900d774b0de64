"""Conductance drift of phase-change memory."""

import math
from typing import ClassVar, Literal

import torch
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

    def check(self, setting: Setting) -> None:
        """Check that the exponents make sense, and that their spread is not negative."""
        self.exponent_mean.check("exponent_mean", -10, 10, setting.g_max_us)
        self.exponent_spread.check("exponent_spread", 0, 10, setting.g_max_us)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Conductances at the time of `setting`."""
        if setting.since_write_s == 0:
            return value
        r = value / setting.g_max_us
        mu, s = (curve.at(r, setting.g_max_us) for curve in (self.exponent_mean, self.exponent_spread))
        exponent = s.mul_(state["exponent"]).add_(mu).abs_()
        return exponent.mul_(-self._log_time(setting)).exp_().mul_(value)

    def elapse(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Draw the exponents, when time first passes."""
        if "exponent" not in state:  # drawn when time first passes: training that stands still needs none
            state["exponent"] = draw.normal("exponent", tuple(value.shape)).to(value.dtype)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """With a = ln(t / t0): from E[exp(-k a nu)] of the folded normal nu, for k = 1 and 2."""
        r = value / setting.g_max_us
        mu, s = (curve.at(r, setting.g_max_us) for curve in (self.exponent_mean, self.exponent_spread))
        first, second = (_folded_normal_laplace(k * self._log_time(setting), mu, s) for k in (1, 2))
        return Moments(value * first, value**2 * (second - first**2))

    @staticmethod
    def _log_time(setting: Setting) -> float:
        """ln(t / t0)."""
        return math.log(setting.age_s / setting.t0_s)


def _folded_normal_laplace(a: float, mu: Tensor, s: Tensor) -> Tensor:
    """E[exp(-a |X|)], X ~ N(mu, s^2)."""
    log_cdf, log_gain = torch.special.log_ndtr, 0.5 * (a * s) ** 2
    sides = (log_gain - sign * a * mu + log_cdf(sign * mu / s - a * s) for sign in (1, -1))
    return torch.where(s > 0, sum(side.exp() for side in sides), torch.exp(-a * mu.abs()))
