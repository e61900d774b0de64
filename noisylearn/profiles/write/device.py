"""Devices that are written by identical pulses: what one pulse does, as a record that a profile states."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.effects import State
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Spread
from noisylearn.ground.records import CitedRecord

Slope = Annotated[float, Field(ge=-1e3, le=1e3)]
LARGEST_EXPONENT = 30.0  # of an exponential step, at the bounds of most devices
LARGEST_CHANGE = 0.1  # in units of full scale: a larger one is made in parts


class PulsedDevice(CitedRecord):
    """A device whose state w, in units of full scale, moves by one step per pulse, up (d = +1) or down (d = -1).

        mean step = d dw_d f(w)
        dw_up = dw_min |m + min(up_down, 0) + r|,   dw_down = dw_min |m - max(up_down, 0) - r|
        "constant":     f = 1
        "linear":       f = 1 - gamma_d w / w_d,   with the nominal w_d
        "soft-bounds":  f = 1 - w / w_d
        "exponential":  f = max(1 - A_d exp(d gamma_d z), 0),   z = 2 a w / (w_max - w_min) + b_shift

    w_d is the bound towards which a pulse moves the state, w_max or w_min. m and r are drawn once per device, m around
    1 and r ~ N(0, up_down_spread^2). States stay between the device's own bounds. A read sees w + write_noise dw_min z
    minus a reference, with z ~ N(0, 1) drawn again whenever the device is pulsed.

    Args:
        step: how f depends on the state: "constant", "linear", "soft-bounds" or "exponential".
        dw_min: nominal step, in units of full scale.
        dw_min_spread: spread of m.
        dw_min_distribution: of m: "normal", or "lognormal" of median 1.
        up_down: nominal asymmetry of up and down steps, relative to dw_min.
        up_down_spread: standard deviation of r.
        w_max: upper bound, in units of full scale.
        w_max_spread: relative spread of the upper bound; values below zero change their sign.
        w_min: lower bound, in units of full scale.
        w_min_spread: relative spread of the lower bound; values above zero change their sign.
        cycle_spread: standard deviation of the noise of every pulse, in the unit that cycle_noise names.
        cycle_noise: unit of that noise: "of-dw-min" is dw_d, "of-step" is mean step + cycle_floor + cycle_slope |w|.
        cycle_floor: see cycle_noise.
        cycle_slope: see cycle_noise.
        gamma_up: of "linear" and "exponential".
        gamma_down: of "linear" and "exponential".
        gamma_spread: absolute spread of both gammas.
        A_up: of "exponential".
        A_down: of "exponential".
        a: of "exponential".
        b_shift: of "exponential".
        write_noise: standard deviation of the write noise that a read sees, in units of dw_min.
        reference_spread: standard deviation of the reference, in units of full scale, drawn once per device.
        zero_shifted: whether the reference lies around the device's symmetry point rather than around zero.
        dead_share: share of devices that stay at zero; a read sees their write noise alone.
        one_sided: whether a weight is a pair of devices that are pulsed up only, the second one counted negative.
        lifetime_updates: w leaks by w / lifetime_updates at every update.
        granularity: change that one pulse counts for when an update is turned into pulses; dw_min where not stated.

    Source:
        Conventions of IBM's Analog Hardware Acceleration Kit 1.2, so that its presets hold as they are.
    """

    step: Literal["constant", "linear", "soft-bounds", "exponential"]
    dw_min: float = Field(ge=1e-6, lt=2)
    dw_min_spread: float = Field(ge=0, le=5)
    dw_min_distribution: Literal["normal", "lognormal"] = "normal"
    up_down: float = Field(gt=-1, lt=1)
    up_down_spread: Spread
    w_max: float = Field(ge=1e-3, le=100)
    w_max_spread: Spread
    w_min: float = Field(ge=-100, le=0)
    w_min_spread: Spread
    cycle_spread: float = Field(ge=0, le=100)
    cycle_noise: Literal["of-step", "of-dw-min"]
    cycle_floor: Spread = 0.0
    cycle_slope: Spread = 0.0
    gamma_up: Slope | None = None
    gamma_down: Slope | None = None
    gamma_spread: Spread = 0.0
    A_up: Slope | None = None
    A_down: Slope | None = None
    a: Slope | None = None
    b_shift: Slope | None = None
    write_noise: float = Field(default=0.0, ge=0, le=1e4)
    reference_spread: Spread = 0.0
    zero_shifted: bool = False
    dead_share: float = Field(default=0.0, ge=0, lt=1)
    one_sided: bool = False
    lifetime_updates: float | None = Field(default=None, gt=1, le=1e12)
    granularity: float | None = Field(default=None, ge=1e-6, lt=2)

    @model_validator(mode="after")
    def _fits_its_step(self) -> "PulsedDevice":
        """Check that the numbers fit the kind of step."""
        exponential = ("gamma_up", "gamma_down", "A_up", "A_down", "a", "b_shift")
        wanted = {"linear": exponential[:2], "exponential": exponential}.get(self.step, ())
        for key in exponential:
            if (getattr(self, key) is not None) != (key in wanted):
                raise ValueError(f'step = "{self.step}" {"needs" if key in wanted else "has no use for"} {key}')
        if self.cycle_noise != "of-step" and (self.cycle_floor or self.cycle_slope):
            raise ValueError('cycle_floor and cycle_slope go with cycle_noise = "of-step"')
        if self.zero_shifted and self.step not in ("linear", "soft-bounds"):
            raise ValueError('zero_shifted goes with step = "linear" or "soft-bounds", whose steps are alike somewhere')
        if self.one_sided == (self.w_min < 0):
            raise ValueError("a one-sided device has w_min = 0, a two-sided one w_min < 0")
        if self.granularity is not None and not self.dw_min / 10 <= self.granularity <= self.dw_min * 1e3:
            raise ValueError(f"granularity = {self.granularity:g} is not between a tenth and 1000 times dw_min")
        if self.largest_exponent > LARGEST_EXPONENT:
            raise ValueError(
                f"gamma (2 |a| + |b_shift|), gamma with six gamma_spread, is {self.largest_exponent:.3g}, above "
                f"{LARGEST_EXPONENT:g}: steps along the range of states would differ by its exponential"
            )
        return self

    @property
    def largest_exponent(self) -> float:
        """Largest size of gamma_d z in all but a few devices; 0 where steps are not exponential."""
        gamma = max(abs(self.gamma_up or 0.0), abs(self.gamma_down or 0.0)) + 6 * self.gamma_spread
        return gamma * (2 * abs(self.a or 0.0) + abs(self.b_shift or 0.0))

    @property
    def per_pulse(self) -> float:
        """Change of w that one pulse counts for, in units of full scale."""
        return self.granularity or self.dw_min

    def fabricate(self, shape: tuple[int, ...], draw: StreamOf) -> State:
        """Draw what is fixed for each device: steps, bounds, reference, slopes.

        Args:
            shape: of the array.
            draw: random streams of the array.

        Returns:
            Name -> values in that shape.
        """

        def around(name: str, mean: float, spread: float) -> Tensor:
            return draw.normal(name, shape).mul_(spread).add_(mean)

        if self.dw_min_distribution == "lognormal":
            size = around("dw-min", 0.0, self.dw_min_spread).exp_()
        else:
            size = around("dw-min", 1.0, self.dw_min_spread)
        bias = around("up-down", 0.0, self.up_down_spread)
        up = (size + min(self.up_down, 0.0) + bias).abs_() * self.dw_min
        down = (size - max(self.up_down, 0.0) - bias).abs_() * self.dw_min
        state = {
            "dw": (up + down) / 2,
            "dw_bias": (up - down) / 2,
            "w_max": around("w-max", 1.0, self.w_max_spread).abs_() * self.w_max,
            "w_min": around("w-min", 1.0, self.w_min_spread).abs_() * self.w_min,
            "reference": around("reference", 0.0, self.reference_spread),
        }
        slopes = self._slopes(around, state)
        if self.zero_shifted:
            state["reference"] += _symmetry_point(state | slopes)
        alive = draw.uniform("dead", shape) >= self.dead_share
        return {key: value * alive for key, value in state.items()} | slopes

    def _slopes(self, around: Callable[[str, float, float], Tensor], state: State) -> State:
        """Parameters of f = 1 - w (slope + d slope_bias), or gammas of the exponential."""
        if self.step == "constant":
            return {}
        gammas = [around(f"gamma-{d}", getattr(self, f"gamma_{d}") or 0.0, self.gamma_spread) for d in ("up", "down")]
        if self.step == "exponential":
            return {"gamma": (gammas[0] - gammas[1]) / 2, "gamma_bias": (gammas[0] + gammas[1]) / 2}
        if self.step == "linear":
            up, down = gammas[0] / self.w_max, gammas[1] / (self.w_min or -1.0)
        else:
            up, down = 1 / state["w_max"], 1 / (state["w_min"] if self.w_min else -state["w_max"])
        return {"slope": (up + down) / 2, "slope_bias": (up - down) / 2}

    def mean_step(self, w: Tensor, direction: Tensor, device: State) -> Tensor:
        """Size of the mean step of one pulse, elementwise.

        Args:
            w: states.
            direction: +1 or -1.
            device: as `fabricate` drew it.

        Returns:
            Step sizes, not negative.
        """
        return self._step_at(w, self._one_way(direction, device))

    def pulse(self, w: Tensor, pulses: Tensor, device: State, draw: StreamOf, out: Tensor) -> Tensor:
        """State after a signed number of pulses, elementwise.

        n pulses move the state by n mean steps, taken at the middle state w + (n - 1) / 2 steps, and add the noise of n
        pulses; for one pulse this is exact. Large changes are made in parts, whose size follows from dw_min, or for
        "exponential" steps from the longest step of all.

        Args:
            w: states.
            pulses: whole numbers.
            device: as `fabricate` drew it.
            draw: random streams of the array.
            out: takes the new states.

        Returns:
            New states.
        """
        left, direction, size = pulses, pulses.sign(), pulses.abs()
        one_way = self._one_way(direction, device)
        most = int(size.max())
        if not most:
            return out.copy_(w)
        while most:
            step = self._step_at(w, one_way)
            piece = self.piece(partial(_longest, step, size), most)
            n = left.clamp(-piece, piece) if most > piece else left
            if piece > 1 and self.step != "constant":
                middle = (n - direction).mul_(step).mul_(0.5).add_(w)
                step = self._step_at(middle, one_way, out=middle)
            moved = torch.addcmul(w, n, step)
            if self.cycle_spread:
                noise = self._noise_at(w, step) if self.cycle_noise == "of-step" else one_way["dw"]
                z = draw.normal("cycle", tuple(w.shape)).mul_(noise)
                moved.addcmul_(z, _root(size.clamp(max=piece) if most > piece else size), value=self.cycle_spread)
            w = torch.clamp(moved, device["w_min"], device["w_max"], out=out)
            most -= piece
            if most:
                left = left - n
                direction, size = left.sign(), left.abs()
        return w

    def piece(self, longest: Callable[[], float], most: int) -> int:
        """Most pulses to make at once, at the middle state.

        Args:
            longest: gives the longest step of the pulsed devices, which counts where steps are exponential.
            most: the largest number of pulses.
        """
        length = max(longest(), self.dw_min) if self.step == "exponential" and most > 1 else self.dw_min
        return min(max(int(LARGEST_CHANGE / length), 1), most)

    def _one_way(self, direction: Tensor, device: State) -> State:
        """Parameters of a step in one direction."""

        def of(name: str) -> Tensor:
            return torch.addcmul(device[name], direction, device[f"{name}_bias"])

        dw = of("dw") if self.up_down or self.up_down_spread else device["dw"]
        if self.step == "constant":
            return {"dw": dw}
        if self.step != "exponential":
            return {"dw": dw, "slope": of("slope")}
        assert self.a is not None
        assert self.A_up is not None
        assert self.A_down is not None
        span = (device["w_max"] - device["w_min"]).clamp_(min=1e-9)  # none has less but dead ones
        return {
            "dw": dw,
            "gamma": of("gamma"),
            "A": direction.mul((self.A_up - self.A_down) / 2).add_((self.A_up + self.A_down) / 2),
            "to_z": span.reciprocal_().mul_(2 * self.a),
        }

    def _step_at(self, w: Tensor, one_way: State, out: Tensor | None = None) -> Tensor:
        """Step size dw f(w), at least 0."""
        if self.step == "constant":
            return one_way["dw"]
        if self.step == "exponential":
            z = torch.mul(w, one_way["to_z"], out=out).add_(self.b_shift or 0.0)
            less = z.mul_(one_way["gamma"]).exp_().mul_(one_way["A"])
        else:
            less = torch.mul(w, one_way["slope"], out=out)
        return less.neg_().add_(1).clamp_(min=0).mul_(one_way["dw"])

    def _noise_at(self, w: Tensor, step: Tensor) -> Tensor:
        """Standard deviation of one pulse's noise, divided by cycle_spread."""
        if not (self.cycle_floor or self.cycle_slope):
            return step
        return w.abs().mul_(self.cycle_slope).add_(self.cycle_floor).add_(step)


def _symmetry_point(device: State) -> Tensor:
    """State at which steps up and down are equally long: dw_up (1 - slope_up w) = dw_down (1 - slope_down w)."""
    dw, dw_bias, slope, slope_bias = (device[key] for key in ("dw", "dw_bias", "slope", "slope_bias"))
    point = (dw_bias / (dw * slope_bias + dw_bias * slope)).nan_to_num_(nan=0.0)  # 0 where steps are alike everywhere
    return torch.clamp(point, device["w_min"], device["w_max"])


def _longest(step: Tensor, size: Tensor) -> float:
    """The longest step of devices with pulses."""
    return float(size.clamp(max=1).mul_(step).max())


def _root(n: Tensor) -> Tensor:
    """Square root of whole numbers from 0 on; torch's own is slow at 0."""
    return n.clamp(min=1).rsqrt_().mul_(n)
