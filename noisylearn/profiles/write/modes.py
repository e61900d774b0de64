"""How updates reach the devices: the records that a profile may state under [write]."""

from abc import ABC, abstractmethod
from typing import Annotated, Literal, get_args

import torch
from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.effects import State
from noisylearn.ground.draws import Draws, StreamOf
from noisylearn.ground.quantities import Amplitude, Count, Spread
from noisylearn.ground.records import CitedRecord
from noisylearn.profiles.write.array import DeviceArray, Pulse
from noisylearn.profiles.write.device import PulsedDevice

Arrays = dict[str, DeviceArray]
SATURATING = 10  # pulses that would move a device through its range so many times saturate it


class Shadow(CitedRecord):
    """Weights are kept digitally, and every update writes all devices again; the same as a profile without [write].

    Args:
        mode: "shadow".
    """

    mode: Literal["shadow"]


class InPlace(CitedRecord, ABC):
    """Weights exist on the devices alone, and change by pulses.

    One-sided devices saturate, so worn pairs are refreshed: reset, and their weights written again. A pair with one
    device nearly full and one nearly empty is not worn: it holds a large weight, which a refresh would only restore.

    Args:
        mode: name of the mode.
        device: what one pulse does.
        weight_at_full_scale: weight that one unit of device state stands for.
        most_pulses: most pulses to one device in one update, in modes that send updates immediately.
        refresh_every: updates between two checks for worn pairs.
        refresh_above: of a worn pair, share of its bound that one device exceeds.
        refresh_other_above: of a worn pair, share of its bound that the other device exceeds.
    """

    mode: str
    device: PulsedDevice
    weight_at_full_scale: float = Field(ge=1e-6, le=1e6)
    most_pulses: int = Field(ge=1, le=10**4)
    refresh_above: float | None = Field(default=None, gt=0, lt=1)
    refresh_other_above: float | None = Field(default=None, ge=0, lt=1)
    refresh_every: Count | None = None

    @model_validator(mode="after")
    def _refreshes_pairs(self) -> "InPlace":
        """Check that the numbers of a refresh go with one-sided devices."""
        refresh = (self.refresh_above, self.refresh_other_above, self.refresh_every)
        if {value is not None for value in refresh} != {self.device.one_sided}:
            raise ValueError(
                "refresh_above, refresh_other_above and refresh_every go with one-sided devices, which saturate without"
            )
        return self

    def arrays(self, shape: tuple[int, ...], draws: Draws, name: str, pulse: Pulse = PulsedDevice.pulse) -> Arrays:
        """Make the arrays of devices of one layer.

        Args:
            shape: of the layer's weights.
            draws: random numbers of the run.
            name: of the layer.
            pulse: carries out the pulses, as `PulsedDevice.pulse` does.

        Returns:
            Name -> array; "core" holds the weights.
        """
        return {"core": DeviceArray(self.device, shape, StreamOf(draws, name, "core"), pulse)}

    def deploy(self, weight: Tensor, arrays: Arrays, memory: State) -> None:
        """Set the devices to the initial weights, within their bounds, and start the digital memory.

        Args:
            weight: in units of full scale.
            arrays: of the layer; changed.
            memory: of the layer; changed.
        """
        arrays["core"].set(weight)
        memory["updates"] = torch.zeros((), dtype=torch.int64)

    def write(self, delta: Tensor, arrays: Arrays, memory: State, draw: StreamOf) -> None:
        """Update the weights once, and refresh worn pairs when it is time.

        Args:
            delta: change of the weights, in units of full scale.
            arrays: of the layer; changed.
            memory: of the layer; changed.
            draw: random streams of the layer.
        """
        self.update(delta, arrays, memory, draw)
        memory["updates"] = memory["updates"] + 1
        if self.refresh_above is not None and not int(memory["updates"]) % (self.refresh_every or 1):
            arrays["core"].refresh(self.refresh_above, self.refresh_other_above or 0.0)

    @abstractmethod
    def update(self, delta: Tensor, arrays: Arrays, memory: State, draw: StreamOf) -> None:
        """Send a change of the weights to the arrays; arguments as those of `write`."""

    def stochastic_pulses(self, delta: Tensor, draw: StreamOf) -> Tensor:
        """Round delta / granularity up or down at random, so that the mean is kept.

        Args:
            delta: change of the weights, in units of full scale.
            draw: random streams of the layer.

        Returns:
            Signed whole numbers of pulses, at most `most_pulses`.
        """
        wanted = delta.abs().div_(self.device.per_pulse)
        up_or_down = draw.uniform("round", tuple(delta.shape))
        return wanted.add_(up_or_down).floor_().clamp_(max=self.most_pulses).copysign_(delta)

    def whole_pulses(self, amount: Tensor, threshold: float) -> Tensor:
        """Whole pulses in amounts that have reached a threshold.

        Args:
            amount: in units of full scale.
            threshold: in units of full scale; at least one pulse counts.

        Returns:
            Signed whole numbers of pulses; 0 below the threshold, and no more than saturate any device.
        """
        per_pulse, most = self.device.per_pulse, SATURATING * (self.device.w_max - self.device.w_min)
        pulses = (amount.clamp(-most, most) / per_pulse).trunc_()
        return torch.where(amount.abs() >= max(threshold, per_pulse), pulses, 0.0)


class Pulsed(InPlace):
    """Every update is sent immediately.

        n pulses with E[n] = delta / granularity

    Args:
        mode: "pulsed".
    """

    mode: Literal["pulsed"]

    def update(self, delta: Tensor, arrays: Arrays, memory: State, draw: StreamOf) -> None:
        """Send pulses whose mean is the update; arguments as those of `write`."""
        arrays["core"].pulse(self.stochastic_pulses(delta, draw))


class Accumulate(InPlace):
    """A digital accumulator per weight collects updates, and its whole pulses are sent when it reaches a threshold.

        chi <- chi + delta;   once |chi| reaches the threshold:  whole pulses to the device, chi less those pulses

    Updates of opposite signs cancel in the accumulator, at no cost. On an asymmetric device they would not: every pair
    of an up and a down pulse moves it towards its symmetry point.

    Args:
        mode: "accumulate".
        threshold: in units of full scale, and at least one pulse.

    Source:
        Mixed precision, Nandakumar et al. 2020.
    """

    mode: Literal["accumulate"]
    threshold: float = Field(default=0.05, ge=0, lt=1)

    def update(self, delta: Tensor, arrays: Arrays, memory: State, draw: StreamOf) -> None:
        """Accumulate the update, and send whole pulses; arguments as those of `write`."""
        chi = memory["accumulator"] + delta if "accumulator" in memory else delta
        pulses = self.whole_pulses(chi, self.threshold)
        memory["accumulator"] = chi - pulses * self.device.per_pulse
        arrays["core"].pulse(pulses)


class Auxiliary(InPlace):
    """A second, fast array takes every update by pulses; it is read column by column, and transferred in whole pulses.

        A <- pulses of fast_gain delta
        every transfer_every updates, for the next column k in turn:  H[:, k] += transfer_rate (A[:, k] + read_noise z)
        where |H| >= max(threshold, granularity):  whole pulses to the core array, H less those pulses

    On asymmetric devices A forgets, and so settles near a running mean of the updates. The zero of A is the symmetry
    point of each of its devices (zero-shifting).

    Args:
        mode: "auxiliary".
        fast_gain: factor of the updates that A takes.
        transfer_every: updates between two transfers.
        transfer_rate: share of what is read that H takes.
        threshold: in units of full scale, and at least one pulse.
        read_noise: standard deviation of one read of A, in units of full scale.
        symmetry_error: standard deviation of A's zero about the symmetry point, in units of full scale.

    Source:
        Gokmen 2021, Frontiers in Artificial Intelligence 4, 699148 (Tiki-Taka version 2).
    """

    mode: Literal["auxiliary"]
    fast_gain: Amplitude = 1.0
    transfer_every: Count = 1
    transfer_rate: float = Field(default=0.1, ge=1e-9, le=10)
    threshold: float = Field(default=0.0, ge=0, lt=1)
    read_noise: Spread
    symmetry_error: Spread

    @model_validator(mode="after")
    def _two_sided(self) -> "Auxiliary":
        """Check that devices have a symmetry point."""
        if self.device.one_sided:
            raise ValueError(
                "an auxiliary array needs devices that go both ways: one-sided ones have no symmetry point"
            )
        return self

    def arrays(self, shape: tuple[int, ...], draws: Draws, name: str, pulse: Pulse = PulsedDevice.pulse) -> Arrays:
        """Make the arrays of one layer, "core" and "fast"; arguments as those of `InPlace.arrays`."""
        fast = DeviceArray(self.device, shape, StreamOf(draws, name, "fast"), pulse)
        return super().arrays(shape, draws, name, pulse) | {"fast": fast}

    def update(self, delta: Tensor, arrays: Arrays, memory: State, draw: StreamOf) -> None:
        """Pulse the fast array, and transfer its next column if it is time; arguments as those of `write`."""
        fast = arrays["fast"]
        if "hidden" not in memory:
            memory["hidden"] = torch.zeros_like(delta)
            fast.set(fast.symmetry_point())
            error = draw.normal("symmetry", tuple(delta.shape)).mul_(self.symmetry_error)
            memory["zero"] = fast.symmetry_point() + error
        fast.pulse(self.stochastic_pulses(delta * self.fast_gain, draw))
        transfers, waits = divmod(int(memory["updates"]), self.transfer_every)
        if waits:
            arrays["core"].pulse(torch.zeros_like(delta))  # which leaks
            return
        column = transfers % delta.shape[1]
        read = fast.visible()[:, column] - memory["zero"][:, column]
        read = read + self.read_noise * draw.normal("read", tuple(read.shape))
        hidden = memory["hidden"].clone()  # what was there may be part of a checkpoint
        hidden[:, column] += self.transfer_rate * read
        pulses = torch.zeros_like(delta)
        pulses[:, column] = self.whole_pulses(hidden[:, column], self.threshold)
        memory["hidden"] = hidden - pulses * self.device.per_pulse
        arrays["core"].pulse(pulses)


AnyWrite = Annotated[Shadow | Pulsed | Accumulate | Auxiliary, Field(discriminator="mode")]
MODES: dict[str, type[Shadow] | type[InPlace]] = {
    get_args(record.model_fields["mode"].annotation)[0]: record for record in get_args(get_args(AnyWrite)[0])
}
