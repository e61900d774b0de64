"""Measurements of simulated devices: what an engineer would read from the machine that a profile describes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisylearn.effects import Effect, State
from noisylearn.fitting.measurements import Measurements
from noisylearn.ground.draws import Draws, StreamOf
from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile
from noisylearn.profiles.write import DeviceArray

ENOUGH = 3.0  # pulses of a train, in units of those that would bring a device from bound to bound
ZERO_US, FULL_SCALE_US = 50.0, 40.0  # conductance of a pulsed device at w = 0, and what it gains up to w = 1


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        devices: at every target, or of pulsed devices in all.
        levels: targets, evenly spaced from the smallest to the largest conductance.
        reads: of every device in the experiment "read".
        read_interval_s: time between the first two of them, in seconds.
        longest_lag: time from the first to the last, in units of that interval; those between are ever further apart.
        again: reads of every write in the experiment "programming", and at every time of "drift".
        times: at which drift is read, evenly spaced in the logarithm of the time.
        longest_s: the last of them, in units of the first.
        pulse_reads: of a pulsed device in all, with the same number of pulses before each.
        train_reads: most of one train, after which the pulses change their sign, or one-sided devices are reset.
    """

    devices: int = 60
    levels: int = 8
    reads: int = 32
    read_interval_s: float = 1e-4
    longest_lag: float = 60.0
    again: int = 4
    times: int = 9
    longest_s: float = 1e5
    pulse_reads: int = 400
    train_reads: int = 100


def measure(profile: HardwareProfile, plan: Plan | None = None, seed: int = 0) -> Measurements:
    """Measure the devices of a profile: every experiment that they allow.

    Args:
        profile: of the machine.
        plan: how much is measured.
        seed: of the devices and of their noise.

    Returns:
        Programming, reads and drift of devices that are written to a conductance, or trains of pulses of pulsed ones.

    Raises:
        UserError: the profile has no devices whose conductance could be read.
    """
    plan = plan or Plan()
    if profile.in_place is not None:
        return _joined([_pulse_trains(profile, plan, Draws(seed, dtype=torch.float64))])
    if profile.specification.mapping is None:
        raise UserError(f"profile {profile.name} has no devices whose conductance could be measured; choose another")
    draws = Draws(seed, dtype=torch.float64)
    return _joined([_Bench(profile, name, plan, draws).rows() for name in ("programming", "read", "drift")])


Rows = dict[str, Any]  # columns, or one value for all rows


class _Bench:
    """Devices that were written to targets, and are read as time passes.

    Args:
        profile: of the machine.
        experiment: names the devices and their random streams.
        plan: how much is measured.
        draws: random streams.
    """

    def __init__(self, profile: HardwareProfile, experiment: str, plan: Plan, draws: Draws) -> None:
        self._experiment, self._plan, self._draws = experiment, plan, draws
        self._setting = profile.setting
        self._effects = [e for e in profile.effects("weight") if e.lifetime != "pass"]
        self._states: list[State] = [{} for _ in self._effects]
        levels = torch.linspace(self._setting.g_min_us, self._setting.g_max_us, plan.levels, dtype=torch.float64)
        self._target = levels.unsqueeze(1).expand(-1, plan.devices).clone()
        self._written = self._target
        for effect, state in zip(self._effects, self._states, strict=True):
            if effect.lifetime in ("device", "write"):
                effect.fabricate(self._target, self._setting, self._draw(effect), state)
                self._written = effect.apply(self._written, self._setting, self._draw(effect), state)
        for effect, state in zip(self._effects, self._states, strict=True):
            effect.start(self._written, self._setting, self._draw(effect), state)

    def rows(self) -> Rows:
        """All reads of the experiment."""
        plan, first_s = self._plan, self._setting.t0_s
        if self._experiment == "programming":
            ages_s = np.full(plan.again, first_s)
        elif self._experiment == "read":
            lags = np.append(0.0, np.geomspace(1.0, max(plan.longest_lag, plan.reads - 1.0), plan.reads - 1))
            ages_s = first_s + plan.read_interval_s * np.maximum(np.round(lags), np.arange(plan.reads))
        else:
            ages_s = np.repeat(np.geomspace(first_s, first_s * plan.longest_s, plan.times), plan.again)
        reads = np.stack([self._read(float(age - first_s)).numpy() for age in ages_s], -1)
        numbers = np.arange(self._target.numel()).reshape(self._target.shape)[..., None]
        columns = {
            "device": np.char.add(f"{self._experiment[0]}", numbers.astype(str)),
            "time_s": ages_s,
            "target_us": self._target.numpy()[..., None],
            "conductance_us": reads,
        }
        return {"experiment": self._experiment} | {
            k: np.broadcast_to(v, reads.shape).ravel() for k, v in columns.items()
        }

    def _read(self, since_write_s: float) -> Tensor:
        """One read of all devices, at a time after they were written."""
        if since_write_s > self._setting.since_write_s:
            self._setting = replace(self._setting, since_write_s=since_write_s)
            for effect, state in self._all():
                effect.elapse(self._written, self._setting, self._draw(effect), state)
        g, variance = self._written, torch.zeros(())
        for effect, state in self._all():
            fresh = effect.read_variance(g, self._setting, state)
            variance = variance if fresh is None else variance + fresh
            if effect.lifetime == "memory":
                g = effect.apply(g, self._setting, self._draw(effect), state)
        return g + variance.sqrt() * self._draws.normal((self._experiment, "reads"), tuple(g.shape))

    def _all(self) -> Iterator[tuple[Effect, State]]:
        yield from zip(self._effects, self._states, strict=True)

    def _draw(self, effect: Effect) -> StreamOf:
        return StreamOf(self._draws, self._experiment, effect.kind)


def _pulse_trains(profile: HardwareProfile, plan: Plan, draws: Draws) -> Rows:
    """Trains of pulses from the lower bound, up and down in turn, or up after a reset where devices go up alone.

    A read sees the device itself, before any reference.
    """
    assert profile.in_place is not None
    device = profile.in_place.device
    array = DeviceArray(device, (plan.devices, 1), StreamOf(draws, "pulse"))
    middle = torch.full_like(array.state["w"], (device.w_min + device.w_max) / 2)
    step = float(device.mean_step(middle, torch.ones_like(middle), array.state).median())
    across = ENOUGH * (device.w_max - device.w_min) / step
    part, train = max(round(across / plan.train_reads), 1), min(max(round(across), 2), plan.train_reads)
    n_trains, turn = max(plan.pulse_reads // train, 2), 1.0 if device.one_sided else -1.0
    sent, seen = [], []
    for number in range(n_trains):
        start = [0.0] if device.one_sided or number == 0 else []
        if start:
            array.set(torch.full((plan.devices, 1), device.w_min, dtype=torch.float64))
        for pulses in [*start, *[part * turn**number] * train]:
            if pulses:
                array.pulse(torch.full((plan.devices, 1), pulses, dtype=torch.float64))
            sent.append(pulses)
            seen.append((array.state["visible"] + array.state["reference"])[0, :, 0].numpy())
    w = np.stack(seen, 1)
    columns = {
        "device": np.char.add("p", np.arange(plan.devices).astype(str))[:, None],
        "conductance_us": ZERO_US + FULL_SCALE_US * w,
        "pulse": np.array(sent),
    }
    return {"experiment": "pulse"} | {key: np.broadcast_to(value, w.shape).ravel() for key, value in columns.items()}


def _joined(parts: list[Rows]) -> Measurements:
    """Rows of several experiments, one after the other."""
    columns = {}
    for name in ("experiment", "device", "write", "time_s", "target_us", "conductance_us", "pulse"):
        empty = "" if name in ("experiment", "device", "write") else np.nan
        columns[name] = np.concatenate(
            [np.broadcast_to(part.get(name, empty), part["conductance_us"].shape) for part in parts]
        )
    return Measurements(**columns)
