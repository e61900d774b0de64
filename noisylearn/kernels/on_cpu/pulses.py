"""Pulses to an array of devices, in one pass over them."""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from noisylearn.effects import State
from noisylearn.ground.draws import StreamOf
from noisylearn.kernels.on_cpu.elementary import F, compiled, exp2_32, inlined
from noisylearn.profiles.write import PulsedDevice

CONSTANT, LINEAR, EXPONENTIAL = 0, 1, 2
_LOG2_E = F(math.log2(math.e))


class _Step(NamedTuple):
    """What `PulsedDevice` states of every step."""

    kind: int
    A_mean: np.float32
    A_half: np.float32
    two_a: np.float32
    b_shift: np.float32
    cycle_spread: np.float32
    of_step: bool
    floor: np.float32
    slope: np.float32


def pulse(
    device: PulsedDevice,
    w: Float32[Tensor, " n"],
    pulses: Float32[Tensor, " n"],
    state: State,
    draw: StreamOf,
    out: Float32[Tensor, " n"],
) -> Tensor:
    """See `PulsedDevice.pulse`: the same parts and the same random numbers; float64 is left to it."""
    if w.dtype != torch.float32:
        return device.pulse(w, pulses, state, draw, out)
    step, left = _step_of(device), pulses
    most = int(left.abs().max()) if left.numel() else 0
    if not most:
        return out.copy_(w)
    slope = "gamma" if device.step == "exponential" else "slope" if device.step != "constant" else "dw"
    held = [state[key].numpy() for key in ("dw", "dw_bias", slope, f"{slope}_bias", "w_min", "w_max")]
    while most:
        piece = device.piece(partial(_longest, w, left, held, step), most)
        n = left.clamp(-piece, piece) if most > piece else left
        z = draw.normal("cycle", tuple(w.shape)) if device.cycle_spread else w
        _moved(out.numpy(), w.numpy(), n.numpy(), *held, z.numpy(), step, piece > 1)
        w = out
        most -= piece
        if most:
            left = left - n
    return out


def _step_of(device: PulsedDevice) -> _Step:
    up, down = device.A_up or 0.0, device.A_down or 0.0
    return _Step(
        {"constant": CONSTANT, "exponential": EXPONENTIAL}.get(device.step, LINEAR),
        F((up + down) / 2), F((up - down) / 2), F(2 * (device.a or 0.0)), F(device.b_shift or 0.0),
        F(device.cycle_spread), device.cycle_noise == "of-step", F(device.cycle_floor), F(device.cycle_slope),
    )  # fmt: skip


@inlined
def _factor(w, d, slope, low, high, step):  # type: ignore[no-untyped-def]
    """f(w): a step in units of dw."""
    if step.kind == CONSTANT:
        return F(1)
    if step.kind == LINEAR:
        return max(F(1) - w * slope, F(0))
    z = w * (step.two_a / max(high - low, F(1e-9))) + step.b_shift
    return max(F(1) - (step.A_mean + d * step.A_half) * exp2_32(z * slope * _LOG2_E), F(0))


def _longest(w: Tensor, pulses: Tensor, held: list[np.ndarray], step: _Step) -> float:
    """The longest step of devices with pulses."""
    lengths = torch.empty_like(w)
    _lengths(lengths.numpy(), w.numpy(), pulses.numpy(), *held, step)
    return float(lengths.max())


@compiled
def _lengths(out, w, pulses, dw, dw_bias, slope, slope_bias, low, high, step):  # type: ignore[no-untyped-def]
    for i in range(w.shape[0]):
        d = F(1) if pulses[i] > 0 else F(-1) if pulses[i] < 0 else F(0)
        factor = _factor(w[i], d, slope[i] + d * slope_bias[i], low[i], high[i], step)
        out[i] = abs(d) * (dw[i] + d * dw_bias[i]) * factor


@compiled
def _moved(out, w, pulses, dw, dw_bias, slope, slope_bias, low, high, z, step, several):  # type: ignore[no-untyped-def]
    for i in range(w.shape[0]):
        n, size = pulses[i], abs(pulses[i])
        d = F(1) if n > 0 else F(-1) if n < 0 else F(0)
        mean, bend = dw[i] + d * dw_bias[i], slope[i] + d * slope_bias[i]
        length = mean * _factor(w[i], d, bend, low[i], high[i], step)
        if several:
            middle = w[i] + F(0.5) * (n - d) * length
            length = mean * _factor(middle, d, bend, low[i], high[i], step)
        noise = length + step.floor + step.slope * abs(w[i]) if step.of_step else mean
        moved = w[i] + n * length + step.cycle_spread * noise * F(math.sqrt(size)) * z[i]
        out[i] = min(max(moved, low[i]), high[i])
