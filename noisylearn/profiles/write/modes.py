"""How an update reaches the devices: records that a profile states under [write]."""

from typing import Annotated, Literal, get_args

import torch
from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.effects import State
from noisylearn.ground.draws import Draws, StreamOf
from noisylearn.ground.records import CitedRecord
from noisylearn.profiles.write.array import DeviceArray
from noisylearn.profiles.write.device import PulsedDevice

Arrays = dict[str, DeviceArray]


class Shadow(CitedRecord):
    """Weights are kept digitally, and all devices are written anew with them; so does a profile without [write]."""

    mode: Literal["shadow"]


class InPlace(CitedRecord):
    """The network exists on the devices alone, and changes by pulses.

    weight_at_full_scale: weight that one unit of device state stands for.  most_pulses: to one device in one update,
    where updates are sent at once.
    refresh_every: updates after which pairs of one-sided devices are looked at; those are written anew of which one
    device stands above refresh_above, as a share of its bound, and the other above refresh_other_above. A pair with
    one device nearly full and one nearly empty holds a large weight, which a refresh would give it again.
    """

    mode: str
    device: PulsedDevice
    weight_at_full_scale: float = Field(gt=0)
    most_pulses: int = Field(ge=1)
    refresh_above: float | None = Field(default=None, gt=0, lt=1)
    refresh_other_above: float | None = Field(default=None, ge=0, lt=1)
    refresh_every: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _refreshes_pairs(self) -> "InPlace":
        refresh = (self.refresh_above, self.refresh_other_above, self.refresh_every)
        if {value is not None for value in refresh} != {self.device.one_sided}:
            raise ValueError(
                "refresh_above, refresh_other_above and refresh_every go with one-sided devices, which saturate without"
            )
        return self

    def arrays(self, shape: tuple[int, ...], draws: Draws, name: str) -> Arrays:
        return {"core": DeviceArray(self.device, shape, StreamOf(draws, name, "core"))}

    def deploy(self, weight: Tensor, arrays: Arrays, memory: State) -> None:
        """Put the devices to the initial weights, in units of full scale, within their bounds; the memory is empty."""
        arrays["core"].set(weight)
        memory["updates"] = torch.zeros((), dtype=torch.int64)

    def write(self, delta: Tensor, arrays: Arrays, memory: State, draw: StreamOf) -> None:
        """One update of the weights by `delta`, in units of full scale."""
        self.update(delta, arrays, memory, draw)
        memory["updates"] = memory["updates"] + 1
        if self.refresh_above is not None and not int(memory["updates"]) % (self.refresh_every or 1):
            arrays["core"].refresh(self.refresh_above, self.refresh_other_above or 0.0)

    def update(self, delta: Tensor, arrays: Arrays, memory: State, draw: StreamOf) -> None:
        """Bring the change `delta`, in units of full scale, to the arrays."""
        raise TypeError(f"write mode {type(self).__name__} has no update")

    def stochastic_pulses(self, delta: Tensor, draw: StreamOf) -> Tensor:
        """Signed whole pulses whose mean is delta / granularity, rounded up or down at random."""
        wanted = delta / self.device.per_pulse
        return (
            (wanted.abs() + draw.uniform("round", tuple(delta.shape)))
            .floor_()
            .clamp_(max=self.most_pulses)
            .copysign_(wanted)
        )

    def whole_pulses(self, amount: Tensor, threshold: float) -> Tensor:
        """Signed whole pulses of what has reached the threshold, in units of full scale and at least one pulse."""
        per_pulse = self.device.per_pulse
        return torch.where(amount.abs() >= max(threshold, per_pulse), (amount / per_pulse).trunc_(), 0.0)


class Pulsed(InPlace):
    """Every update is sent at once: n pulses with E[n] = delta / granularity."""

    mode: Literal["pulsed"]

    def update(self, delta: Tensor, arrays: Arrays, memory: State, draw: StreamOf) -> None:
        arrays["core"].pulse(self.stochastic_pulses(delta, draw))


class Accumulate(InPlace):
    """A digital accumulator per weight, chi += delta; once |chi| reaches the threshold its whole pulses are sent.

    threshold: in units of full scale, and at least one pulse.

    Updates of both signs cancel in the accumulator, where that costs nothing, and not on the device, where every
    pair of an up and a down pulse pulls an asymmetric device towards its symmetry point (mixed precision,
    Nandakumar et al. 2020).
    """

    mode: Literal["accumulate"]
    threshold: float = Field(default=0.05, ge=0, lt=1)

    def update(self, delta: Tensor, arrays: Arrays, memory: State, draw: StreamOf) -> None:
        chi = memory["accumulator"] + delta if "accumulator" in memory else delta
        pulses = self.whole_pulses(chi, self.threshold)
        memory["accumulator"] = chi - pulses * self.device.per_pulse
        arrays["core"].pulse(pulses)


class Auxiliary(InPlace):
    """A second, fast array takes every update by pulses; what it settles at is read and moved on in whole pulses.

    fast array:   A <- pulses of fast_gain delta; on asymmetric devices it forgets, and so settles near a running mean
    every transfer_every updates, for the next column k in turn:  H[:, k] += transfer_rate (A[:, k] + read_noise z)
    where |H| >= max(threshold, granularity):  whole pulses to the core array, H less those pulses
    The zero of A is the symmetry point of each of its devices (zero-shifting), found within symmetry_error.
    Gokmen 2021, Frontiers in Artificial Intelligence 4, 699148 (Tiki-Taka version 2).
    """

    mode: Literal["auxiliary"]
    fast_gain: float = Field(default=1.0, gt=0)
    transfer_every: int = Field(default=1, ge=1)
    transfer_rate: float = Field(default=0.1, gt=0)
    threshold: float = Field(default=0.0, ge=0, lt=1)
    read_noise: float = Field(ge=0, description="of one read of A, in units of full scale")
    symmetry_error: float = Field(ge=0, description="standard deviation of A's zero, in units of full scale")

    @model_validator(mode="after")
    def _two_sided(self) -> "Auxiliary":
        if self.device.one_sided:
            raise ValueError(
                "an auxiliary array needs devices that go both ways: one-sided ones have no symmetry point"
            )
        return self

    def arrays(self, shape: tuple[int, ...], draws: Draws, name: str) -> Arrays:
        fast = DeviceArray(self.device, shape, StreamOf(draws, name, "fast"))
        return super().arrays(shape, draws, name) | {"fast": fast}

    def update(self, delta: Tensor, arrays: Arrays, memory: State, draw: StreamOf) -> None:
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
        memory["hidden"][:, column] += self.transfer_rate * read
        pulses = torch.zeros_like(delta)
        pulses[:, column] = self.whole_pulses(memory["hidden"][:, column], self.threshold)
        memory["hidden"] = memory["hidden"] - pulses * self.device.per_pulse
        arrays["core"].pulse(pulses)


AnyWrite = Annotated[Shadow | Pulsed | Accumulate | Auxiliary, Field(discriminator="mode")]
MODES: dict[str, type[Shadow] | type[InPlace]] = {
    get_args(record.model_fields["mode"].annotation)[0]: record for record in get_args(get_args(AnyWrite)[0])
}
