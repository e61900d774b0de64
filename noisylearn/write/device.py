"""Devices that are written by identical pulses: what one pulse does to them, as records that a profile states."""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.draws import StreamOf
from noisylearn.effects import State
from noisylearn.records import CitedRecord

LARGEST_STRETCH = 0.1  # in units of full scale: more pulses than that are sent one after the other


class PulsedDevice(CitedRecord):
    """A device whose state w, in units of full scale, moves by one step a pulse, up (d = +1) or down (d = -1).

    Mean step:  d dw_d f(w),  dw_d = dw_min m (1 + d b),  m and b drawn once per device: m around 1 with spread
    dw_min_spread ("normal", floored at 0, or "lognormal" of median 1), b ~ N(up_down, up_down_spread^2).
    f by `step`, with the bound w_d that the pulse goes towards (w_max or w_min, each with its relative spread):
    "constant"     1
    "linear"       1 - gamma_d w / w_d  (w_d the nominal bound; gamma_d with absolute spread gamma_spread)
    "soft-bounds"  1 - w / w_d
    "exponential"  max(1 - A_d exp(d gamma_d z), 0),  z = 2 a w / (w_max - w_min) + b_shift
    Every pulse adds noise of standard deviation cycle_spread times dw_d, or times the mean step where cycle_noise is
    "of-step". States stay between the device's own bounds. What is seen is w + write_noise dw_min z, drawn anew
    when the device is pulsed, less a reference that misses zero by reference_spread (drawn once). dead_share of the
    devices never move. one_sided: a weight is a pair of devices that are only pulsed up, the second one counted
    negative. lifetime_updates: w leaks by w / lifetime at every update.
    """

    step: Literal["constant", "linear", "soft-bounds", "exponential"]
    dw_min: float = Field(gt=0, lt=2)
    dw_min_spread: float = Field(ge=0)
    dw_min_distribution: Literal["normal", "lognormal"] = "normal"
    up_down: float = Field(gt=-1, lt=1)
    up_down_spread: float = Field(ge=0)
    w_max: float = Field(gt=0)
    w_max_spread: float = Field(ge=0)
    w_min: float = Field(le=0)
    w_min_spread: float = Field(ge=0)
    cycle_spread: float = Field(ge=0)
    cycle_noise: Literal["of-step", "of-dw-min"]
    gamma_up: float | None = None
    gamma_down: float | None = None
    gamma_spread: float = Field(default=0.0, ge=0)
    A_up: float | None = None
    A_down: float | None = None
    a: float | None = None
    b_shift: float | None = None
    write_noise: float = Field(default=0.0, ge=0)
    reference_spread: float = Field(default=0.0, ge=0)
    dead_share: float = Field(default=0.0, ge=0, lt=1)
    one_sided: bool = False
    lifetime_updates: float | None = Field(default=None, gt=1)

    @model_validator(mode="after")
    def _fits_its_step(self) -> "PulsedDevice":
        exponential = ("gamma_up", "gamma_down", "A_up", "A_down", "a", "b_shift")
        wanted = {"linear": exponential[:2], "exponential": exponential}.get(self.step, ())
        for key in exponential:
            if (getattr(self, key) is not None) != (key in wanted):
                raise ValueError(f'step = "{self.step}" {"needs" if key in wanted else "has no use for"} {key}')
        if self.one_sided == (self.w_min < 0):
            raise ValueError("a one-sided device has w_min = 0, a two-sided one w_min < 0")
        return self

    def fabricate(self, shape: tuple[int, ...], draw: StreamOf) -> State:
        """What is drawn once per device: steps, bounds, slopes."""

        def around(name: str, mean: float, spread: float) -> Tensor:
            return draw.normal(name, shape).mul_(spread).add_(mean)

        if self.dw_min_distribution == "lognormal":
            size = around("dw-min", 0.0, self.dw_min_spread).exp_()
        else:
            size = around("dw-min", 1.0, self.dw_min_spread).clamp_(min=0)
        size *= self.dw_min * (draw.uniform("dead", shape) >= self.dead_share)
        bias = around("up-down", self.up_down, self.up_down_spread)
        return {
            "dw_up": (size * (1 + bias)).clamp_(min=0),
            "dw_down": (size * (1 - bias)).clamp_(min=0),
            "w_max": around("w-max", 1.0, self.w_max_spread).mul_(self.w_max).clamp_(min=self.dw_min),
            "w_min": around("w-min", 1.0, self.w_min_spread)
            .mul_(self.w_min)
            .clamp_(max=-self.dw_min * (self.w_min < 0)),
            "reference": around("reference", 0.0, self.reference_spread),
            "gamma_up": around("gamma-up", self.gamma_up or 0.0, self.gamma_spread),
            "gamma_down": around("gamma-down", self.gamma_down or 0.0, self.gamma_spread),
        }

    def mean_step(self, w: Tensor, up: Tensor, device: State) -> Tensor:
        """Size of the mean step of one pulse at state w, positive, elementwise; up: whether it is an up pulse."""
        size = torch.where(up, device["dw_up"], device["dw_down"])
        return size if self.step == "constant" else size * self._shape(w, up, device)

    def pulse(self, w: Tensor, pulses: Tensor, device: State, draw: StreamOf) -> Tensor:
        """State after a signed number of pulses, elementwise.

        n pulses at once: n mean steps as they are in the middle of the way, w + (n - 1) / 2 steps, and noise of n
        pulses; exact for one pulse. Long ways are cut into pieces.
        """
        up, left = pulses > 0, pulses.abs()
        direction = pulses.sign()
        piece = max(int(LARGEST_STRETCH / self.dw_min), 1)
        while True:
            n = left.clamp(max=piece)
            first = self.mean_step(w, up, device)
            step = (
                first
                if self.step == "constant"
                else self.mean_step(w + direction * (n - 1).clamp(min=0) / 2 * first, up, device)
            )
            moved = direction * n * step
            if self.cycle_spread:
                noise = step if self.cycle_noise == "of-step" else torch.where(up, device["dw_up"], device["dw_down"])
                z = draw.normal("cycle", tuple(w.shape))
                moved = torch.addcmul(moved, n.sqrt().mul_(noise), z, value=self.cycle_spread)
            w = torch.minimum(torch.maximum(w + moved, device["w_min"]), device["w_max"])
            left = left - n
            if not left.any():
                return w

    def _shape(self, w: Tensor, up: Tensor, device: State) -> Tensor:
        if self.step == "soft-bounds":
            return 1 - w / torch.where(up, device["w_max"], device["w_min"])
        gamma = torch.where(up, device["gamma_up"], device["gamma_down"])
        if self.step == "linear":
            return (1 - gamma * w / torch.where(up, self.w_max, self.w_min)).clamp_(min=0)
        assert self.a is not None
        assert self.b_shift is not None
        assert self.A_up is not None
        assert self.A_down is not None
        z = 2 * self.a * w / (device["w_max"] - device["w_min"]) + self.b_shift
        signed = torch.where(up, gamma, -gamma)
        return (1 - torch.where(up, self.A_up, self.A_down) * torch.exp(signed * z)).clamp_(min=0)
