"""1/f read noise, split into what two nearby passes share and what differs between them."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.effects.curves import Curve
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.philox import normals
from noisylearn.ground.quantities import Nanoseconds

FIRST_ZERO = 0.6165  # of the cosine integral
MEMORY = 12  # values of the slow part that are remembered
SLOW = "slow"  # stream of its draws
KEY = "key"  # of a state that holds the key of its draw by counter in place of numbers


class OneOverFReadNoise(Effect):
    """1/f noise of density K / f between f0 = 1 / (t + t_read) and f1 = 1 / (2 t_read), K = (G Q(r))^2.

        variance of one read:              K ln(f1 / f0)
        covariance of two reads D apart:   R(D) = K [Ci(2 pi f1 D) - Ci(2 pi f0 D)], 0 from 2 pi f0 D = 0.62 on

    Q is taken at the conductance as it was written, r = G_written / g_max; G is the conductance now, after drift.

    With D the profile's pass interval, R(D) is the slow part, common to passes this close: a Gaussian offset per
    device, drawn at every programming and continued along the chip's clock with the autocorrelation R(lag + D) / R(D),
    as a Gaussian process that remembers its last 12 values. The rest, K ln(f1 / f0) - R(D), is fresh at every read and
    lumped at the output. Reads are not clipped at zero. The slow part is common to all passes over a batch; real passes
    further apart than D differ by a little more.

    Args:
        t_read_ns: duration of a read, in nanoseconds.
        relative_amplitude: Q as a curve of r.
        amplitude_us: instead of it, Q G_written in microsiemens as a curve of r.
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "memory"

    kind: Literal["one-over-f-read-noise"] = "one-over-f-read-noise"
    t_read_ns: Nanoseconds
    relative_amplitude: Curve | None = None
    amplitude_us: Curve | None = None

    @model_validator(mode="after")
    def _one_amplitude(self) -> "OneOverFReadNoise":
        """Check that the amplitude is stated in one way."""
        if (self.relative_amplitude is None) == (self.amplitude_us is None):
            raise ValueError("state one of relative_amplitude (Q) and amplitude_us (G Q in microsiemens)")
        return self

    def check(self, setting: Setting) -> None:
        """Check the amplitude, and that a read is over before the next one and before drift counts."""
        if self.relative_amplitude is not None:
            self.relative_amplitude.check("relative_amplitude", -100, 100, setting.g_max_us)
        if self.amplitude_us is not None:
            most = 10 * setting.g_max_us
            self.amplitude_us.check("amplitude_us", -most, most, setting.g_max_us)
        t_read_s = self.t_read_ns * 1e-9
        if t_read_s > setting.pass_interval_s * (1 + 1e-9) or t_read_s >= setting.t0_s:
            raise ValueError(
                f"t_read_ns = {self.t_read_ns:g}: a read is over before the next pass ({setting.pass_interval_s:g} s), "
                f"and before drift counts (t0_s = {setting.t0_s:g}); check the units, or lengthen the interval"
            )

    def log_bandwidth(self, setting: Setting) -> float:
        """Variance of one read in units of K, ln(f1 / f0).

        Args:
            setting: what is known of the chip.
        """
        f0, f1 = self._band(setting)
        return math.log(f1 / f0)

    def relative(self, written: Tensor, setting: Setting) -> Tensor:
        """Relative amplitude Q of devices.

        Args:
            written: conductances as they were written, in microsiemens.
            setting: what is known of the chip.

        Returns:
            Q, of the same shape.
        """
        r = written / setting.g_max_us
        if self.relative_amplitude is not None:
            return self.relative_amplitude.at(r, setting.g_max_us)
        assert self.amplitude_us is not None
        return self.amplitude_us.at(r, setting.g_max_us) / written.clamp(min=1e-6)

    def covariance(self, lag_s: float, setting: Setting) -> float:
        """Covariance R of two reads in units of K, between 0 and the variance of one read.

        Args:
            lag_s: time between the reads, in seconds; 0 gives the variance of one read.
            setting: what is known of the chip.
        """
        if lag_s == 0:
            return self.log_bandwidth(setting)
        f0, f1 = self._band(setting)
        if 2 * math.pi * f0 * lag_s > FIRST_ZERO:  # beyond, R swings about zero, which is no covariance of a process
            return 0.0
        from scipy.special import sici  # here, so that importing the package stays light

        cosine_integral = sici([2 * math.pi * f1 * lag_s, 2 * math.pi * f0 * lag_s])[1]
        return min(max(float(cosine_integral[0] - cosine_integral[1]), 0.0), self.log_bandwidth(setting))

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Conductances with the slow part of their noise."""
        self._complete(value, setting, state)
        slow = math.sqrt(self.covariance(setting.pass_interval_s, setting))
        return value.addcmul(value * state["relative"], state["slow"][-1], value=slow)

    def read_variance(self, value: Tensor, setting: Setting, state: State) -> Tensor:
        """Variance of the part that is fresh at every read: (G Q)^2 (ln(f1 / f0) - R(D) / K)."""
        self._complete(value, setting, state)
        fresh = self.log_bandwidth(setting) - self.covariance(setting.pass_interval_s, setting)
        return (value * state["relative"]).square_().mul_(fresh)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Mean G and variance K ln(f1 / f0) of one read of a device that did not drift since it was written."""
        amplitude = value * self.relative(value, setting)
        return Moments(value, amplitude.square_().mul_(self.log_bandwidth(setting)))

    def start(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Draw the slow part anew."""
        state["relative"] = self.relative(value, setting)
        state["slow"] = draw.normal(SLOW, (1, *value.shape)).to(value.dtype)
        state["seen_s"] = torch.zeros(1, dtype=torch.float64)

    def start_by_key(self, key: Tensor, state: State) -> None:
        """Keep the key of the slow part's draw, (1,), in place of numbers, which are made when time passes."""
        state[KEY], state["seen_s"] = key, torch.zeros(1, dtype=torch.float64)

    def _complete(self, written: Tensor, setting: Setting, state: State) -> None:
        """Make the numbers of a key."""
        if KEY not in state:
            return
        numbers = normals(state.pop(KEY), written[..., 0].numel(), written.shape[-1], written.dtype)
        state["relative"], state["slow"] = self.relative(written, setting), numbers.reshape(1, *written.shape)

    def elapse(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Draw the slow part now, given all its remembered values: exact for a Gaussian process of this covariance."""
        self._complete(value, setting, state)
        seen_s = state["seen_s"].tolist()
        if setting.since_write_s - seen_s[-1] < setting.pass_interval_s:  # too near for the slow part to move
            return
        times_s = [*seen_s, setting.since_write_s]
        rows = [[self._slow_correlation(abs(a - b), setting) for a in times_s] for b in times_s]
        correlation = torch.tensor(rows, dtype=torch.float64)
        known, cross = correlation[:-1, :-1], correlation[:-1, -1]
        weights = torch.linalg.solve(known, cross)
        fresh = math.sqrt(max(1 - float(weights @ cross), 0.0))
        now = fresh * draw.normal(SLOW, (1, *value.shape)).to(value.dtype)
        now += torch.einsum("n,n...->...", weights.to(now), state["slow"])
        keep = _spread_in_age(times_s, MEMORY)
        state["slow"] = torch.cat([state["slow"], now])[keep]
        state["seen_s"] = torch.tensor([times_s[i] for i in keep], dtype=torch.float64)

    def _slow_correlation(self, lag_s: float, setting: Setting) -> float:
        """Autocorrelation R(lag + D) / R(D) of the slow part: convex, so that of a process; R cut off at D is not."""
        shared = self.covariance(setting.pass_interval_s, setting)
        if lag_s == 0 or not shared:
            return float(lag_s == 0)
        return min(self.covariance(lag_s + setting.pass_interval_s, setting) / shared, 1.0)

    def _band(self, setting: Setting) -> tuple[float, float]:
        """Lowest and highest frequency f0 and f1, in hertz."""
        t_read_s = self.t_read_ns * 1e-9
        return 1 / (setting.age_s + t_read_s), 1 / (2 * t_read_s)


def _spread_in_age(times_s: list[float], most: int) -> list[int]:
    """Indices of at most `most` times, evenly spread in the logarithm of their age; the latest is kept."""
    keep = list(range(len(times_s)))
    while len(keep) > most:
        ages = [times_s[-1] - times_s[i] for i in keep[:-1]]
        nearest = min(range(1, len(ages)), key=lambda i: ages[i - 1] / ages[i])
        del keep[nearest]
    return keep
